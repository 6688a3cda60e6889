"""Random calls: whatever happens in whatever order, what was opened is closed, once, and nothing follows the end."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docs.generate.call_states import CALLS as DRAWN_CALLS
from docs.generate.call_states import SEED, between_phases, inside
from docs.generate.samples import CALL
from docs.generate.walks import EVENTS, MOST_EVENTS, Dice, Edge, name_of, walked
from gateway.call import actions as do
from gateway.call import events as ev
from gateway.call.machine.phase import Phase
from tests.unit.call.machine.walk import Walk

pytestmark = pytest.mark.unit

CLOSED = ev.LegClosed(CALL, by_caller=False, code=200, reason="OK")
GIVEN_UP = ev.TimerFired(CALL, "ending")
CALLS = 24_000


def take(walk: Walk, event: ev.CallEvent) -> Edge:
    machine = walk.machine
    before, name = (machine.phase, machine.stage), name_of(event, machine)
    walk.take(event)
    return Edge(before, name, (machine.phase, machine.stage))


def test_random_calls_close_what_they_opened_and_end_once() -> None:
    dice = Dice(20_260_101)
    reached: Counter[Phase] = Counter()
    ordered: Counter[type[do.CallAction]] = Counter()
    edges: set[Edge] = set()
    for _ in range(CALLS):
        walk = Walk()
        for event in dice.way():
            edges.add(take(walk, event))
            if dice.random.random() < 0.1:
                edges.add(take(walk, dice.event(walk.machine)))
        edges |= {take(walk, dice.event(walk.machine)) for _ in range(dice.random.randrange(MOST_EVENTS))}
        ended_by_itself = walk.machine.phase in (Phase.ENDING, Phase.ENDED)
        given_up = ended_by_itself and dice.random.random() < 0.5
        walk.close_out([GIVEN_UP] if given_up else [CLOSED])
        for _ in range(3):
            walk.take(dice.event(walk.machine))
        reached.update(walk.visited)
        ordered.update(walk.counts)
    assert min(reached[phase] for phase in Phase) > CALLS / 60, reached
    kinds = {kind for kind in vars(do).values() if isinstance(kind, type) and issubclass(kind, do.CallAction)}
    assert min(ordered[kind] for kind in kinds - {do.CallAction}) > CALLS / 200, ordered
    check_drawn(edges)


def check_drawn(edges: set[Edge]) -> None:
    """Check that the page, drawn from other calls, has each arrow that these calls took, and no other."""
    drawn = walked(DRAWN_CALLS, SEED)
    phases = between_phases(drawn)
    assert {arrow: events - phases.get(arrow, set()) for arrow, events in between_phases(edges).items()} == {
        arrow: set() for arrow in phases
    }
    for phase in Phase:
        assert inside(phase, edges).keys() <= inside(phase, drawn).keys()


@settings(max_examples=300, database=None)
@given(st.lists(st.sampled_from(EVENTS), max_size=20))
def test_no_list_of_events_can_be_found_that_leaks(events: list[ev.CallEvent]) -> None:
    walk = Walk()
    for event in events:
        walk.take(event)
    walk.close_out([CLOSED])
