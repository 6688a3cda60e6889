"""Random calls from a seed: whatever happens in whatever order, for ``docs/call-states.md`` and the machine's tests."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache

from docs.generate.samples import BRIDGED, CALL, SAMPLES, WAYS, planned
from docs.generate.scenes import STEPS, TURNS, Told
from gateway.audio.played import PlayoutPosition
from gateway.call import builtin_tools as tool
from gateway.call import commands as given
from gateway.call import events as ev
from gateway.call.machine.ivr import DialTo, Menu, PlaySounds, Redirect, RefuseCall
from gateway.call.machine.machine import IGNORED, RULES, CallMachine
from gateway.call.machine.phase import CallStage, Phase
from gateway.call.steps import Step, TalkTo
from gateway.errors import IllegalEvent

MOST_EVENTS = 16
"""Of a call, beside those it begins with; longer ones would have ended by then."""

EVENTS: tuple[ev.CallEvent, ...] = (
    *SAMPLES.values(),
    ev.IncomingInvite(CALL, "id", "sip:a@192.0.2.1", "sip:b@192.0.2.2", "192.0.2.1:5060"),
    ev.TimerFired(CALL, "never started"),
    ev.SpeechStarted(CALL, responding=True),
)
_COMMANDS = tuple(e for e in EVENTS if isinstance(e, given.CommandGiven))
_ENDINGS = (
    *(given.HangUpCommanded, ev.LegClosed, ev.LegFailed, ev.StopAsked, ev.OrderFailed, ev.MediaLost),
    *(ev.AgentFailed, ev.AgentClosed),
)


def _likely(phase: Phase) -> tuple[ev.CallEvent, ...]:
    """Return the events that have a rule in this phase, with fewer endings, so that calls go on for a while."""
    with_rule = [e for e in EVENTS if RULES.get((phase, type(e)), IGNORED) is not IGNORED]
    if phase is not Phase.ACTIVE:  # an operator may do something at any time, and seldom does
        with_rule = [e for e in with_rule if not isinstance(e, given.CommandGiven)]
    return (*with_rule, *(e for e in with_rule * 2 if not isinstance(e, _ENDINGS))) or EVENTS


_ON_THE_WAY = (Phase.RINGING, Phase.WAITING, Phase.ANSWERING, Phase.PREPARING, Phase.DIALING)
_LIKELY = {phase: _likely(phase) for phase in Phase}
_ROUTE = ev.Routed(CALL, setup_limit_s=8, max_length_s=600)
_KEYPAD = ev.Keypad(shortcuts={"0": "sip:desk@192.0.2.1"})
ROUTES = (
    _ROUTE,
    replace(_ROUTE, guard_ms=300, tool_filler_after_s=2, recording=True, can_record=True, keypad=_KEYPAD),
    replace(_ROUTE, recording=True, announces=True, can_record=True, keypad=_KEYPAD),
    replace(_ROUTE, transfers="bridge", guard_ms=300, keypad=_KEYPAD, announces=True, can_record=True),
    replace(_ROUTE, transfers="refer", outbound=True, can_record=True),
    replace(_ROUTE, outbound=True, transfers="bridge", keypad=ev.Keypad(to_agent=False)),
)
_AGENT = TalkTo("reception", answer_after_s=3, otherwise=PlaySounds(("sorry.wav",), then=TalkTo("night")))
_DESK = DialTo("sip:desk@192.0.2.1", otherwise=DialTo("sip:bell@192.0.2.1", trunk="out", otherwise=_AGENT))
_BELL = DialTo("sip:bell@192.0.2.1")
_SORRY = PlaySounds(("sorry.wav",))
_REFUSAL = RefuseCall(486, "Busy", "sorry.wav")
_MENU = Menu(
    "choices.wav",
    keys={"5": _AGENT, "0": _DESK, "#": Redirect(("sip:a@192.0.2.1", "sip:b@192.0.2.1"))},
    otherwise=_REFUSAL,
)
_SHORT_MENU = Menu("choices.wav", keys={"5": RefuseCall(486), "0": _BELL, "#": _SORRY}, retries=0)
PLANS: tuple[Step, ...] = (
    _AGENT,
    _DESK,
    _MENU,
    PlaySounds(("hello.wav", "sorry.wav"), early=True, then=TalkTo("day", otherwise=_DESK)),
    PlaySounds(("hello.wav",), then=TalkTo("day", prompt="Press 5.", keys={"5": _MENU, "#": _DESK}, otherwise=_MENU)),
    PlaySounds(("hello.wav",), then=_DESK),
    PlaySounds(("hello.wav",), early=True),
    RefuseCall(603, "", "sorry.wav"),
    Redirect(("sip:a@192.0.2.1",)),
    _SHORT_MENU,
    PlaySounds(("hello.wav",), then=TalkTo("day", otherwise=TalkTo("night"))),
    PlaySounds(("hello.wav",), then=TalkTo("day")),
    TalkTo("day", otherwise=TalkTo("night", keys={"5": RefuseCall(486), "#": _AGENT}, otherwise=_REFUSAL)),
)
ON_THE_WAY = tuple(SAMPLES[name] for name in ("AgentReady", "MediaUp"))


_AGENTS = (
    TalkTo("day", otherwise=TalkTo("night")),
    TalkTo("day", otherwise=_SORRY, keys={"5": RefuseCall(486), "#": PlaySounds(("hello.wav",))}),
    TalkTo(
        "day", otherwise=DialTo("sip:desk@192.0.2.1"), keys={"5": TalkTo("night"), "0": DialTo("sip:desk@192.0.2.1")}
    ),
    TalkTo("day", otherwise=_REFUSAL),
    TalkTo("day", answer_after_s=3),
)
_REPLACED = PlaySounds(("hello.wav",), then=TalkTo("day", otherwise=_SORRY))
_SECOND_WISH = tool.TransferAsked(CALL, "once more", "sip:desk@192.0.2.1")
_IN_VAIN = ("TransferAsked", "PlayedOut", "TimerFired, second", ("TransferAsked", _SECOND_WISH))
"""A second transfer is asked for before the second leg of the first is over."""

_RARE: tuple[tuple[tuple[ev.CallEvent, ...], tuple[Told, ...]], ...] = (
    (WAYS[Phase.JOINED], ("DigitsCommanded", "SayCommanded", "TakeOverCommanded", "HangUpCommanded, at once")),
    (WAYS[Phase.ACTIVE], ("TakeOverCommanded", "AgentFailed, lost", "GiveBackCommanded")),
    (WAYS[Phase.WAITING], ("LegHeld", "MediaLost")),
    ((planned(_REPLACED), *WAYS[Phase.WAITING][1:]), ("AgentClosed",)),
    (WAYS[Phase.WAITING], ()),
    ((planned(_SHORT_MENU), SAMPLES["MediaUp"], SAMPLES["PlayedOut, sounds"]), ("TimerFired, menu",)),
    ((planned(_MENU), SAMPLES["MediaUp"], SAMPLES["PlayedOut, sounds"]), ()),
    ((BRIDGED, *ON_THE_WAY), (*_IN_VAIN, "AgentFailed, lost", "TimerFired, goodbye")),
    ((BRIDGED, *ON_THE_WAY), (*_IN_VAIN, "AgentFailed, lost", "PlayedOut")),
    ((BRIDGED, *ON_THE_WAY), (*_IN_VAIN, "TimerFired, max_length", "PlayedOut")),
    ((BRIDGED, *ON_THE_WAY), ("TransferAsked", "PlayedOut", "AgentFailed, lost", "SecondClosed")),
    (WAYS[Phase.ACTIVE], ("TransferAsked", "PlayedOut", "AgentFailed, lost", "TransferEnded, other")),
    (WAYS[Phase.ACTIVE], ("TransferAsked, warm", "PlayedOut", "SecondUp", "TimerFired, max_length", "SecondClosed")),
)
"""Beginnings that hardly any call would come to by chance."""

_TOLD = (
    *(
        (way, tuple(SAMPLES[one] if isinstance(one, str) else one[1] for one in told))
        for way, told in (*TURNS.values(), *STEPS.values(), *_RARE)
    ),
    *((way, ()) for way in WAYS.values()),
)
"""How calls begin that the page tells, and some others: the way there, and what happens there."""


@dataclass(frozen=True, slots=True)
class Edge:
    """One event's effect: from a phase and stage to a phase and stage, which may be the same."""

    before: tuple[Phase, CallStage]
    event: str
    after: tuple[Phase, CallStage]


@cache
def walked(calls: int, seed: int) -> frozenset[Edge]:
    """Return every edge that so many random calls took."""
    dice = Dice(seed)
    return frozenset(edge for _ in range(calls) for edge in _one_call(dice))


def name_of(event: ev.CallEvent, machine: CallMachine) -> str:
    """Return what the page calls an event that comes now: its class, and which timer, if that is running."""
    if isinstance(event, ev.TimerFired) and event.name in machine.state.timers:
        return f"{type(event).__name__} {event.name}"
    return type(event).__name__


def _one_call(dice: Dice) -> Iterator[Edge]:
    machine = CallMachine()
    begun = iter(dice.way())
    rest = dice.random.randrange(MOST_EVENTS)
    while machine.phase is not Phase.ENDED:
        if (event := next(begun, None)) is None or dice.random.random() < 0.1:
            event = dice.event(machine)
            rest -= 1
        before, name = (machine.phase, machine.stage), name_of(event, machine)
        with suppress(IllegalEvent):
            machine.handle(event)
            yield Edge(before, name, (machine.phase, machine.stage))
        if rest < 0:
            return
    late = dice.random.choice(_COMMANDS)
    machine.handle(late)
    yield Edge((machine.phase, machine.stage), name_of(late, machine), (machine.phase, machine.stage))


class Dice:
    """Events as they fall, but more often than not such as bring a call on: agents come, timers run out."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._ids = itertools.count()

    def way(self) -> tuple[ev.CallEvent, ...]:
        """Return how a call begins: with a plan, with an agent, or like one of the calls that the page tells."""
        first, chance = self.random.choice(ROUTES), self.random.random()
        if chance < 0.25:
            return (planned(self.random.choice(PLANS)),)
        if chance < 0.4:
            return (first, *ON_THE_WAY)[: self.random.randrange(4)]
        way, told = self.random.choice(_TOLD)
        begun = (*way, *told[: self.random.randrange(len(told) + 1)])
        if chance < 0.7 and begun and isinstance(begun[0], ev.Routed):
            return (planned(self.random.choice(_AGENTS)), *begun)
        return begun

    def event(self, machine: CallMachine) -> ev.CallEvent:
        """Return the next event."""
        call, chance = machine.state, self.random.random()
        if call.stage is CallStage.CHOOSING and chance < 0.8:
            return self.random.choice((*ROUTES[:4], SAMPLES["ChoiceFailed"]))
        if call.phase in _ON_THE_WAY and chance < 0.25:
            return self.random.choice(ON_THE_WAY)
        if call.timers and chance < 0.35:
            return ev.TimerFired(CALL, self.random.choice(sorted(call.timers)), at=PlayoutPosition("item", 100))
        if call.agent.caller_speaks and chance < 0.45:
            return self.random.choice((ev.SpeechStopped(CALL), ev.PlayedOut(CALL)))
        if call.leg.on_hold and chance < 0.45:
            return ev.LegResumed(CALL)
        if call.agent.recording.announcing and chance < 0.5:
            return self.random.choice((ev.AnnouncementSaid(CALL), ev.PlayedOut(CALL)))
        seldom = _COMMANDS if chance > 0.97 else EVENTS
        event = self.random.choice(seldom if chance > 0.9 else _LIKELY[call.phase])
        return self._with_ids(event, machine)

    def _with_ids(self, event: ev.CallEvent, machine: CallMachine) -> ev.CallEvent:
        call = machine.state
        if isinstance(event, ev.PlayedOut) and call.phase is Phase.ATTENDING:
            return replace(event, mark=call.ivr.mark)
        if isinstance(event, tool.BuiltinToolAsked | ev.ToolAsked) and self.random.random() < 0.9:
            return replace(event, tool_call_id=f"call_{next(self._ids)}")
        if isinstance(event, given.CommandGiven):
            return replace(event, command_id=f"command_{next(self._ids)}")
        tools = sorted(call.agent.running & call.agent.tool_calls)
        if isinstance(event, ev.ToolFinished) and tools:
            return replace(event, tool_call_id=self.random.choice(tools))
        return event
