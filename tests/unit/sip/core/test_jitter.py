"""When the jitter buffer is to be longer, and when shorter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.sip.core.jitter import JitterPlan, JitterWatch

pytestmark = pytest.mark.unit

START_MS, MIN_MS, MAX_MS = 60, 20, 200
SOUND = JitterPlan(MIN_MS)
GAPPY = JitterPlan(80)


def plans(
    watch: JitterWatch, seconds: int, *, level_ms: int = 40, packets: int = 50, missing: int = 0
) -> Iterator[JitterPlan]:
    """Give a plan for each second of a line on which so many packets come and frames are missing each second."""
    at, received, gone = getattr(watch, "at", (0.0, 0, 0))
    for _ in range(seconds):
        at, received, gone = at + 1, received + packets, gone + missing
        watch.at = at, received, gone  # type: ignore[attr-defined]
        yield watch.measure(at, level_ms, received, gone)


@pytest.fixture
def watch() -> JitterWatch:
    return JitterWatch(START_MS, MIN_MS, MAX_MS)


def test_a_line_without_gaps_keeps_the_ordinary_prefetch(watch: JitterWatch) -> None:
    assert set(plans(watch, 60)) == {SOUND}


def test_one_lost_packet_changes_nothing(watch: JitterWatch) -> None:
    list(plans(watch, 10))
    list(plans(watch, 1, missing=2))
    assert set(plans(watch, 20)) == {SOUND}


def test_a_line_with_gaps_gets_the_longer_prefetch_within_seconds(watch: JitterWatch) -> None:
    assert list(plans(watch, 4, missing=3))[-1] == GAPPY


def test_it_gets_the_ordinary_one_back_when_the_gaps_are_over(watch: JitterWatch) -> None:
    list(plans(watch, 10, missing=5))
    later = list(plans(watch, 30))
    assert later[0] == GAPPY
    assert later[-1] == SOUND


def test_after_a_pause_of_the_far_end_the_buffer_fills_as_at_the_start(watch: JitterWatch) -> None:
    list(plans(watch, 10))
    assert set(plans(watch, 5, packets=0, missing=100, level_ms=0)) == {JitterPlan(START_MS)}
    assert set(plans(watch, 30)) == {SOUND}, "what was missing in the pause is no gap of the line"


def test_what_a_stall_has_added_is_taken_out_again(watch: JitterWatch) -> None:
    list(plans(watch, 10))
    assert list(plans(watch, 10, level_ms=180))[-1].shrink
    assert not list(plans(watch, 10, level_ms=50))[-1].shrink


def test_a_little_more_delay_than_wanted_is_left_alone(watch: JitterWatch) -> None:
    assert not any(plan.shrink for plan in plans(watch, 60, level_ms=90))


def test_a_buffer_that_is_long_for_a_moment_is_left_alone(watch: JitterWatch) -> None:
    for _ in range(20):
        assert not any(plan.shrink for plan in plans(watch, 3, level_ms=180))
        list(plans(watch, 1, level_ms=40))


def test_the_longer_prefetch_stays_below_the_longest() -> None:
    assert list(plans(JitterWatch(40, 20, 60), 5, missing=5))[-1].prefetch_ms == 60


def test_a_least_delay_above_the_longer_prefetch_counts() -> None:
    assert list(plans(JitterWatch(120, 120, 200), 5, missing=5))[-1].prefetch_ms == 120
