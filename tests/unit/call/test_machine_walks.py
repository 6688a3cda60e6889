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
    CancelResponse,
    CancelTimer,
    CloseAgent,
    Finish,
    FlushPlayout,
    Greet,
    HangUp,
    OpenAgent,
    PausePlayout,
    ResumePlayout,
    RunTool,
    SayGoodbye,
    SendDigits,
    StartFiller,
    StartTimer,
    StopFiller,
    Transfer,
    Truncate,
)
from gateway.call.events import (
    AgentReady,
    CallEvent,
    DigitsAsked,
    HangUpAsked,
    IncomingInvite,
    LegClosed,
    Routed,
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

ROUTES = (
    Routed(CALL, setup_limit_s=8, max_length_s=600),
    Routed(CALL, setup_limit_s=8, max_length_s=600, guard_ms=300, tool_filler_after_s=2),
)
ON_THE_WAY = tuple(SAMPLES[name] for name in ("AgentReady", "MediaUp"))
ASKED = (ToolAsked, HangUpAsked, TransferAsked, DigitsAsked, WaitAsked)
TO_THE_AGENT = (Greet, Truncate, CancelResponse, SayGoodbye, AnswerTool)
IN_A_TALK = (
    *TO_THE_AGENT,
    *(RunTool, Transfer, SendDigits, AwaitPlayedOut, PausePlayout, ResumePlayout, FlushPlayout),
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
        self.held = False
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
        self.agent_was_ready |= isinstance(event, AgentReady) and before is Phase.RINGING
        self.leg_closed_first |= isinstance(event, LegClosed) and before not in (Phase.ENDING, Phase.ENDED)
        self.visited.add(self.machine.phase)
        if isinstance(event, TimerFired):
            self.running.discard(event.name)
        for action in actions:
            self._check(action)
        self.transferring = "transfer" in self.running

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
        elif isinstance(action, Answer):
            assert self.agent_was_ready
        elif isinstance(action, HangUp):
            assert action.code >= 400 or Phase.ACTIVE in self.visited
        elif isinstance(action, CloseAgent):
            assert self.counts[OpenAgent] == 1
        else:
            self._check_talk(action)

    def _check_talk(self, action: CallAction) -> None:
        if isinstance(action, PausePlayout):
            assert not self.held
            self.held = True
        elif isinstance(action, ResumePlayout):
            assert self.held
            self.held = False
        elif isinstance(action, FlushPlayout):
            self.held = False
        elif isinstance(action, CancelResponse):
            assert self.held
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


class Chance:
    """Events as they fall; tools are asked for under new ids mostly, those that run finish, timers run out."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._ids = itertools.count()

    def event(self, walk: Walk) -> CallEvent:
        timers = sorted(walk.running - {"setup", "max_length", "ending"})
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
        # Many walks are helped along some of the way, or hardly any would come to a talk.
        way = (ROUTES[number // 4 % 2], *ON_THE_WAY)
        for event in way[: number % 4]:
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
    assert min(reached[phase] for phase in Phase) > CALLS / 10, reached
    kinds = {kind for kind in vars(actions_module).values() if isinstance(kind, type) and issubclass(kind, CallAction)}
    assert min(ordered[kind] for kind in kinds - {CallAction}) > CALLS / 120, ordered


@settings(max_examples=300, deadline=None, database=None)
@given(st.lists(st.sampled_from(EVENTS), max_size=20))
def test_no_list_of_events_can_be_found_that_leaks(events: list[CallEvent]) -> None:
    walk = Walk()
    for event in events:
        walk.take(event)
    walk.close_out([CLOSED])
