"""The caller's frames between the clock and the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from gateway.audio.uplink import GATHER_S, LATE_S, UplinkRounds, UplinkTap
from tests.fakes.threads import playing

pytestmark = pytest.mark.unit


def clock_writes(tap: UplinkTap, *frames: bytes) -> None:
    with playing("clock"):
        for frame in frames:
            tap.write_frame(frame)


def test_frames_are_read_joined_in_their_order_and_once() -> None:
    tap = UplinkTap(capacity_frames=10)
    clock_writes(tap, b"one", b"two", b"three")
    assert tap.read() == b"onetwothree"
    assert tap.read() == b""
    assert tap.dropped_frames == 0


def test_when_full_the_oldest_goes_and_is_counted() -> None:
    tap = UplinkTap(capacity_frames=3)
    clock_writes(tap, b"1", b"2", b"3", b"4", b"5")
    assert tap.dropped_frames == 2
    assert tap.read() == b"345"
    clock_writes(tap, b"6")
    assert tap.read() == b"6"
    assert tap.dropped_frames == 2


def test_the_time_of_the_newest_frame_is_known() -> None:
    tap = UplinkTap(capacity_frames=10)
    assert tap.written_at == 0
    clock_writes(tap, b"1")
    first = tap.written_at
    clock_writes(tap, b"2")
    assert 0 < first <= tap.written_at


@dataclass
class Timer:
    at: float
    function: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class LoopByHand:
    """Has timers, which fire when told."""

    def __init__(self) -> None:
        self.now = 100.0
        self._timers: list[Timer] = []

    @property
    def timers(self) -> list[Timer]:
        return [timer for timer in self._timers if not timer.cancelled]

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, function: Callable[[], None]) -> Timer:
        self._timers.append(Timer(self.now + seconds, function))
        return self._timers[-1]

    def turn(self) -> None:
        """Let the time come at which the timer fires."""
        [timer] = self.timers
        self._timers.clear()
        self.now = max(self.now, timer.at)
        timer.function()


def rounds_of(*visits: Callable[[], None], every_ms: int = 20) -> tuple[LoopByHand, UplinkRounds, list[UplinkTap]]:
    loop = LoopByHand()
    rounds = UplinkRounds(loop, every_ms)  # type: ignore[arg-type]
    taps = [UplinkTap(capacity_frames=10) for _ in visits]
    for tap, visit in zip(taps, visits, strict=True):
        rounds.join(tap, visit)
    return loop, rounds, taps


def test_all_calls_are_visited_behind_the_frames_of_the_last() -> None:
    visited: list[int] = []
    loop, _, taps = rounds_of(lambda: visited.append(1), lambda: visited.append(2))
    taps[0].written_at, taps[1].written_at = 100.0, 100.001
    loop.turn()
    assert visited == [1, 2]
    taps[0].written_at, taps[1].written_at = 100.02, 100.0212
    loop.turn()
    assert loop.now == pytest.approx(100.001 + 0.02 + GATHER_S)
    assert visited == [1, 2, 1, 2]
    loop.turn()
    assert loop.now == pytest.approx(100.0212 + 0.02 + GATHER_S)


def test_rounds_are_as_far_apart_as_the_messages() -> None:
    visited: list[float] = []
    loop, _, [tap] = rounds_of(lambda: visited.append(loop.now), every_ms=60)
    for tick in range(7):
        tap.written_at = 100.0 + tick * 0.02
        while loop.timers[0].at < tap.written_at + 0.02:
            loop.turn()
    assert visited == pytest.approx([100.0, 100.062, 100.122])


def test_a_late_clock_is_looked_at_again_soon_and_the_rounds_keep_in_step_with_it() -> None:
    visited: list[float] = []
    loop, _, [tap] = rounds_of(lambda: visited.append(loop.now))
    tap.written_at = 100.0
    loop.turn()
    loop.turn()
    assert visited == [100.0]
    assert loop.now == pytest.approx(100.022)
    tap.written_at = 100.025
    loop.turn()
    assert visited == [100.0, pytest.approx(100.022 + LATE_S)]
    loop.turn()
    assert loop.now == pytest.approx(100.025 + 0.02 + GATHER_S)


def test_a_clock_that_stands_still_costs_a_look_per_round_and_no_visit() -> None:
    visited: list[int] = []
    loop, _, [tap] = rounds_of(lambda: visited.append(1))
    loop.turn()
    before = loop.now
    loop.turn()
    assert loop.now == pytest.approx(before + 0.02)
    assert not visited
    tap.written_at = loop.now + 0.01
    loop.turn()
    assert visited == [1]


def test_a_visit_that_fails_costs_the_others_one_round() -> None:
    visited: list[int] = []
    loop, rounds, taps = rounds_of(lambda: fail(), lambda: visited.append(2))

    def fail() -> None:
        raise ZeroDivisionError

    taps[0].written_at = 100.0
    with pytest.raises(ZeroDivisionError):
        loop.turn()
    rounds.leave(next(iter(rounds._visits)))
    taps[1].written_at = 100.02
    loop.turn()
    assert visited == [2]


def test_without_anyone_to_visit_no_timer_runs() -> None:
    loop, rounds, _ = rounds_of(visit := lambda: None)
    loop.turn()
    rounds.leave(visit)
    rounds.leave(visit)
    assert not loop.timers
    rounds.join(UplinkTap(capacity_frames=1), visit)
    assert len(loop.timers) == 1
