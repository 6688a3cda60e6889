"""The E-model, and the record's fields."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.sip.core.quality import PAUSE_FACTOR, R_BEST, CodecWatch, RtpWatch, StreamCounts, mean_opinion, rating
from gateway.store.record import RECORD_FIELDS

pytestmark = pytest.mark.unit

COUNTS = StreamCounts(
    rx_packets=950, rx_lost=50, rx_jitter_ms=2.0, tx_packets=1000, tx_lost=10, reports=3, rtt_ms=80, buffer_ms=40
)


@pytest.mark.parametrize(
    ("r", "score"), [(0, 1.0), (-5, 1.0), (50, 2.58), (60, 3.1), (70, 3.6), (80, 4.02), (93.2, 4.41), (100, 4.5)]
)
def test_a_rating_gives_the_score_of_g_107_annex_b(r: float, score: float) -> None:
    assert mean_opinion(r) == pytest.approx(score, abs=0.01)


def test_nothing_lost_and_no_delay_is_the_best() -> None:
    assert rating(0, 0, "PCMU") == R_BEST


@pytest.mark.parametrize(("delay_ms", "expected"), [(100, 90.8), (177.3, 88.9), (200, 85.9), (400, 59.1)])
def test_delay_costs_little_up_to_177_ms_and_much_beyond(delay_ms: float, expected: float) -> None:
    assert rating(delay_ms, 0, "PCMA") == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(("loss", "expected"), [(1, 89.56), (5, 77.42), (25.1, 45.7), (100, 17.26)])
def test_loss_costs_as_its_robustness_says(loss: float, expected: float) -> None:
    assert rating(0, loss, "PCMU") == pytest.approx(expected, abs=0.05)


def test_scores_fall_with_every_loss_and_never_leave_the_scale() -> None:
    scores = [mean_opinion(rating(50, loss, codec)) for codec in ("PCMU", "other") for loss in range(0, 101, 5)]
    assert all(1 <= score <= 4.5 for score in scores)
    assert scores[:21] == sorted(scores[:21], reverse=True)


def test_the_fields_are_those_of_the_record() -> None:
    fields = COUNTS.fields("PCMU")
    assert fields.keys() <= RECORD_FIELDS
    assert fields["rx_lost"] == 50
    assert fields["tx_lost"] == 10
    assert fields["rtt_ms"] == 80
    assert fields["mos"] == pytest.approx(mean_opinion(rating(100, 5, "PCMU")), abs=0.01)


def test_what_nobody_reported_is_left_out() -> None:
    assert StreamCounts(tx_packets=5).fields("PCMU") == {
        "rx_packets": 0,
        "rx_lost": 0,
        "tx_packets": 5,
        "late_frames": 0,
        "underruns": 0,
    }
    assert "tx_lost" not in replace(COUNTS, reports=0).fields("PCMU")


def test_streams_one_after_the_other_are_added_up() -> None:
    both = COUNTS.and_then(replace(COUNTS, rx_packets=50, rx_jitter_ms=22.0, rtt_ms=0))
    assert (both.rx_packets, both.rx_lost, both.tx_packets) == (1000, 100, 2000)
    assert both.rx_jitter_ms == pytest.approx(3.0)
    assert both.rtt_ms == 80
    assert StreamCounts().and_then(COUNTS) == COUNTS


def started(limit_s: float = 10) -> RtpWatch:
    watch = RtpWatch(limit_s)
    watch.begin(0)
    watch.silent_s((0, 0), 0, owed=True, may_pause=False)
    return watch


def test_audio_that_never_comes_is_missed() -> None:
    watch = started()
    told = [watch.silent_s((0, 0), now, owed=True, may_pause=False) for now in range(1, 22)]
    assert [(at, silent) for at, silent in enumerate(told, 1) if silent] == [(10, 10), (20, 10)]


def test_packets_and_reports_show_that_somebody_is_there() -> None:
    watch = started()
    assert watch.silent_s((5, 0), 9, owed=True, may_pause=False) is None
    assert watch.silent_s((5, 1), 18, owed=True, may_pause=False) is None
    assert watch.silent_s((5, 1), 28, owed=True, may_pause=False) == 10


def test_nothing_is_missed_on_hold_and_the_count_begins_anew_after_it() -> None:
    watch = started()
    assert watch.silent_s((5, 0), 60, owed=False, may_pause=False) is None
    assert watch.silent_s((5, 0), 69, owed=True, may_pause=False) is None
    assert watch.silent_s((5, 0), 70, owed=True, may_pause=False) == 10


def test_whoever_announced_pauses_may_pause_longer() -> None:
    watch = started()
    assert watch.silent_s((0, 0), 10 * PAUSE_FACTOR - 1, owed=True, may_pause=True) is None
    assert watch.silent_s((0, 0), 10 * PAUSE_FACTOR, owed=True, may_pause=True) == 10 * PAUSE_FACTOR


def test_no_limit_misses_nothing() -> None:
    assert started(0).silent_s((0, 0), 1e6, owed=True, may_pause=False) is None


@pytest.mark.parametrize(
    ("received", "missing", "level_ms", "other"),
    [(50, 50, 0, True), (50, 2, 40, False), (25, 25, 0, False), (0, 50, 0, False), (50, 50, 60, False)],
    ids=["another codec", "ordinary", "half is lost", "silence", "a burst after a stall"],
)
def test_packets_of_which_none_is_of_use_are_in_another_codec(
    received: int, missing: int, level_ms: int, other: bool
) -> None:
    watch = CodecWatch()
    told = [watch.is_other(now, received * now, missing * now, level_ms) for now in range(1, 4)]
    assert told == [False, False, other]
