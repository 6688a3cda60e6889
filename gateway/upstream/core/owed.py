"""
What the agent owes the caller: who owes it, what was asked of the service for it, and what is done when nothing comes.

A debt begins where the caller waits to hear the agent: the greeting, the answer to a turn, the words behind a tool's
output or behind a message of the gateway's. It ends when speech of the response that answers it came in whole, or when
something takes its place: a tool that runs, a turn of the caller's, a goodbye. Until then::

    PENDING  --next()-->  ASKED  --began()-->  ANSWERING  --ended(), with speech-->  settled
       ^                    |                      |
       |                    refused, or            failed, cut, empty, in writing, stalled
       |                    nothing came           |
       +--- at once, then after a delay, ``retries`` times; then the steps of ``Policy.then``, one after the other

    EXPECTED: the caller's turn is over and the service answers by itself; when it does not, it is asked.

No clock and no I/O: ``take_alarm`` says when ``overdue`` is to be called, ``take_moves`` what the call is to learn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gateway.upstream.core.debts import (
    OWN_WORDS,
    Ask,
    Came,
    Cause,
    Debt,
    DebtStage,
    GiveUp,
    Missed,
    Move,
    Overdue,
    PlaySound,
    Policy,
    Remedy,
    Renew,
    Said,
    Unsaid,
    Why,
    Wish,
)

RETRY_S = 1.0
"""Before the second time that a response is asked for again, unless the service states a delay."""

MERGED_S = 2.0
"""How long the service may take to answer a turn by itself when more than the turn waits for an answer."""

CANCEL_S = 2.0
"""How long a response that was cancelled may take to be over."""

LATER_S = 4.0
"""How long a response may take that is asked for again: the caller has waited already."""

PATIENCE_S = 10.0
"""A service that wants to be left alone for longer is not waited for."""

DOUBT_S = 2.0
"""How long a response may take to begin behind an error that does not say what it is about."""

FRAME_MS = 20
"""Speech for less is no whole frame: it waits for more, which a response that has stopped does not send."""

CUT_AGAIN = 2
"""How often what has to be said is said again at the least where the caller cuts it off, however few the retries."""

MOST_BUSY = 5
"""How often in a row the service may have another response at work when one is asked for."""

MAX_ENDED_RESPONSES = 32
"""Ended responses whose late audio is still known to be late."""

_RANK = {Cause.GOODBYE: 0, Cause.ANNOUNCEMENT: 1, Cause.PROMPT: 2, Cause.GREETING: 3}
_HINTS = {
    Why.WRITTEN: "You answered in writing, which the caller cannot see. Say it aloud.",
    Why.INCOMPLETE: "Your last answer was cut off and the caller waits. Go on from there, or say briefly what you can.",
}
"""What the model is given before it is asked again."""

_SILENT = frozenset({Why.NOT_BEGUN, Why.STALLED})
"""The service said nothing at all, so an apology would not be said either."""


class EndedResponses:
    """The newest responses of one session that ended or were given up."""

    def __init__(self) -> None:
        self._ended: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._ended)

    def add(self, *response_ids: str | None) -> None:
        """Note that what still arrives of these is stale."""
        for response_id in response_ids:
            if response_id is not None:
                self._ended[response_id] = None
        while len(self._ended) > MAX_ENDED_RESPONSES:
            del self._ended[next(iter(self._ended))]

    def remove(self, response_id: str) -> None:
        """Treat what arrives with this id as another response's: the id was reused."""
        self._ended.pop(response_id, None)

    def __contains__(self, response_id: str | None) -> bool:
        """Return whether what arrives of this response is stale."""
        return response_id in self._ended


@dataclass(slots=True)
class _Active:
    """The response that is being generated."""

    response_id: str
    debts: list[Debt]
    asked: bool  # for our wish, as far as one can tell
    spoke: bool = False  # speech of it came
    whole: bool = False  # its speech was said to be complete, and nothing came since
    given_up: bool = False  # by us: it was cancelled, or is not to be heard
    stalled: bool = False  # since nothing came of it


class Owed:
    """
    The debts of one call, across its sessions; one response is asked for at a time.

    Args:
        policy: what is done about silence.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        self._policy = policy or Policy()
        self._debts: list[Debt] = []
        self._active: _Active | None = None
        self._asked_id: str | None = None  # of the response asked for last, as long as nothing came of it
        self._last: tuple[str, list[Debt]] | None = None  # the same and its debts, until its refusal can come no more
        self._broken_off = False  # speech was, by silence, and nothing more was asked for
        self._outrun = EndedResponses()  # another began before their end was told
        self._unwanted = False  # the response that was asked for is to be cancelled as soon as it begins
        self._late = False
        self._step = 0  # of the policy: what was tried since the caller last heard the agent
        self._count = 0
        self._alarm_s: float | None = None
        self._alarm_set = False
        self._moves: list[Move] = []

    # What is known

    @property
    def active_id(self) -> str | None:
        """The response that is being generated; None when none is."""
        return None if self._active is None else self._active.response_id

    @property
    def is_open(self) -> bool:
        """Whether speech is owed, asked for or being generated."""
        return bool(self._debts) or self._active is not None or self._asked_id is not None

    def take_alarm(self) -> tuple[float | None] | None:
        """Return, once per change, in how many seconds ``overdue`` is to be called (None: not at all)."""
        if not self._alarm_set:
            return None
        self._alarm_set = False
        return (self._alarm_s,)

    def take_moves(self) -> list[Move]:
        """Return what the call is to learn since the last time, in order."""
        moves, self._moves = self._moves, []
        return moves

    # Wishes

    def owe(self, cause: Cause, ask: Ask | None = None) -> None:
        """Owe speech from now on; what is owed already for the same cause, and not asked for, is owed once."""
        waiting = (debt for debt in self._debts if debt.cause is cause and debt.stage is not DebtStage.ANSWERING)
        known = next((debt for debt in waiting if debt.stage is not DebtStage.ASKED), None)
        if known is None:
            self._debts.append(Debt(cause, ask))
        else:
            known.ask = known.wanted = ask

    def owe_goodbye(self, ask: Ask) -> None:
        """Owe the last words instead of all else; what is asked for and has not begun is to be cancelled."""
        self._unwanted = self._asked_id is not None
        self._forgive(self._debts)
        self._debts.append(Debt(Cause.GOODBYE, ask))

    def next(self, *, listening: bool, tools: bool = True) -> Wish | None:
        """
        Return what may be asked for now; it counts as sent.

        Args:
            listening: the caller speaks; nothing is asked for.
            tools: the response may call tools, where its debt has nothing against it.
        """
        expected = any(debt.stage is DebtStage.EXPECTED for debt in self._debts)
        if self._active is not None or self._asked_id is not None or listening or expected:
            return None
        pending = [debt for debt in self._debts if debt.stage is DebtStage.PENDING]
        if not pending:
            return None
        first = min(pending, key=lambda debt: _RANK.get(debt.cause, len(_RANK)))
        batch = [first] if first.ask is not None else [debt for debt in pending if debt.ask is None]
        self._count += 1
        ask = first.ask if tools else replace(first.ask or Ask(), tools=False)
        wish = Wish(f"respond-{self._count}", ask, first.hint)
        for debt in batch:
            debt.stage, debt.hint = DebtStage.ASKED, ""
        self._asked_id, self._last = wish.event_id, (wish.event_id, batch)
        self._arm(LATER_S if first.tries or first.busy else self._policy.limit_s)
        return wish

    # The caller's turns

    def turn_began(self) -> None:
        """Take note that the caller speaks: nothing is due until the turn is over."""
        self._broken_off = False
        for debt in self._in(DebtStage.EXPECTED, DebtStage.DELAYED):
            debt.stage = DebtStage.PENDING
        self._forgive(debt for debt in self._in(DebtStage.PENDING) if debt.cause is Cause.TURN)
        self._came()
        self._arm(None)

    def turn_ended(self, *, cut: bool, told: bool = True) -> None:
        """
        Expect the service's own answer to the caller's turn; it answers all that is owed in no words of its own.

        Args:
            cut: the service cuts its response off when the caller speaks; else one that goes on is answer enough.
            told: the service reported it; else it is late already.
        """
        if self._active is not None and not (cut or self._active.given_up):
            self._arm(self._policy.limit_s)
            return
        if any(debt.cause is Cause.GOODBYE for debt in self._in(DebtStage.PENDING)):
            return  # which is to be the answer
        merged = [debt for debt in self._in(DebtStage.PENDING) if debt.cause not in OWN_WORDS]
        for debt in merged:
            debt.stage = DebtStage.EXPECTED
        if not any(debt.cause is Cause.TURN for debt in merged):
            self._debts.append(Debt(Cause.TURN, stage=DebtStage.EXPECTED))
        self._arm(MERGED_S if merged or not told else self._policy.limit_s)

    # Responses

    def began(self, response_id: str) -> bool:
        """Take note that a response began; return whether it is to be cancelled at once."""
        if response_id == self.active_id:
            return False  # told twice
        asked = self._asked_id is not None
        debts = self._in(
            DebtStage.ASKED, DebtStage.EXPECTED, DebtStage.ANSWERING
        )  # these of one whose end was not told
        if not debts:
            debts = [Debt(Cause.TURN)]  # begun by itself: from now on the caller waits for it
            self._debts += debts
        for debt in debts:
            debt.stage = DebtStage.ANSWERING
        leaving = not asked and any(debt.cause is Cause.GOODBYE for debt in self._debts)
        unwanted, self._unwanted = self._unwanted or leaving, False
        self._outrun.remove(response_id)
        if self._active is not None:
            self._outrun.add(self._active.response_id)
        self._active = _Active(response_id, debts, asked)
        self._asked_id = None
        self._arm(LATER_S if any(debt.tries for debt in debts) else self._policy.limit_s)
        return unwanted

    def moved(self, response_id: str | None, *, speech: bool = False) -> None:
        """Take note that something of a response came, or even speech."""
        active = self._active
        if active is None or response_id not in (None, active.response_id):
            return
        active.whole = False
        if not active.given_up:
            self._arm(self._policy.limit_s)
        if speech and not active.spoke:
            active.spoke, self._broken_off = True, False
            for debt in active.debts:
                debt.heard = True
            self._step = 0
            self._came()

    def speech_ended(self, response_id: str | None, *, whole: bool) -> None:
        """Take note that an item of a response came to its end, as a whole or cut off: it may be the last."""
        active = self._active
        if active is not None and response_id in (None, active.response_id):
            active.whole = whole and active.spoke

    def give_up_active(self) -> None:
        """Take note that the response that is being generated is not to be heard any more: by our own wish."""
        if self._active is not None:
            self._active.given_up = True
            self._forgive(self._active.debts)
            self._active.debts = []
            self._arm(CANCEL_S)

    def ended(self, response_id: str) -> tuple[list[Debt], bool, bool]:
        """
        Take note that a response is over.

        Returns:
            The debts that it was to pay, whether speech of it came, and whether we gave it up.
        """
        active = self._active
        if response_id in self._outrun or (active is not None and response_id not in ("", active.response_id)):
            return [], False, False
        self._active = None
        for debt in self._in(DebtStage.DELAYED):
            debt.stage = DebtStage.PENDING
        if active is None:  # it failed before it was announced
            debts = self._in(DebtStage.ASKED) or self._in(DebtStage.EXPECTED)
            self._asked_id = None
            return debts, False, False
        self._arm(self._policy.limit_s if self._in(DebtStage.EXPECTED) else None)
        return active.debts, active.spoke, active.given_up

    def paid(self, debts: Iterable[Debt], *, spoke: bool) -> None:
        """Take note that a response came whole: as speech, or as calls of tools that take the place of it."""
        debts = list(debts)
        own = [debt for debt in debts if debt.cause in OWN_WORDS]
        if spoke:
            self._moves += [Said(debt.cause) for debt in own]
        else:
            self.missed(own, Why.EMPTY, "tools were called instead")
        self._forgive(debt for debt in debts if spoke or debt not in own)
        self._came()

    def turned(self, debts: Iterable[Debt], *, speaking: bool) -> None:
        """Take note that the caller's turn cut a response off: its answer takes the place of what was owed."""
        debts = list(debts)
        own = [debt for debt in debts if debt.is_due_once_more]
        self._forgive(debt for debt in debts if debt not in own)
        for debt in own:
            debt.tries += 1
            debt.stage = DebtStage.PENDING
            if debt.tries > max(self._policy.retries, CUT_AGAIN):
                self._forgive([debt])
                self._moves.append(Unsaid(debt.cause, "the caller spoke"))
        if not speaking and not self._in(DebtStage.EXPECTED):
            self._debts.append(Debt(Cause.TURN, stage=DebtStage.EXPECTED))
            self._arm(MERGED_S)  # for a turn that the service alone knows of

    def missed(self, debts: Iterable[Debt], why: Why, detail: str, delay_s: float = 0.0) -> None:
        """
        Take note that a response came to nothing: it is asked for again, or the policy's next step is taken.

        Args:
            debts: what it was to pay.
            why: what happened to it.
            detail: in words, without secrets.
            delay_s: what the service wants to be left alone for.
        """
        owed = list(debts)
        if not owed:
            return
        debt = owed[0]  # the others were asked for together with it: they share what follows
        self._forgive(owed[1:])
        debt.tries = 1 + max(each.tries for each in owed)
        debt.heard = any(each.heard for each in owed)
        # Where a part was heard it has to do; a session that says nothing at all is not asked for long.
        most = min(1, self._policy.retries) if debt.heard or why in _SILENT else self._policy.retries
        if debt.tries <= most and delay_s <= PATIENCE_S:
            self._ask_again(debt, why, detail, delay_s)
        elif debt.heard and (why not in _SILENT or debt.remedied):
            self._let_go(debt, why, detail)  # what was heard of it has to do
        else:
            self._remedy(debt, why, detail)

    def hurry(self) -> None:
        """Take note that something was refused, perhaps the response that was asked for: give it little time."""
        if self._asked_id is not None:
            self._arm(DOUBT_S)

    def refused(self, event_id: str | None, detail: str, *, busy: bool, delay_s: float = 0.0) -> bool:
        """
        Take note of an error about the response asked for last, or expected; False when it is about none.

        Args:
            event_id: that the error names; None when it names none.
            detail: in words.
            busy: another response is at work, which the service began by itself.
            delay_s: what the service wants to be left alone for.
        """
        if event_id is None and self._asked_id is None and not busy:
            expected = self._in(DebtStage.EXPECTED)  # the service failed at its own answer to a turn
            self.missed(expected, Why.REFUSED, detail, delay_s)
            return bool(expected)
        if self._last is None or (event_id is not None and event_id != self._last[0]):
            return False
        debts, self._last = self._last[1], None
        self._asked_id, self._unwanted = None, False
        if not busy:
            self.missed([debt for debt in debts if debt.stage is DebtStage.ASKED], Why.REFUSED, detail, delay_s)
            return True
        active = self._active if self._active is not None and self._active.asked else None
        for debt in debts:
            self._wait_for_another(debt, active, detail)
        if active is not None:
            active.asked = False
            if not active.debts and not active.given_up:
                active.debts = [Debt(Cause.TURN, stage=DebtStage.ANSWERING)]
                self._debts += active.debts
        return True

    def _wait_for_another(self, debt: Debt, active: _Active | None, detail: str) -> None:
        """Ask again behind a response that the service began by itself, unless that one is the answer."""
        if debt.cause is Cause.TURN and debt.stage is not DebtStage.ASKED:
            return
        if active is not None and debt in active.debts:
            active.debts.remove(debt)
        if debt not in self._debts:
            self._debts.append(debt)
        debt.busy += 1
        if debt.busy > MOST_BUSY:
            self._remedy(debt, Why.REFUSED, detail)
        elif self._active is None:
            debt.stage = DebtStage.DELAYED
            self._arm(RETRY_S)
            if debt.busy > 1:
                self._be_late()
        else:
            debt.stage = DebtStage.PENDING

    # Time

    def overdue(self, *, queued_ms: int, speaking: bool) -> str | None:
        """
        Take the end of the alarm.

        Args:
            queued_ms: speech that waits to be played.
            speaking: the caller speaks.

        Returns:
            A response to cancel, because it brought nothing.
        """
        self._alarm_s = None
        for debt in self._in(DebtStage.DELAYED):
            debt.stage = DebtStage.PENDING
        limit = f"within {self._policy.limit_s:g} s"
        if self._active is not None:
            return self._look_at(self._active, queued_ms, limit)
        if speaking:
            return None
        if self._asked_id is not None:
            self._asked_id = None
            self._be_late()
            self.missed(self._in(DebtStage.ASKED), Why.NOT_BEGUN, f"no response began {limit}")
        elif expected := self._in(DebtStage.EXPECTED):
            self._forgive(debt for debt in expected if debt.cause is Cause.GREETING)  # the caller has spoken first
            for debt in expected:
                debt.stage = DebtStage.PENDING
                debt.tries += 1
            if all(debt.cause is Cause.TURN for debt in expected):
                self._be_late()
                self._tell(expected[0], Why.NOT_BEGUN, f"the service began no answer {limit}", "asked")
        return None

    def _look_at(self, active: _Active, queued_ms: int, limit: str) -> str | None:
        if active.given_up:  # and the service does not say that it is over
            self._active = None
            if active.stalled and (owed := self._in(DebtStage.PENDING, DebtStage.DELAYED)):
                self._remedy(owed[0], Why.STALLED, "a response that is stuck is not cancelled either")
        elif queued_ms >= FRAME_MS:
            self._arm(queued_ms / 1000)
        elif active.whole:  # but for its end
            for debt in active.debts:
                self._tell(debt, Why.STALLED, f"the service did not report the end of a response {limit}", "nothing")
            debts = active.debts
            self.give_up_active()
            self.paid(debts, spoke=True)
            return active.response_id
        else:
            active.given_up = active.stalled = True
            debts, active.debts = active.debts, []
            self._be_late()
            self._arm(CANCEL_S)
            self.missed(debts, Why.STALLED, f"nothing came of a response {limit}")
            return active.response_id
        return None

    def session_ended(self, *, unanswered: bool) -> None:
        """Take note that the session is gone: the next one owes what it owed, an unanswered turn too."""
        self._active = None
        self._outrun = EndedResponses()
        self._asked_id = self._last = None
        self._unwanted = False
        for debt in self._debts:
            debt.stage = DebtStage.PENDING
        if (unanswered or self._broken_off) and not self._debts:
            self._debts.append(Debt(Cause.TURN))
        self._broken_off = False
        self._arm(None)

    # Asking again

    def _ask_again(self, debt: Debt, why: Why, detail: str, delay_s: float) -> None:
        wait_s = delay_s or (0.0 if debt.tries == 1 else RETRY_S)
        whole = why is Why.INCOMPLETE and debt.cause in OWN_WORDS  # said from its beginning
        debt.hint = "" if whole else _HINTS.get(why, "")
        if why is Why.WRITTEN:
            debt.ask = replace(debt.ask or Ask(), aloud=True)
        self._tell(debt, why, detail, f"asked again in {wait_s:g} s" if wait_s else "asked again")
        if wait_s:
            debt.stage = DebtStage.DELAYED
            self._arm(wait_s)
            self._be_late()
        else:
            debt.stage = DebtStage.PENDING

    def _remedy(self, debt: Debt, why: Why, detail: str) -> None:
        """Take the next step of the policy."""
        if debt.cause in (Cause.GOODBYE, Cause.ANNOUNCEMENT):
            self._let_go(debt, why, detail)
            self._moves.append(Unsaid(debt.cause, detail))
            return
        self._be_late()
        remedy = self._next_remedy()
        if remedy == "apologize" and why in _SILENT:  # it would not say that either
            remedy = self._next_remedy()
        self._tell(debt, why, detail, remedy)
        debt.stage, debt.tries = DebtStage.PENDING, self._policy.retries  # once more, no oftener
        debt.remedied = True
        match remedy:
            case "apologize":
                debt.ask = Ask(self._policy.apology, tools=False)
            case "play":
                self._forgive([debt])
                self._moves.append(PlaySound(self._policy.sound))
            case "reconnect":
                debt.ask = debt.wanted
                self._moves.append(Renew(f"no answer: {detail}"))
            case "give_up":
                self._forgive([debt])
                self._moves.append(GiveUp(f"no answer: {detail}"))

    def _next_remedy(self) -> Remedy:
        remedy: Remedy = self._policy.then[self._step] if self._step < len(self._policy.then) else "give_up"
        self._step += 1
        return remedy

    def _let_go(self, debt: Debt, why: Why, detail: str) -> None:
        """Give a debt up for which nothing takes its place, and the filler with it if it was the last."""
        self._tell(debt, why, detail, "nothing")
        self._forgive([debt])
        self._broken_off = debt.heard and why in _SILENT
        if not self._debts:
            self._came()

    def _tell(self, debt: Debt, why: Why, detail: str, then: str) -> None:
        self._moves.append(Missed(debt.cause, why, detail, debt.tries, then))

    def _be_late(self) -> None:
        if not self._late:
            self._late = True
            self._moves.append(Overdue())

    def _came(self) -> None:
        if self._late:
            self._late = False
            self._moves.append(Came())

    def _in(self, *stages: DebtStage) -> list[Debt]:
        return [debt for debt in self._debts if debt.stage in stages]

    def _forgive(self, debts: Iterable[Debt]) -> None:
        gone = set(debts)
        self._debts = [debt for debt in self._debts if debt not in gone]

    def _arm(self, seconds: float | None) -> None:
        self._alarm_set = self._alarm_set or seconds is not None or self._alarm_s is not None
        self._alarm_s = seconds
