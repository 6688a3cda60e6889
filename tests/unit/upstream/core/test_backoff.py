"""Delays between attempts."""

from __future__ import annotations

import pytest

from gateway.upstream.core.backoff import Backoff

pytestmark = pytest.mark.unit


def ceilings(first_s: float = 0.5, last_s: float = 8.0, count: int = 7) -> list[float]:
    backoff = Backoff(first_s, last_s, draw=lambda _low, high: high)
    return [backoff.next_s() for _ in range(count)]


def test_the_ceiling_doubles_until_the_last() -> None:
    assert ceilings() == [0.5, 1, 2, 4, 8, 8, 8]


def test_every_delay_is_drawn_between_nothing_and_the_ceiling() -> None:
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    backoff = Backoff(0.5, 8.0, draw)
    assert [backoff.next_s(), backoff.next_s()] == [0.0, 0.0]
    assert drawn == [(0.0, 0.5), (0.0, 1.0)]


def test_delays_spread_over_the_whole_range() -> None:
    delays = [Backoff(1.0, 8.0).next_s() for _ in range(200)]

    assert all(0 <= delay <= 1 for delay in delays)
    assert min(delays) < 0.25
    assert max(delays) > 0.75


def test_what_the_service_asks_for_is_a_floor() -> None:
    backoff = Backoff(0.5, 8.0, draw=lambda _low, high: high)

    assert backoff.next_s(3.0) == 3.0
    assert backoff.next_s(0.1) == 1.0


def test_a_reset_begins_anew() -> None:
    backoff = Backoff(0.5, 8.0, draw=lambda _low, high: high)
    backoff.next_s()
    backoff.next_s()
    backoff.reset()

    assert backoff.next_s() == 0.5
