"""When a process takes no more calls because it is late: simulated traces, a sample a second."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest

from gateway.sip.core.lateness import CALM_S, MOST_CALM_S, SOON_S, WINDOW_S, Lateness, Sample

pytestmark = pytest.mark.unit
CALM, LATE, TENTH = 0, 25, 5  # late ticks of fifty: none, half, a tenth


class Trace:
    """Plays seconds of a machine to a ``Lateness`` of 10 % and 20 ms."""

    def __init__(self, late_percent: float = 10) -> None:
        self.lateness = Lateness(late_percent, 20)
        self.now = 1000.0
        self.changes: list[tuple[float, bool]] = []

    def play(self, lates: Iterable[int], *, ticks: int = 50, slices: int = 100, wait_ms: float = 0.1) -> bool:
        """Play seconds with this many late ticks each; return the state after them."""
        for late in lates:
            self.now += 1
            sample = Sample(self.now, ticks, late, 30.0 if late else 0.5, slices, slices * wait_ms)
            if self.lateness.take(sample):
                self.changes.append((self.now, self.lateness.overloaded))
        return self.lateness.overloaded


def test_late_ticks_make_an_overload_within_the_window() -> None:
    trace = Trace()
    assert not trace.play([CALM] * 60)
    assert trace.play([LATE] * 2)
    assert trace.lateness.figures.late_percent == pytest.approx(20)
    assert trace.lateness.figures.worst_ms == 30


def test_a_single_bad_moment_is_no_overload() -> None:
    trace = Trace()
    assert not trace.play([CALM, CALM, CALM, 10, CALM, CALM] * 20)
    assert trace.changes == []


def test_the_first_ticks_after_a_pause_say_nothing() -> None:
    assert not Trace().play([LATE])


def test_a_wait_for_the_cpu_makes_an_overload_without_any_call() -> None:
    trace = Trace()
    assert not trace.play([0] * 10, ticks=0, slices=2, wait_ms=19)
    assert not trace.play([0] * 2, ticks=0, slices=2, wait_ms=500)  # the machine stood still for a moment
    assert not trace.play([0] * 5, ticks=0, slices=2, wait_ms=1)
    assert trace.play([0] * 3, ticks=0, slices=10, wait_ms=25)


def test_recovery_takes_a_calm_that_lasts() -> None:
    trace = Trace()
    trace.play([LATE] * 5)
    assert trace.play([CALM] * (int(CALM_S) + 3))  # the window empties first
    assert not trace.play([CALM] * 3)


def test_half_of_an_overload_is_not_calm() -> None:
    trace = Trace()
    trace.play([LATE] * 5)
    assert trace.play([TENTH // 2] * 300)


def test_a_machine_at_its_limit_does_not_hunt() -> None:
    trace = Trace()
    for _ in range(3000):  # as soon as it takes calls it is late again
        trace.play([CALM if trace.lateness.overloaded else LATE])
    entered = [at for at, overloaded in trace.changes if overloaded]
    gaps = [after - before for before, after in pairwise(entered)]
    assert len(gaps) > 20
    assert gaps[0] >= CALM_S
    assert all(gap >= MOST_CALM_S for gap in gaps[4:])


def test_after_a_long_good_time_recovery_is_quick_again() -> None:
    trace = Trace()
    for _ in range(4):
        trace.play([LATE] * 5)
        while trace.play([CALM]):
            pass
    trace.play([CALM] * int(SOON_S + 1))
    trace.play([LATE] * 5)
    assert not trace.play([CALM] * int(CALM_S + WINDOW_S + 2))


def test_zero_sees_no_overload() -> None:
    trace = Trace(0)
    assert not trace.play([50] * 100, wait_ms=1000)
    assert trace.lateness.figures.late_percent == 100
