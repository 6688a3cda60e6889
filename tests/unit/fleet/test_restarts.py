from __future__ import annotations

import pytest

from gateway.fleet.restarts import LOOP, SOON_S, Restarts

pytestmark = pytest.mark.unit


def test_a_worker_that_served_is_replaced_at_once() -> None:
    restarts = Restarts()
    for _ in range(2 * LOOP):
        restarts.died(100, SOON_S)
    assert restarts.delay_s(100) == 0
    assert not restarts.is_loop


def test_deaths_at_the_start_are_followed_by_ever_longer_delays_until_it_is_a_loop() -> None:
    restarts = Restarts()
    delays = []
    for _ in range(LOOP):
        assert not restarts.is_loop
        restarts.died(100, None)
        delays.append(restarts.delay_s(100))
    assert delays == [0.5, 1, 2, 4, 8]
    assert restarts.is_loop
    assert restarts.delay_s(105) == 3
    for _ in range(10):
        restarts.died(200, SOON_S - 1)
    assert restarts.delay_s(200) == 30


def test_one_that_serves_ends_the_count() -> None:
    restarts = Restarts()
    for _ in range(LOOP - 1):
        restarts.died(0, None)
    restarts.served(SOON_S / 2)
    restarts.died(0, None)
    assert restarts.is_loop
    restarts.served(SOON_S)
    restarts.died(0, None)
    assert not restarts.is_loop
    assert restarts.delay_s(0) == 0.5
