"""Random calls: whatever happens in whatever order, what was opened is closed, once, and nothing follows the end."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docs.generate.samples import SAMPLES, planned
from gateway.audio.played import PlayoutPosition
from gateway.call import actions as actions_module
from gateway.call.actions import (
    CallAction,
)
from gateway.call.events import (
    AnnouncementSaid,
    CallEvent,
    IncomingInvite,
    Keypad,
    LegClosed,
    LegResumed,
    PlayedOut,
    Routed,
    SpeechStarted,
    SpeechStopped,
    TimerFired,
    ToolFinished,
)
from gateway.call.machine.ivr import DialTo, Menu, PlaySounds, Redirect, Refuse
from gateway.call.machine.machine import IGNORED, RULES
from gateway.call.machine.phase import Phase
from gateway.call.steps import TalkTo
from gateway.ids import CallId
from tests.unit.call.walk import ASKED, Walk

pytestmark = pytest.mark.unit

CALL = CallId("call")
EVENTS: tuple[CallEvent, ...] = (
    *SAMPLES.values(),
    IncomingInvite(CALL, "id", "sip:a@192.0.2.1", "sip:b@192.0.2.2", "192.0.2.1:5060"),
    TimerFired(CALL, "never started"),
    SpeechStarted(CALL, responding=True),
)
LIKELY = EVENTS + 4 * tuple(event for event in EVENTS if RULES.get((Phase.ACTIVE, type(event)), IGNORED) is not IGNORED)
"""The same, with fewer endings, so that talks go on for a while."""

_ROUTE = Routed(CALL, setup_limit_s=8, max_length_s=600)
_KEYPAD = Keypad(shortcuts={"0": "sip:desk@192.0.2.1"})
ROUTES = (
    _ROUTE,
    replace(_ROUTE, guard_ms=300, tool_filler_after_s=2, recording=True, can_record=True, keypad=_KEYPAD),
    replace(_ROUTE, recording=True, announces=True, can_record=True, keypad=_KEYPAD),
    replace(_ROUTE, transfers="bridge", guard_ms=300, keypad=_KEYPAD, announces=True, can_record=True),
    replace(_ROUTE, transfers="refer", outbound=True, can_record=True),
    replace(_ROUTE, outbound=True, transfers="bridge", keypad=Keypad(to_agent=False)),
)
_AGENT = TalkTo("reception", answer_after_s=3, otherwise=PlaySounds(("sorry.wav",), then=TalkTo("night")))
_DESK = DialTo("sip:desk@192.0.2.1", otherwise=DialTo("sip:bell@192.0.2.1", trunk="out", otherwise=_AGENT))
_MENU = Menu(
    "choices.wav",
    keys={"5": _AGENT, "0": _DESK, "#": Redirect(("sip:a@192.0.2.1", "sip:b@192.0.2.1"))},
    otherwise=Refuse(486, "Busy", "sorry.wav"),
)
PLANS = (
    _AGENT,
    _DESK,
    _MENU,
    PlaySounds(("hello.wav", "sorry.wav"), early=True, then=TalkTo("day", otherwise=_DESK)),
    PlaySounds(("hello.wav",), then=TalkTo("day", prompt="Press 5.", keys={"5": _MENU, "#": _DESK}, otherwise=_MENU)),
    PlaySounds(("hello.wav",), then=_DESK),
    PlaySounds(("hello.wav",), early=True),
    Refuse(603, "", "sorry.wav"),
    Redirect(("sip:a@192.0.2.1",)),
)
ON_THE_WAY = tuple(SAMPLES[name] for name in ("AgentReady", "MediaUp"))
OF_A_STEP = tuple(
    SAMPLES[name] for name in ("MediaUp", "EarlyMediaUp", "DigitPressed", "SecondUp", "SecondClosed", "LegHeld")
)
TO_A_SECOND = tuple(SAMPLES[name] for name in ("TransferAsked, warm", "PlayedOut", "SecondUp", "SecondDigit, 1"))
CLOSED = LegClosed(CALL, by_caller=False, code=200, reason="OK")
GIVEN_UP = TimerFired(CALL, "ending")
CALLS = 24_000


class Chance:
    """Events as they fall; tools are asked for under new ids mostly, those that run finish, timers run out."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._ids = itertools.count()

    def event(self, walk: Walk) -> CallEvent:
        if walk.choosing and self.random.random() < 0.9:
            return self.random.choice(ROUTES[:4])
        if walk.machine.phase is Phase.ATTENDING and self.random.random() < 0.8:
            return self.random.choice((*OF_A_STEP, PlayedOut(CALL, walk.mark)))
        if walk.machine.phase in (Phase.RINGING, Phase.WAITING, Phase.ANSWERING) and self.random.random() < 0.5:
            return self.random.choice(ON_THE_WAY)
        timers = sorted(walk.running - {"setup", "ringing", "max_length", "ending", "hold"})
        if timers and self.random.random() < 0.15:
            return TimerFired(CALL, self.random.choice(timers), at=PlayoutPosition("item", 100))
        if walk.speaks and self.random.random() < 0.2:
            return self.random.choice((SpeechStopped(CALL), PlayedOut(CALL)))
        if walk.on_hold and self.random.random() < 0.15:
            return LegResumed(CALL)
        if walk.announcing and self.random.random() < 0.3:
            return self.random.choice((AnnouncementSaid(CALL), PlayedOut(CALL)))
        event = self.random.choice(LIKELY)
        if isinstance(event, ASKED) and self.random.random() < 0.9:
            return replace(event, tool_call_id=f"call_{next(self._ids)}")
        if isinstance(event, ToolFinished) and walk.tools_run:
            return replace(event, tool_call_id=self.random.choice(sorted(walk.tools_run)))
        return event


def test_random_calls_close_what_they_opened_and_end_once() -> None:
    chance = Chance(20_260_101)
    reached: Counter[Phase] = Counter()
    ordered: Counter[type[CallAction]] = Counter()
    for number in range(CALLS):
        walk = Walk()
        # Many walks are helped along some of the way, or hardly any would come to a talk, or to a second leg.
        way = (ROUTES[number // 4 % len(ROUTES)], *ON_THE_WAY)
        steps = way[: number % 4] if number % 8 < 7 else (*way, *TO_A_SECOND[: chance.random.randrange(1, 5)])
        if number % 3 == 0:
            steps = (planned(PLANS[number // 3 % len(PLANS)]),)
        for event in steps:
            walk.take(event)
            if chance.random.random() < 0.1:
                walk.take(chance.event(walk))
        for _ in range(chance.random.randrange(24)):
            walk.take(chance.event(walk))
        ended_by_itself = walk.machine.phase in (Phase.ENDING, Phase.ENDED)
        given_up = ended_by_itself and chance.random.random() < 0.5
        walk.close_out([GIVEN_UP] if given_up else [CLOSED])
        for _ in range(3):
            walk.take(chance.event(walk))
        reached.update(walk.visited)
        ordered.update(walk.counts)
    assert min(reached[phase] for phase in Phase) > CALLS / 60, reached
    kinds = {kind for kind in vars(actions_module).values() if isinstance(kind, type) and issubclass(kind, CallAction)}
    assert min(ordered[kind] for kind in kinds - {CallAction}) > CALLS / 200, ordered


@settings(max_examples=300, database=None)
@given(st.lists(st.sampled_from(EVENTS), max_size=20))
def test_no_list_of_events_can_be_found_that_leaks(events: list[CallEvent]) -> None:
    walk = Walk()
    for event in events:
        walk.take(event)
    walk.close_out([CLOSED])
