"""The caller's frames between the clock and the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.audio.uplink import GATHER_S, Doorbell, UplinkTap
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


def test_the_bell_rings_once_until_the_next_read() -> None:
    rings: list[int] = []
    tap = UplinkTap(capacity_frames=10)
    tap.listen(lambda: rings.append(1))
    clock_writes(tap, b"1", b"2")
    assert len(rings) == 1
    tap.read()
    assert len(rings) == 1
    clock_writes(tap, b"3")
    assert len(rings) == 2


def test_frames_written_before_anyone_listens_wait() -> None:
    rings: list[int] = []
    tap = UplinkTap(capacity_frames=10)
    clock_writes(tap, b"1")
    tap.listen(lambda: rings.append(1))
    clock_writes(tap, b"2")
    assert rings == [1]
    assert tap.read() == b"12"


def test_nobody_is_woken_after_listening_ended() -> None:
    rings: list[int] = []
    tap = UplinkTap(capacity_frames=10)
    tap.listen(lambda: rings.append(1))
    tap.listen(None)
    clock_writes(tap, b"1")
    assert rings == []


class TapWithALoopThatStopsListening(UplinkTap):
    """Lets the loop end its listening at the worst moment: while the clock is looking whether to ring."""

    _stored: Callable[[], None] | None = None

    @property
    def _wake(self) -> Callable[[], None] | None:
        wake, self._stored = self._stored, None
        return wake

    @_wake.setter
    def _wake(self, wake: Callable[[], None] | None) -> None:
        self._stored = wake


def test_listening_that_ends_while_a_frame_is_written_does_not_break_the_clock() -> None:
    rings: list[int] = []
    tap = TapWithALoopThatStopsListening(capacity_frames=10)
    tap.listen(lambda: rings.append(1))
    clock_writes(tap, b"1", b"2")
    assert tap.read() == b"12"
    assert rings == [1]


class LoopByHand:
    """Takes what is to be called, and calls it when told."""

    def __init__(self) -> None:
        self.soon: list[tuple[Any, ...]] = []
        self.later: list[tuple[float, Callable[[], None]]] = []

    def call_soon_threadsafe(self, function: Callable[..., object], *args: object) -> None:
        self.soon.append((function, *args))

    def call_soon(self, function: Callable[..., object]) -> None:
        self.soon.append((function,))

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        self.later.append((seconds, function))

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for function, *args in soon:
            function(*args)
        later, self.later = self.later, []
        for seconds, visit in later:
            assert seconds == GATHER_S
            visit()


def rung(doorbell: Doorbell, *visits: Callable[[], None]) -> None:
    with playing("clock"):
        for visit in visits:
            doorbell.ring(visit)


def test_the_loop_is_woken_once_for_all_calls_of_a_tick() -> None:
    loop, visited = LoopByHand(), []
    doorbell = Doorbell(loop)  # type: ignore[arg-type]
    rung(doorbell, lambda: visited.append(1), lambda: visited.append(2), lambda: visited.append(3))
    assert len(loop.soon) == 1
    loop.turn()
    assert visited == [1, 2, 3]
    rung(doorbell, lambda: visited.append(4))
    loop.turn()
    assert visited == [1, 2, 3, 4]


def test_a_visit_that_fails_does_not_cost_the_others_theirs() -> None:
    loop, visited = LoopByHand(), []
    doorbell = Doorbell(loop)  # type: ignore[arg-type]
    rung(doorbell, lambda: visited.append(1 // 0), lambda: visited.append(2))
    with pytest.raises(ZeroDivisionError):
        loop.turn()
    loop.turn()
    assert visited == [2]
