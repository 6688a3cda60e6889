"""Random calls: whatever happens in whatever order, what was opened is closed, once, and nothing follows the end."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.call import actions as actions_module
from gateway.call.actions import (
    Answer,
    AnswerTool,
    AwaitPlayedOut,
    CallAction,
    CallSecond,
    CancelResponse,
    CancelTimer,
    CloseAgent,
    Dial,
    DropSecond,
    Finish,
    FlushPlayout,
    Greet,
    HangUp,
    JoinLegs,
    MuteCaller,
    OpenAgent,
    PausePlayout,
    PauseRecording,
    ResumePlayout,
    RunTool,
    SayGoodbye,
    SendDigits,
    StartFiller,
    StartRecording,
    StartTimer,
    StopFiller,
    TalkToCaller,
    TalkToSecond,
    TellAgent,
    Transfer,
    Truncate,
    UnmuteCaller,
)
from gateway.call.events import (
    AgentReady,
    CallEvent,
    DigitsAsked,
    HangUpAsked,
    IncomingInvite,
    Keypad,
    LeaveMessageAsked,
    LegClosed,
    LegHeld,
    LegResumed,
    RecordingAsked,
    Routed,
    SecondClosed,
    SpeechStarted,
    TimerFired,
    ToolAsked,
    ToolFinished,
    TransferAsked,
    WaitAsked,
)
from gateway.call.machine import RULES, CallMachine, Phase
from gateway.call.samples import SAMPLES
from gateway.call.talk import Talk
from gateway.errors import IllegalEvent
from gateway.ids import CallId

pytestmark = pytest.mark.unit

CALL = CallId("call")
EVENTS: tuple[CallEvent, ...] = (
    *SAMPLES.values(),
    IncomingInvite(CALL, "id", "sip:a@192.0.2.1", "sip:b@192.0.2.2", "192.0.2.1:5060"),
    TimerFired(CALL, "never started"),
    SpeechStarted(CALL, responding=True),
)
LIKELY = EVENTS + 4 * tuple(event for event in EVENTS if type(event) in Talk.RULES)
"""The same, with fewer endings, so that talks go on for a while."""

_ROUTE = Routed(CALL, setup_limit_s=8, max_length_s=600)
_KEYPAD = Keypad(shortcuts={"0": "sip:desk@192.0.2.1"})
ROUTES = (
    _ROUTE,
    replace(_ROUTE, guard_ms=300, tool_filler_after_s=2, recording=True, can_record=True, keypad=_KEYPAD),
    replace(_ROUTE, transfers="bridge", guard_ms=300, keypad=_KEYPAD),
    replace(_ROUTE, transfers="refer", outbound=True, can_record=True),
    replace(_ROUTE, outbound=True, transfers="bridge", keypad=Keypad(to_agent=False)),
)
ON_THE_WAY = tuple(SAMPLES[name] for name in ("AgentReady", "MediaUp"))
TO_A_SECOND = tuple(SAMPLES[name] for name in ("TransferAsked, warm", "PlayedOut", "SecondUp", "SecondDigit, 1"))
ASKED = (ToolAsked, HangUpAsked, TransferAsked, DigitsAsked, WaitAsked, LeaveMessageAsked, RecordingAsked)
TO_THE_AGENT = (
    *(Greet, Truncate, CancelResponse, SayGoodbye, AnswerTool, TellAgent, MuteCaller, UnmuteCaller),
    *(TalkToSecond, TalkToCaller, AwaitPlayedOut, PausePlayout, ResumePlayout, StartFiller),
)
IN_A_TALK = (
    *(order for order in TO_THE_AGENT if order is not StartFiller),
    *(RunTool, Transfer, SendDigits, FlushPlayout, CallSecond, JoinLegs, StartRecording, PauseRecording),
)
CLOSED = LegClosed(CALL, by_caller=False, code=200, reason="OK")
GIVEN_UP = TimerFired(CALL, "ending")
CALLS = 24_000


class Walk:
    """A machine watched from outside: remembers every order and checks each step."""

    def __init__(self) -> None:
        self.machine = CallMachine()
        self.ordered: list[CallAction] = []
        self.counts: Counter[type[CallAction]] = Counter()
        self.running: set[str] = set()
        self.agent_was_ready = False
        self.leg_closed_first = False
        self.visited = {Phase.ROUTING}
        self.asked: set[str] = set()
        self.answered: set[str] = set()
        self.tools_run: set[str] = set()
        self.on_hold = False
        self.held = False
        self.muted = False
        self.second: str | None = None  # open, or dropped and not closed yet
        self.with_second = False
        self.filling = False
        self.transferring = False

    def take(self, event: CallEvent) -> None:
        before = self.machine.phase
        try:
            actions = self.machine.handle(event)
        except IllegalEvent:
            assert type(event) not in RULES[before]
            assert self.machine.phase is before
            return
        if before is Phase.ENDED:
            assert actions == ()
            assert self.machine.phase is Phase.ENDED
        if isinstance(event, ASKED) and before is Phase.ACTIVE:
            self.asked.add(event.tool_call_id)
        self.agent_was_ready |= isinstance(event, AgentReady) and before in (Phase.RINGING, Phase.PREPARING)
        if isinstance(event, LegHeld | LegResumed) and before is not Phase.ENDED:
            self.on_hold = isinstance(event, LegHeld)
        if isinstance(event, SecondClosed):
            self.second = None
        self.leg_closed_first |= isinstance(event, LegClosed) and before not in (Phase.ENDING, Phase.ENDED)
        self.visited.add(self.machine.phase)
        if isinstance(event, TimerFired):
            self.running.discard(event.name)
        for action in actions:
            self._check(action)
        self.transferring = "transfer" in self.running
        if self.machine.phase is Phase.ACTIVE:
            assert ("hold" in self.running) is self.on_hold
            deaf_to_hold = self.on_hold and not self.with_second
            assert (self.muted and self.held) or not deaf_to_hold, "the agent talks into hold music"
        if self.machine.phase is Phase.JOINED:
            assert {"max_length"} <= self.running <= {"max_length", "hold"}
            assert self.second == "open"

    def _check(self, action: CallAction) -> None:
        assert not self.counts[Finish], "an order after Finish"
        assert not (self.counts[CloseAgent] and isinstance(action, TO_THE_AGENT)), "an order to a closed agent"
        assert Phase.ACTIVE in self.visited or not isinstance(action, IN_A_TALK), "talk in no talk"
        self.ordered.append(action)
        self.counts[type(action)] += 1
        if isinstance(action, StartTimer):
            assert action.name not in self.running
            self.running.add(action.name)
        elif isinstance(action, CancelTimer):
            self.running.remove(action.name)
        elif isinstance(action, Answer | Dial):
            assert self.agent_was_ready
        elif isinstance(action, HangUp):
            assert action.code >= 400 or Phase.ACTIVE in self.visited
            assert self.second != "open", "the second leg outlives the call"
        elif isinstance(action, CloseAgent):
            assert self.counts[OpenAgent] == 1
        elif isinstance(action, CallSecond | DropSecond | TalkToSecond | TalkToCaller | JoinLegs):
            self._check_second(action)
        else:
            self._check_talk(action)

    def _check_second(self, action: CallAction) -> None:
        if isinstance(action, CallSecond):
            assert self.second is None
            self.second = "open"
        elif isinstance(action, DropSecond):
            assert self.second == "open"
            self.second = "dropped"
        elif isinstance(action, TalkToCaller):
            assert self.with_second
            self.with_second = False
        else:
            assert self.second == "open"
            self.with_second = True

    def _check_talk(self, action: CallAction) -> None:
        if isinstance(action, PausePlayout):
            assert not self.held
            self.held = True
        elif isinstance(action, ResumePlayout):
            assert self.held
            self.held = False
        elif isinstance(action, FlushPlayout):
            self.held = False
        elif isinstance(action, MuteCaller | UnmuteCaller):
            assert self.muted is isinstance(action, UnmuteCaller)
            self.muted = not self.muted
        elif isinstance(action, StartFiller | StopFiller):
            assert self.filling is isinstance(action, StopFiller)
            self.filling = not self.filling
        elif isinstance(action, RunTool):
            assert action.tool_call_id in self.asked - self.tools_run
            self.tools_run.add(action.tool_call_id)
        elif isinstance(action, AnswerTool):
            assert action.tool_call_id in self.asked - self.answered
            self.answered.add(action.tool_call_id)
        elif isinstance(action, Transfer):
            assert not self.transferring

    def close_out(self, last: Sequence[CallEvent]) -> None:
        """Let the leg close (or be given up) and check the whole call."""
        for event in last:
            self.take(event)
        assert self.machine.phase is Phase.ENDED
        assert self.counts[Finish] == 1
        assert isinstance(self.ordered[-1], Finish)
        assert self.counts[OpenAgent] <= 1
        assert self.counts[CloseAgent] == self.counts[OpenAgent]
        assert self.counts[HangUp] == (0 if self.leg_closed_first else 1)
        assert not self.running
        assert not self.filling
        assert not self.held
        assert self.second != "open"
        # A second leg was dropped or closed by itself; one that is dropped may still close.
        assert self.counts[DropSecond] <= self.counts[CallSecond]
        assert self.counts[UnmuteCaller] <= self.counts[MuteCaller]


class Chance:
    """Events as they fall; tools are asked for under new ids mostly, those that run finish, timers run out."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._ids = itertools.count()

    def event(self, walk: Walk) -> CallEvent:
        timers = sorted(walk.running - {"setup", "ringing", "max_length", "ending", "hold"})
        if timers and self.random.random() < 0.15:
            return TimerFired(CALL, self.random.choice(timers), "item", 100)
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
    assert min(ordered[kind] for kind in kinds - {CallAction}) > CALLS / 160, ordered


@settings(max_examples=300, deadline=None, database=None)
@given(st.lists(st.sampled_from(EVENTS), max_size=20))
def test_no_list_of_events_can_be_found_that_leaks(events: list[CallEvent]) -> None:
    walk = Walk()
    for event in events:
        walk.take(event)
    walk.close_out([CLOSED])
