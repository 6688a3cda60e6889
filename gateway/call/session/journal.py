"""
What is written down of one call: its record and its stream of events in the store.

Theory of operation
-------------------
The session hands over each event once its orders are carried out (``write_down``). An event that has a name in the
history (``CallEvent.note``) becomes a note of that name, with the fields the event itself gives (``fields``) and what
the record says because of it; an event that changes the phase is noted under the name of the new phase instead.
``Note`` orders are what the machine itself wants written. Every note goes through ``_note``, where numbers that the
caller keyed in are hidden.

Besides that the journal works out what no single event says:

- *What was heard* (``agent_heard``): transcripts come when speech is generated, the playout reports an item when it was
  played to its end or cut off (``heard``). The journal matches the two, in the order in which they were heard, and cuts
  the transcript of an interrupted item.
- *Latencies*: ``setup_ms`` and ``first_audio_ms`` of the call, ``turn_latency_ms`` from the end of the caller's speech
  to the agent's answer, ``interruption_ms`` from the caller's first word to the agent's last frame.
- *Counts* of the whole call: turns, interruptions, tools and more (``tally.py``).
- *Cost*: tokens, added up per agent at its own price (``Bill``), in the record with each ``usage`` of the service,
  as the counts are.

The note of the end is held back until everything of the call is released (``end``): nothing follows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from gateway.audio.played import PlayedItem
from gateway.call import actions as do
from gateway.call import commands as given
from gateway.call import events as ev
from gateway.call.end_reasons import fault_of
from gateway.call.events import Scalar
from gateway.call.machine.phase import Phase
from gateway.call.outcome import EndReason, Outcome
from gateway.call.ports import Clock, Playout, Price, SessionStore
from gateway.call.session.key_mask import KeyMask
from gateway.call.session.tally import Tally
from gateway.ids import CallId


class Journal:
    """
    Writes one call down; the module says how. Thread: loop.

    Args:
        call_id: our id of the call.
        store: where it is written.
        clock: time.
        playout: knows what the caller heard.
        first_fields: what the call's record begins with, named as there.
    """

    def __init__(
        self,
        call_id: CallId,
        store: SessionStore,
        clock: Clock,
        playout: Playout,
        first_fields: Mapping[str, Scalar],
    ) -> None:
        self._call_id = call_id
        self._store = store
        self._clock = clock
        self._playout = playout
        self._first_fields = first_fields
        self._bill = Bill()
        self._tally = Tally()
        self._missing = 0  # answers that came to nothing
        self._last_retry = ""  # why the agent was not ready at the last attempt
        self._began = clock.monotonic()
        self._answered: float | None = None  # monotonic seconds of the first MediaUp
        self._first_audio_noted = False
        self._announcement: dict[str, Scalar] = {}  # whether it was heard, once it is known of one
        self._mask: KeyMask | None = None
        self._sounds: dict[str, str] = {}  # items that are sounds of the dialplan, by name
        self._with_second = False  # the agent talks with the second leg
        self._rang = False
        self._last: dict[str, Scalar] | None = None  # the last note, held back until everything is released
        self._over = False
        self._texts: dict[str, str] = {}  # transcripts of items that are not played yet
        self._unnoted: dict[str, PlayedItem] = {}  # items that were heard before their transcript came
        self._interrupted_at: float | None = None  # the caller began to speak over the agent
        self._turns: list[float] = []  # when the caller stopped speaking, and the agent's answer is not known yet

    def begin(self) -> None:
        """Write the first note, with the first fields of the record."""
        began: dict[str, Scalar] = {"state": Phase.ROUTING.value, "created_at": self._clock.now()}
        self._note(Phase.ROUTING.value, began | dict(self._first_fields))

    def change_price(self, price: Price) -> None:
        """Count tokens for another agent from now on; ``price`` is what they cost."""
        self._bill.change_price(price)

    @property
    def cost_usd(self) -> float:
        """What the call has cost so far, in US dollars, as far as the prices are known."""
        return self._bill.cost()

    def sound(self, item_id: str, name: str) -> None:
        """Remember that this item of the playout is a sound of the dialplan, not an agent's speech."""
        self._sounds[item_id] = name

    def write_down(
        self,
        event: ev.CallEvent,
        at: float,
        orders: Sequence[do.CallAction],
        *,
        before: Phase,
        after: Phase,
        outcome: Outcome | None,
    ) -> None:
        """
        Write down an event and what it changed, once its orders are carried out.

        Args:
            event: what happened.
            at: monotonic seconds at which it reached the call.
            orders: what was carried out.
            before: phase of the call before.
            after: phase of the call now.
            outcome: how the call ended; None as long as it has not.
        """
        if isinstance(event, ev.Routed) and event.keypad.masked and self._mask is None:
            self._mask = KeyMask()  # from now on, whoever speaks
        if isinstance(event, given.CommandGiven):
            self._note_command(event)
        said = {**self._fields_of(event, orders), **self._answered_by(event, before)}
        if after is not before:
            if after in (Phase.ENDING, Phase.ENDED):
                self.heard()
                self._note_rest()
            self._note_orders(orders)
            fields: dict[str, Scalar] = {"state": after.value, **said, **self._fields_at(after, event, outcome)}
            if after is Phase.ENDED:
                self._last = fields
                return
            self._note(after.value, fields)
            return
        if isinstance(event, ev.CallerSpoke):
            self._note_rest()  # the agent was heard before
        if isinstance(event, ev.Noted):
            self._note(event.name, {**said, **self._add_up(event)})
        elif event.note is not None and not isinstance(event, given.CommandGiven):
            self._note(event.note, said)
        self._note_orders(orders)
        self._follow(event, at, orders)
        self.heard()

    def end(self) -> None:
        """Write the last note, once everything of the call is released; nothing follows it."""
        if self._over or self._last is None:
            return
        self._over = True
        fields = {**self._last, "ended_at": self._clock.now(), **self._bill.total(), **self._tally.totals()}
        self._note(Phase.ENDED.value, fields)

    def heard(self) -> None:
        """Write down what the caller heard since the last time, and how long it took."""
        if self._over:
            return
        for item in self._playout.take_finished():
            if item.first_at is not None:
                self._note_turn(item, item.first_at)
            if item.last_at is not None and not item.complete and self._interrupted_at is not None:
                late_ms = max(0, round((item.last_at - self._interrupted_at) * 1000))
                self._interrupted_at = None
                fields: dict[str, Scalar] = {"item_id": item.item_id, "played_ms": item.played_ms}
                self._note("interruption", {**fields, "interruption_ms": late_ms})
            if (sound := self._sounds.pop(item.item_id, None)) is not None:
                fields = {"sound": sound, "played_ms": item.played_ms, "cut": not item.complete}
                self._note("announced", {**fields, **self._when(item)})
            elif item.played_ms:
                self._note_item(item)
            else:
                self._texts.pop(item.item_id, None)

    def _note_command(self, command: given.CommandGiven) -> None:
        """Write down what an operator wants, before what it changes; the phase that follows has a note of its own."""
        said = command.fields()
        if isinstance(command, given.DigitsCommanded) and self._mask is not None:
            said["digits"] = "*" * len(command.digits)
        self._note("command", said)

    def _note_orders(self, orders: Sequence[do.CallAction]) -> None:
        """Write down what the machine itself wants written."""
        for order in orders:
            if isinstance(order, do.Note):
                self._note(order.name, {**order.fields, **self._announced(order.fields)})
            elif isinstance(order, do.AnswerCommand):
                answered = "command_done" if order.done else "command_refused"
                detail = {"detail": order.detail} if order.detail else {}
                self._note(answered, {"command_id": order.command_id, **detail})

    def _announced(self, fields: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return whether the caller heard that the call is recorded; one agent's announcement is enough."""
        if "announcement" not in fields:
            return {}
        if self._announcement.get("announcement") != "heard":
            self._announcement = {"announcement": fields["announcement"]}
        return self._announcement

    def _follow(self, event: ev.CallEvent, at: float, orders: Sequence[do.CallAction]) -> None:
        """Remember what later notes are made of."""
        for order in orders:
            if isinstance(order, do.TalkToSecond | do.TalkToCaller):
                self.heard()  # by the one before
                self._with_second = isinstance(order, do.TalkToSecond)
            elif isinstance(order, do.TellAgent) and self._mask is not None:
                self._mask.end()
        match event:
            case ev.SpeechStarted(interrupts=interrupts):
                self._interrupted_at = at if interrupts else None
            case ev.SpeechStopped():
                self._interrupted_at = None
                if any(isinstance(order, do.ResumePlayout) for order in orders):
                    self._note("false_start", {})
                else:
                    self._turns.append(at)
            case ev.AgentSpoke(item_id=item_id, text=text):
                earlier = self._texts.get(item_id)  # of another part, or the sentence before
                self._texts[item_id] = text if earlier is None else f"{earlier} {text}"
                if (item := self._unnoted.pop(item_id, None)) is not None:
                    self._note_item(item)

    def _add_up(self, noted: ev.Noted) -> dict[str, Scalar]:
        """Add to what the record says of the whole call; return what it says from now on."""
        if noted.name == "answer_missing":
            self._missing += 1
            return {"answers_missing": self._missing, "answer_missing_why": noted.values.get("why", "")}
        if noted.name == "usage":
            self._bill.add(noted.values)
            return {**self._bill.total(), **self._tally.totals()}
        elif noted.name == "agent_retry":
            self._last_retry = str(noted.values.get("detail", ""))
        return {}

    def _note_turn(self, item: PlayedItem, first_at: float) -> None:
        """Write down how long the caller waited for this item, if it is the first one since they spoke."""
        ended = [at for at in self._turns if at <= first_at]
        if not ended:
            return
        self._turns = self._turns[len(ended) :]
        latency_ms = round((first_at - ended[-1]) * 1000)
        self._note("turn", {"item_id": item.item_id, "turn_latency_ms": latency_ms})

    def _note_item(self, item: PlayedItem) -> None:
        """Write down what the caller heard of an item; later, if its transcript is still to come."""
        text = self._texts.pop(item.item_id, None)
        if text is None:
            self._note_rest()
            self._unnoted[item.item_id] = item
            return
        self._note_rest()
        self._note_heard(item, text)

    def _note_rest(self) -> None:
        """Write down what was heard without a transcript: if it waited longer, the order would be wrong."""
        for item in self._unnoted.values():
            self._note_heard(item, "")
        self._unnoted.clear()

    def _note_heard(self, item: PlayedItem, text: str) -> None:
        cut = not item.complete
        said = heard_text(text, item.played_ms, item.received_ms) if cut else text
        fields: dict[str, Scalar] = {"item_id": item.item_id, "text": said, "played_ms": item.played_ms, "cut": cut}
        if self._with_second:
            fields["with"] = "second"
        self._note("agent_heard", {**fields, **self._when(item)})

    def _when(self, item: PlayedItem) -> dict[str, Scalar]:
        """Return when the first and the last frame of an item went out, Unix seconds: it is noted later than that."""
        if item.first_at is None or item.last_at is None:
            return {}
        now = self._clock.now() - self._clock.monotonic()
        return {"began_at": now + item.first_at, "over_at": now + item.last_at}

    def _fields_at(self, phase: Phase, event: ev.CallEvent, outcome: Outcome | None) -> dict[str, Scalar]:
        """Return what the record says about entering ``phase``."""
        match phase:
            case Phase.ENDED if outcome is not None:
                why = self._last_retry if outcome.reason is EndReason.SETUP_TIMEOUT else ""
                code = outcome.sip_code
                if isinstance(event, ev.LegClosed) and outcome.caller_code is None:
                    code = event.code
                return {
                    **self._announcement,
                    "end_reason": outcome.reason.value,
                    "end_detail": f"{outcome.detail}: {why}" if why else outcome.detail,
                    "ended_by": outcome.ended_by.value,
                    "fault": fault_of(outcome).value,
                    "sip_code": code if self._answered is None else 200,
                    **self._talked(),
                }
            case _:
                return {}

    def _talked(self) -> dict[str, Scalar]:
        if self._answered is None:
            return {}
        return {"talk_ms": round((self._clock.monotonic() - self._answered) * 1000)}

    def _answered_by(self, event: ev.CallEvent, phase: Phase) -> dict[str, Scalar]:
        """Return what the record says of the answer, with the first media of a call that is not ending."""
        going = phase not in (Phase.ENDING, Phase.ENDED)
        if not isinstance(event, ev.MediaUp) or self._answered is not None or not going:
            return {}
        self._answered = self._clock.monotonic()
        return {"answered_at": self._clock.now(), "setup_ms": round((self._answered - self._began) * 1000)}

    def _fields_of(self, event: ev.CallEvent, orders: Sequence[do.CallAction]) -> dict[str, Scalar]:
        """Return the fields of an event, and what the record says because of it."""
        said = {} if isinstance(event, given.CommandGiven) else event.fields()
        rings = isinstance(event, ev.LegRinging) or any(isinstance(order, do.Ring) for order in orders)
        if rings and not self._rang:
            self._rang = True
            said["ringing_at"] = self._clock.now()
        if isinstance(event, ev.DigitPressed) and self._mask is not None:
            self._mask.press(event.digit)
            said["digit"] = "*"
        elif isinstance(event, ev.CallerSpoke | ev.AgentSpoke) and self._with_second:
            said["with"] = "second"
        return said

    def _note(self, name: str, fields: Mapping[str, Scalar]) -> None:
        written = fields if self._mask is None else self._mask.hide_in(fields)
        self._tally.take(name, written)
        self._store.note(self._call_id, name, **written, **self._first_audio())

    def _first_audio(self) -> dict[str, Scalar]:
        """Return ``first_audio_ms`` once, with the first note written after the agent was heard."""
        heard = self._playout.first_frame_at
        if self._first_audio_noted or self._answered is None or heard is None:
            return {}
        self._first_audio_noted = True
        return {"first_audio_ms": max(0, round((heard - self._answered) * 1000))}


_TOKENS_BY_KIND = {
    "text_in": "text_tokens_in",
    "audio_in": "audio_tokens_in",
    "cached_text_in": "cached_text_tokens_in",
    "cached_audio_in": "cached_audio_tokens_in",
    "text_out": "text_tokens_out",
    "audio_out": "audio_tokens_out",
}


class Bill:
    """Adds up the tokens of one call, each agent's at its own price."""

    def __init__(self) -> None:
        self._agents: list[tuple[Price, Counter[str]]] = []

    def change_price(self, price: Price) -> None:
        """Count for another agent from now on."""
        self._agents.append((price, Counter()))

    def add(self, used: Mapping[str, Scalar]) -> None:
        """Count tokens and seconds, by kind."""
        if self._agents:
            self._agents[-1][1].update({kind: n for kind, n in used.items() if isinstance(n, int | float)})

    def total(self) -> dict[str, Scalar]:
        """
        Return the tokens of the whole call and their estimated cost, named as in the record.

        Nothing when none were used; no cost where one of the prices is not known.
        """
        used = sum((each for _, each in self._agents), Counter[str]())
        if not used:
            return {}
        tokens: dict[str, Scalar] = {
            "tokens_in": int(used["text_in"] + used["audio_in"]),
            "tokens_out": int(used["text_out"] + used["audio_out"]),
            **{name: int(used[kind]) for kind, name in _TOKENS_BY_KIND.items()},
        }
        return tokens if None in self._costs() else tokens | {"cost_usd": round(self.cost(), 6)}

    def cost(self) -> float:
        """Return what is known of the cost, in US dollars."""
        return sum(cost for cost in self._costs() if cost is not None)

    def _costs(self) -> list[float | None]:
        return [price(each) for price, each in self._agents if each]


def heard_text(text: str, played_ms: int, received_ms: int) -> str:
    """
    Return the part of an item's transcript that was heard before the item was cut off.

    An estimate: the same share of the letters as of the audio, up to the end of the last whole word (of the last letter
    in scripts without spaces). Speech is not even, so it may be a word off.
    """
    if played_ms >= received_ms:
        return text
    end = len(text) * played_ms // received_ms
    return text[: max(0, text.rfind(" ", 0, end + 1))] if " " in text else text[:end]
