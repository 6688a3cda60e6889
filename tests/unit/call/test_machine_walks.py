"""Random calls: whatever happens in whatever order, what was opened is closed, once, and nothing follows the end."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.call.actions import (
    Answer,
    CallAction,
    CancelTimer,
    CloseAgent,
    Finish,
    HangUp,
    OpenAgent,
    StartTimer,
)
from gateway.call.diagram import SAMPLES
from gateway.call.events import AgentReady, CallEvent, IncomingInvite, LegClosed, TimerFired
from gateway.call.machine import RULES, CallMachine, Phase
from gateway.errors import IllegalEvent
from gateway.ids import CallId

pytestmark = pytest.mark.unit

CALL = CallId("call")
EVENTS: tuple[CallEvent, ...] = (
    *SAMPLES.values(),
    IncomingInvite(CALL, "id", "sip:a@192.0.2.1", "sip:b@192.0.2.2", "192.0.2.1:5060"),
    TimerFired(CALL, "never started"),
)
ON_THE_WAY = tuple(SAMPLES[name] for name in ("Routed", "AgentReady", "MediaUp"))
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
        self.agent_was_ready |= isinstance(event, AgentReady) and before is Phase.RINGING
        self.leg_closed_first |= isinstance(event, LegClosed) and before not in (Phase.ENDING, Phase.ENDED)
        self.visited.add(self.machine.phase)
        if isinstance(event, TimerFired):
            self.running.discard(event.name)
        for action in actions:
            self._check(action)

    def _check(self, action: CallAction) -> None:
        assert not self.counts[Finish], "an order after Finish"
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
            assert action.code >= 400
        elif isinstance(action, CloseAgent):
            assert self.counts[OpenAgent] == 1

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


def test_random_calls_close_what_they_opened_and_end_once() -> None:
    chance = random.Random(20_260_101)
    reached: Counter[Phase] = Counter()
    for number in range(CALLS):
        walk = Walk()
        # Many walks are helped along some of the way, or hardly any would come to a talk.
        for event in ON_THE_WAY[: number % 4]:
            walk.take(event)
            if chance.random() < 0.3:
                walk.take(chance.choice(EVENTS))
        for _ in range(chance.randrange(14)):
            walk.take(chance.choice(EVENTS))
        ended_by_itself = walk.machine.phase in (Phase.ENDING, Phase.ENDED)
        given_up = ended_by_itself and chance.random() < 0.5
        walk.close_out([GIVEN_UP] if given_up else [CLOSED])
        for _ in range(3):
            walk.take(chance.choice(EVENTS))
        reached.update(walk.visited)
    assert min(reached[phase] for phase in Phase) > CALLS / 10, reached


@settings(max_examples=300, deadline=None, database=None)
@given(st.lists(st.sampled_from(EVENTS), max_size=20))
def test_no_list_of_events_can_be_found_that_leaks(events: list[CallEvent]) -> None:
    walk = Walk()
    for event in events:
        walk.take(event)
    walk.close_out([CLOSED])
