"""The breaker over all calls: when it opens, whom it lets pass meanwhile, when it closes."""

from __future__ import annotations

import pytest

from gateway.upstream.core.breaker import (
    GIVEN_UP_S,
    LAST_PROBE_S,
    PROBE_LIMIT_S,
    AttemptResult,
    Breaker,
    Breakers,
    ConnectAttempt,
    HeldBack,
    UpstreamAway,
    UpstreamBack,
)
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.unit


class Try:
    """A breaker that opens after three losses, its clock, and what it reported; delays are the longest possible."""

    def __init__(self, losses: int = 3) -> None:
        self.clock = FakeClock()
        self.reports: list[UpstreamAway | UpstreamBack | HeldBack] = []
        self.breaker = Breaker(
            self.clock.monotonic, losses, name="m", report=self.reports.append, draw=lambda _low, high: high
        )

    def begin(self) -> ConnectAttempt:
        attempt = self.breaker.admit()
        assert isinstance(attempt, ConnectAttempt)
        return attempt

    def held(self) -> str:
        held = self.breaker.admit()
        assert isinstance(held, HeldBack)
        return held.detail

    def lose(self, times: int = 1, retry_after_s: float = 0.0) -> None:
        for _ in range(times):
            self.breaker.settle(self.begin(), AttemptResult.LOST, "HTTP 503", retry_after_s)

    def changes(self) -> list[UpstreamAway | UpstreamBack]:
        return [report for report in self.reports if not isinstance(report, HeldBack)]


def test_it_opens_after_so_many_losses_in_a_row_and_reports_it_once() -> None:
    here = Try()
    here.lose(3)

    words = here.held()
    assert words == "the service is away, no attempt was made, the next probe is due in 1.0 s: HTTP 503"
    assert here.reports == [UpstreamAway("m", 3, "HTTP 503"), HeldBack("m", words)]


def test_a_session_between_losses_begins_the_count_anew() -> None:
    here = Try()
    for _ in range(5):
        here.lose(2)
        here.breaker.settle(here.begin(), AttemptResult.READY)

    assert here.reports == []


def test_what_the_service_refuses_neither_counts_nor_begins_the_count_anew() -> None:
    here = Try()
    for _ in range(10):
        here.breaker.settle(here.begin(), AttemptResult.NEITHER)
    here.lose(2)
    here.breaker.settle(here.begin(), AttemptResult.NEITHER)
    assert here.reports == []
    here.lose()

    assert len(here.changes()) == 1


def test_an_attempt_given_up_after_long_counts_as_lost_one_given_up_soon_does_not() -> None:
    here = Try()
    for wait_s in (GIVEN_UP_S - 1, GIVEN_UP_S, GIVEN_UP_S, GIVEN_UP_S - 1):
        attempt = here.begin()
        here.clock.advance(wait_s)
        here.breaker.settle(attempt, AttemptResult.NEITHER)
    assert here.reports == []
    here.lose()

    assert len(here.changes()) == 1


def test_without_a_limit_it_never_opens() -> None:
    here = Try(losses=0)
    here.lose(100)

    assert here.reports == []


def test_probes_are_one_at_a_time_and_their_delay_grows_to_half_a_minute() -> None:
    here = Try()
    here.lose(3)
    delays = []
    for _ in range(7):
        began = here.clock.monotonic()
        while isinstance(probe := here.breaker.admit(), HeldBack):
            here.clock.advance(0.5)
        delays.append(here.clock.monotonic() - began)
        assert "a probe is under way" in here.held()
        here.breaker.settle(probe, AttemptResult.LOST, "still away")

    assert delays == [1, 2, 4, 8, 16, LAST_PROBE_S, LAST_PROBE_S]
    assert here.held().endswith("still away")
    assert len(here.changes()) == 1


def test_delays_are_spread_over_their_upper_half() -> None:
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    clock = FakeClock()
    breaker = Breaker(clock.monotonic, 1, draw=draw)
    for _ in range(3):
        attempt = breaker.admit()
        assert isinstance(attempt, ConnectAttempt)
        breaker.settle(attempt, AttemptResult.LOST)
        clock.advance(60)

    assert drawn == [(0.5, 1), (1, 2), (2, 4)]


def test_the_first_session_closes_it_and_the_report_tells_how_it_was() -> None:
    here = Try()
    here.lose(3)
    for _ in range(4):
        here.held()
    here.clock.advance(1)
    here.lose()
    here.clock.advance(2)
    here.breaker.settle(here.begin(), AttemptResult.READY)

    assert here.changes()[1:] == [UpstreamBack("m", lasted_s=3, held_back=4, probes=2)]
    here.lose(2)
    here.begin()
    assert len(here.changes()) == 2, "the count began anew"


def test_an_attempt_from_before_the_outage_closes_it_too_and_its_loss_changes_nothing() -> None:
    here = Try()
    early, late = here.begin(), here.begin()
    here.lose(3)
    here.breaker.settle(late, AttemptResult.LOST, "late")
    assert "1.0 s: HTTP 503" in here.held()
    here.breaker.settle(early, AttemptResult.READY)

    here.begin()
    assert isinstance(here.changes()[-1], UpstreamBack)


def test_a_probe_that_was_refused_or_given_up_makes_room_for_the_next_at_once() -> None:
    here = Try()
    here.lose(3)
    here.clock.advance(1)
    here.breaker.settle(here.begin(), AttemptResult.NEITHER)

    here.begin()
    assert "a probe is under way" in here.held()
    assert len(here.changes()) == 1, "only a session closes it"


def test_a_probe_that_hangs_does_not_keep_others_from_probing() -> None:
    here = Try()
    here.lose(3)
    here.clock.advance(1)
    hanging = here.begin()
    here.clock.advance(PROBE_LIMIT_S)
    assert "due in 2.0 s: no session within 10 s" in here.held()
    here.clock.advance(2)
    here.begin()
    here.breaker.settle(hanging, AttemptResult.LOST, "at last")
    assert "a probe is under way" in here.held()

    here.breaker.settle(hanging, AttemptResult.READY)
    assert isinstance(here.changes()[-1], UpstreamBack)


@pytest.mark.parametrize(("asked_s", "waits_s"), [(0.1, 1), (7, 7), (3600, LAST_PROBE_S)])
def test_what_the_service_asks_for_is_a_floor_but_never_more_than_the_longest_delay(
    asked_s: float, waits_s: float
) -> None:
    here = Try()
    here.lose(3, retry_after_s=asked_s)
    here.clock.advance(waits_s - 0.01)
    here.held()
    here.clock.advance(0.01)

    here.begin()


def test_each_model_has_a_breaker_of_its_own() -> None:
    reports: list[object] = []
    breakers = Breakers(FakeClock().monotonic, 1, reports.append)
    attempt = breakers.of("a").admit()
    assert isinstance(attempt, ConnectAttempt)
    breakers.of("a").settle(attempt, AttemptResult.LOST, "gone")

    assert isinstance(breakers.of("a").admit(), HeldBack)
    assert isinstance(breakers.of("b").admit(), ConnectAttempt)
    assert reports[0] == UpstreamAway("a", 1, "gone")
