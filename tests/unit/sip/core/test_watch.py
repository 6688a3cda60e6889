"""Missing audio and quiet callers."""

from __future__ import annotations

import pytest

from gateway.sip.core.watch import PAUSE_FACTOR, CodecWatch, RtpWatch

pytestmark = pytest.mark.unit


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
