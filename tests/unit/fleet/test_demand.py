from __future__ import annotations

import pytest

from gateway.fleet.demand import Demand, Seat, emptiest, needed

pytestmark = pytest.mark.unit


def seats(*live: int, starting: int = 0) -> list[Seat]:
    ready = [Seat(number, calls) for number, calls in enumerate(live)]
    return ready + [Seat(len(ready) + more, 0, starting=True) for more in range(starting)]


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        ((), 2),  # the spare ones
        ((0, 0), 2),
        ((1, 0), 3),
        ((1, 1, 1, 1), 3),  # an edge spreads calls: one worker could take them all
        ((4, 4, 0, 0), 4),
        ((4, 4, 4, 0), 5),
        ((4, 4, 4, 1), 8),  # few places are left: as many again as are full
        ((4,) * 10, 10),  # never more than the fleet's calls need
    ],
)
def test_the_places_of_spare_workers_are_kept_free(live: tuple[int, ...], wanted: int) -> None:
    assert needed(seats(*live), capacity=4, spare=2, most=10) == wanted


def test_a_fleet_without_spare_workers_has_one_for_the_first_call() -> None:
    assert needed([], capacity=4, spare=0, most=10) == 1
    assert needed(seats(1), capacity=4, spare=0, most=10) == 1
    assert needed(seats(4), capacity=4, spare=0, most=10) == 1


def test_workers_that_start_count_as_if_they_were_there() -> None:
    demand = Demand(capacity=4, spare=2, most=10, idle_s=60)
    assert demand.target([], 0) == 2
    assert demand.target(seats(starting=2), 0) == 2
    assert demand.target(seats(4, starting=1), 0) == 3


def test_what_was_needed_within_the_idle_time_is_kept() -> None:
    demand = Demand(capacity=4, spare=1, most=10, idle_s=60)
    assert demand.target(seats(4, 4, 4, 0), 0) == 4
    later = seats(0, 1, 0, 2)
    assert demand.target(later, 59) == 4
    assert demand.target(later, 61) == 2


def test_the_emptiest_go_first_and_none_that_starts() -> None:
    assert emptiest(seats(0, 1, 0, 2, starting=1), 3) == [2, 0, 1]
    assert emptiest(seats(0, 1), -1) == []


def test_a_peak_is_forgotten_after_the_idle_time_though_smaller_ones_followed() -> None:
    demand = Demand(capacity=4, spare=1, most=10, idle_s=60)
    for at, full in ((0, 3), (30, 2), (50, 1)):
        demand.target(seats(*[4] * full, 0), at)
    five = seats(0, 0, 0, 0, 0)
    assert [demand.target(five, at) for at in (55, 61, 91, 111)] == [4, 3, 2, 1]
