"""Figures about sent and received audio."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.lab.figures.measure import (
    Correlation,
    correlation,
    damaged_share,
    located_segments,
    longest_dropout_ms,
    longest_gap_ms,
    percentile,
    segment_correlation,
    segments,
)

pytestmark = pytest.mark.unit

RATE_HZ = 8000


def noise(seconds: float, seed: int = 1, level: float = 8000) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, level / 3, round(seconds * RATE_HZ))


def pcm(*parts: NDArray[np.float64]) -> bytes:
    return np.clip(np.concatenate(parts), -32768, 32767).astype("<i2").tobytes()


def silence(seconds: float) -> NDArray[np.float64]:
    return np.zeros(round(seconds * RATE_HZ))


def test_the_same_audio_later_is_found_with_its_lag() -> None:
    sent = noise(2)
    found = correlation(pcm(sent), pcm(silence(0.1), sent * 0.3), RATE_HZ, 500)
    assert found.peak == pytest.approx(1, abs=1e-3)
    assert found.lag_ms == pytest.approx(100)


def test_the_same_audio_earlier_has_a_negative_lag() -> None:
    sent = noise(2)
    found = correlation(pcm(silence(0.05), sent), pcm(sent), RATE_HZ, 500)
    assert found.peak == pytest.approx(1, abs=1e-3)
    assert found.lag_ms == pytest.approx(-50)


def test_other_audio_is_not_alike() -> None:
    assert correlation(pcm(noise(2, 1)), pcm(noise(2, 2)), RATE_HZ, 500).peak < 0.1
    assert segment_correlation(pcm(noise(2, 1)), pcm(noise(2, 2)), RATE_HZ, 100).peak < 0.15


def test_audio_in_equal_noise_is_half_alike() -> None:
    sent = noise(4, 1)
    found = correlation(pcm(sent), pcm(sent + noise(4, 2)), RATE_HZ, 100)
    assert found.peak == pytest.approx(2**-0.5, abs=0.02)


def test_silence_is_like_nothing() -> None:
    nothing = Correlation(0, 0)
    for compare in (correlation, segment_correlation):
        assert compare(pcm(silence(1)), pcm(noise(1)), RATE_HZ, 100) == nothing
        assert compare(pcm(noise(1)), pcm(silence(1)), RATE_HZ, 100).peak == 0
        assert compare(b"", b"", RATE_HZ, 100) == nothing


def test_a_lag_beyond_the_limit_is_not_found() -> None:
    sent = noise(2)
    assert correlation(pcm(sent), pcm(silence(0.3), sent), RATE_HZ, 200).peak < 0.2


def test_a_scrap_of_overlap_does_not_count() -> None:
    received = pcm(silence(0.99), noise(0.01, 5))
    assert correlation(pcm(noise(0.01, 5), silence(0.99)), received, RATE_HZ, 2000).peak == pytest.approx(0, abs=1e-9)


def test_segments_bear_a_pause_that_was_stretched() -> None:
    first, second = noise(3, 1), noise(3, 2)
    sent = pcm(first, silence(1), second)
    received = pcm(first, silence(1.04), second)
    assert correlation(sent, received, RATE_HZ, 200).peak < 0.8
    found = segment_correlation(sent, received, RATE_HZ, 200)
    assert found.peak > 0.99
    assert 0 <= found.lag_ms <= 40


def test_segments_that_are_missing_at_the_receiver_count_as_not_alike() -> None:
    sent = noise(4)
    found = segment_correlation(pcm(sent), pcm(sent[:RATE_HZ]), RATE_HZ, 100)
    assert found.peak < 0.5


def test_a_dropout_is_voiced_audio_that_became_silence() -> None:
    sent = noise(2)
    received = sent.copy()
    received[4000:4960] = 0  # 120 ms
    late = pcm(silence(0.04), received)
    assert longest_dropout_ms(pcm(sent), late, RATE_HZ, 40) == pytest.approx(120, abs=10)
    assert longest_dropout_ms(pcm(sent), pcm(sent), RATE_HZ, 0) == 0
    assert longest_dropout_ms(pcm(silence(2)), pcm(silence(2)), RATE_HZ, 0) == 0


def test_audio_that_ends_early_is_a_dropout_to_the_end() -> None:
    assert longest_dropout_ms(pcm(noise(2)), pcm(noise(1.5)), RATE_HZ, 0) == 500
    assert longest_dropout_ms(pcm(noise(1)), pcm(noise(1)), RATE_HZ, -100) == 100


def test_the_longest_gap_is_between_neighbours() -> None:
    assert longest_gap_ms([1.0, 1.02, 1.07, 1.09]) == pytest.approx(50)
    assert longest_gap_ms([1.0]) == longest_gap_ms([]) == 0


def test_percentiles_are_interpolated() -> None:
    assert percentile([1, 2, 3, 4, 5], 50) == 3
    assert percentile([10, 20], 75) == pytest.approx(17.5)
    with pytest.raises(ValueError, match="no values"):
        percentile([], 99)


def speechlike(seconds: float, seed: int = 5) -> bytes:
    noise = np.random.default_rng(seed).normal(0, 3000, round(seconds * 8000))
    return np.clip(noise, -32000, 32000).astype("<i2").tobytes()


def test_stretches_are_found_where_they_went() -> None:
    sent = speechlike(2)
    later = bytes(2 * 8 * 70) + sent[: 2 * 8000] + bytes(2 * 8 * 30) + sent[2 * 8000 :]  # grows by 30 ms in the middle
    found = located_segments(sent, later, 8000, 200)
    assert [at_ms for at_ms, _ in found] == [0, 500, 1000, 1500]
    assert [place.lag_ms for _, place in found] == [70, 70, 100, 100]
    assert [place.lag_ms for place in segments(sent, later, 8000, 40, around_ms=90)] == [70, 70, 100, 100]
    early = segments(later[1600:], sent, 8000, 200, around_ms=-70)
    assert early[0].lag_ms == 30


def test_the_damaged_share_counts_what_is_gone_and_not_what_is_late() -> None:
    sent = speechlike(6)
    assert damaged_share(sent, bytes(2 * 8 * 100) + sent, 8000, 500) == 0
    holed = bytearray(sent)
    for start_ms in range(600, 6000, 600):  # 60 ms out of each 600
        holed[16 * start_ms : 16 * (start_ms + 60)] = bytes(16 * 60)
    assert damaged_share(sent, bytes(holed), 8000, 500) == pytest.approx(0.09, abs=0.02)
    assert damaged_share(sent, speechlike(6, seed=6), 8000, 500) > 0.95
    assert damaged_share(bytes(16000), sent, 8000, 500) == 1
