"""How the ticks of the media clock are counted, and what is made of them."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from gateway.settings.sip import SipSettings
from gateway.sip.calls import overload
from gateway.sip.calls.overload import ClockTicks, Overload
from tests.fakes.threads import playing

pytestmark = pytest.mark.unit


class Clock:
    """Serves four ports at each tick."""

    def __init__(self, ticks: ClockTicks) -> None:
        self._ticks = ticks
        self.now = 100.0

    def play(self, *gaps_ms: float) -> None:
        """Tick after each of these gaps."""
        with playing("clock"):
            for gap in gaps_ms:
                self.now += gap / 1000
                for port in range(4):
                    self._ticks.note(self.now + port * 0.0002)


def test_a_tick_is_counted_once_for_all_ports() -> None:
    ticks = ClockTicks(20)
    Clock(ticks).play(*[20.0] * 51)
    assert (ticks.ticks, ticks.late) == (50, 0)


@pytest.mark.parametrize(
    ("gaps_ms", "counted", "late"),
    [((20, 39, 5), 3, 0), ((41,), 2, 1), ((81, 1, 1, 1, 17), 5, 3), ((525,), 26, 25)],
)
def test_every_tick_that_was_due_in_a_gap_counts(gaps_ms: tuple[float, ...], counted: int, late: int) -> None:
    ticks = ClockTicks(20)
    Clock(ticks).play(20, *gaps_ms)
    assert (ticks.ticks, ticks.late) == (counted, late)


def test_a_pause_is_not_late() -> None:
    ticks = ClockTicks(20)
    Clock(ticks).play(20, 20, 5000, 20)
    assert (ticks.ticks, ticks.late) == (2, 0)


def test_short_calls_one_after_the_other_are_not_late() -> None:
    ticks = ClockTicks(20)
    clock = Clock(ticks)
    for _ in range(10):
        with playing("sip"):
            ticks.begin()
        clock.play(300, 20, 20)
    assert (ticks.ticks, ticks.late) == (20, 0)


def test_each_change_is_told_with_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overload, "_waited_so_far", lambda: (0, 1000))
    changes: list[bool] = []
    watch = Overload(SipSettings(), changes.append)
    clock = Clock(watch.clock)
    with capture_logs() as logs:
        for second in range(40):
            clock.play(*([60.0] * 17 if 3 <= second < 6 else [20.0] * 50))
            with playing("sip"):
                watch.tick(clock.now)
    assert changes == [True, False]
    told = {line["event"]: line for line in logs}
    assert told["worker_overloaded"]["late_percent"] >= 10
    assert told["worker_overloaded"]["worst_ms"] == 40
    assert "fleet.calls" in told["worker_overloaded"]["detail"]
    assert told["worker_recovered"]["after_s"] >= 10
