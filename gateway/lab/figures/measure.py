"""Figures about audio and packets that were sent and received: alike, late, or missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gateway.audio.pcm import BYTES_PER_SAMPLE

FloatArray = NDArray[np.float64]

SEGMENT_MS = 500
BLOCK_MS = 10
VOICED_RMS = 300.0  # -41 dB of full scale: speech, not line noise
SILENT_RMS = 30.0
STRETCH_MS = 60
SHIFT_MS = 150.0  # a jitter buffer's delay moves within this
ALIKE = 0.85


@dataclass(frozen=True, slots=True)
class Correlation:
    """
    How alike two pieces of audio are.

    Attributes:
        peak: normalised, 1 is the same but for level, 0 is nothing in common.
        lag_ms: how much later the received one is where they are most alike; negative when it is earlier.
    """

    peak: float
    lag_ms: float


NOTHING_ALIKE = Correlation(0.0, 0.0)


def correlation(sent: bytes, received: bytes, rate_hz: int, max_lag_ms: float) -> Correlation:
    """
    Compare two pieces of audio as a whole, over all lags up to ``max_lag_ms`` either way.

    Args:
        sent: signed 16-bit little-endian mono PCM.
        received: the same kind; need not be as long.
        rate_hz: samples per second of both.
        max_lag_ms: furthest lag looked at. Lags at which less than half of the shorter one overlaps do not
            count.
    """
    first, second = _samples(sent), _samples(received)
    if not first.any() or not second.any():
        return NOTHING_ALIKE
    reach = min(round(max_lag_ms * rate_hz / 1000), max(first.size, second.size) - 1)
    lags = np.arange(-reach, reach + 1)
    products = _cross(first, second)[lags]
    # What overlaps at a lag: first[start:end] with second[start+lag:end+lag].
    start = np.maximum(0, -lags)
    end = np.maximum(start, np.minimum(first.size, second.size - lags))
    energy = np.sqrt(_energy(first, start, end) * _energy(second, start + lags, end + lags))
    counts = (end - start >= min(first.size, second.size) / 2) & (energy > 0)
    alike = np.where(counts, products / np.where(energy > 0, energy, 1), 0)
    best = int(np.argmax(alike))
    return Correlation(min(1.0, max(0.0, float(alike[best]))), float(lags[best]) / rate_hz * 1000)


def segment_correlation(
    sent: bytes, received: bytes, rate_hz: int, max_lag_ms: float, segment_ms: int = SEGMENT_MS
) -> Correlation:
    """
    Compare two pieces of audio stretch by stretch: the median over the voiced stretches of ``sent``.

    A sender's and a receiver's clock differ a little, and a jitter buffer may stretch a pause: over a long call
    that spoils one correlation of the whole, but not this.
    """
    found = segments(sent, received, rate_hz, max_lag_ms, segment_ms)
    if not found:
        return NOTHING_ALIKE
    return Correlation(
        float(np.median([each.peak for each in found])), float(np.median([each.lag_ms for each in found]))
    )


def segments(
    sent: bytes, received: bytes, rate_hz: int, max_lag_ms: float, segment_ms: int = SEGMENT_MS, around_ms: float = 0.0
) -> list[Correlation]:
    """Return how alike each voiced stretch of ``sent`` is to what was received; as ``located_segments``."""
    return [place for _, place in located_segments(sent, received, rate_hz, max_lag_ms, segment_ms, around_ms)]


def located_segments(
    sent: bytes, received: bytes, rate_hz: int, max_lag_ms: float, segment_ms: int = SEGMENT_MS, around_ms: float = 0.0
) -> list[tuple[int, Correlation]]:
    """
    Find each voiced stretch of ``sent`` in ``received``.

    Args:
        sent: as for ``correlation``.
        received: likewise.
        rate_hz: samples per second of both.
        max_lag_ms: furthest lag looked at, from ``around_ms`` either way.
        segment_ms: length of a stretch.
        around_ms: lag that is expected.

    Returns:
        For each, the millisecond of ``sent`` it begins at, and where and how well it was found.
    """
    first, second = _samples(sent), _samples(received)
    length, reach = rate_hz * segment_ms // 1000, round(max_lag_ms * rate_hz / 1000)
    around = round(around_ms * rate_hz / 1000)
    second = second[around:] if around >= 0 else np.concatenate([np.zeros(-around), second])
    found = []
    for start in range(0, first.size - length + 1, length):
        segment = first[start : start + length]
        if _rms(segment) < VOICED_RMS:
            continue
        # Where the segment may be, with silence where the recording has not begun or has ended.
        window = np.zeros(length + 2 * reach)
        low, high = max(0, start - reach), min(second.size, start + length + reach)
        if high > low:
            window[low - start + reach : high - start + reach] = second[low:high]
        place = _best_place(segment, window, reach, rate_hz)
        found.append((start * 1000 // rate_hz, Correlation(place.peak, place.lag_ms + around / rate_hz * 1000)))
    return found


def damaged_share(sent: bytes, received: bytes, rate_hz: int, max_lag_ms: float) -> float:
    """
    Return the share of short voiced stretches of ``sent`` (60 ms) that cannot be found again in ``received``.

    A stretch is looked for near where the audio around it is, so that a jitter buffer that has become longer or shorter
    does not count, but the place where it did. What is lost and concealed counts.
    """
    typical = segment_correlation(sent, received, rate_hz, max_lag_ms)
    found = segments(sent, received, rate_hz, SHIFT_MS, STRETCH_MS, typical.lag_ms)
    return sum(each.peak < ALIKE for each in found) / len(found) if found else 1.0


def longest_dropout_ms(sent: bytes, received: bytes, rate_hz: int, lag_ms: float) -> int:
    """Return the longest time for which voiced audio of ``sent`` is silence in ``received``, ``lag_ms`` later."""
    block = rate_hz * BLOCK_MS // 1000
    lag = round(lag_ms * rate_hz / 1000)
    first, second = _samples(sent), _samples(received)
    second = second[lag:] if lag >= 0 else np.concatenate([np.zeros(-lag), second])
    blocks = first.size // block
    second = np.concatenate([second, np.zeros(max(0, blocks * block - second.size))])
    levels = [np.sqrt(np.mean(each[: blocks * block].reshape(blocks, block) ** 2, axis=1)) for each in (first, second)]
    longest = current = 0
    for voiced, silent in zip(levels[0] >= VOICED_RMS, levels[1] < SILENT_RMS, strict=True):
        current = current + 1 if voiced and silent else 0
        longest = max(longest, current)
    return longest * BLOCK_MS


def longest_gap_ms(arrivals_s: Sequence[float]) -> float:
    """Return the longest time between two packets that came one after the other; 0 for fewer than two."""
    return max((later - earlier for earlier, later in pairwise(arrivals_s)), default=0.0) * 1000


def percentile(values: Sequence[float], percent: float) -> float:
    """
    Return the value that ``percent`` of ``values`` do not exceed, interpolated between neighbours.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values to take a percentile of")
    return float(np.percentile(np.asarray(values, dtype=np.float64), percent))


def _samples(pcm: bytes) -> FloatArray:
    return np.frombuffer(pcm, "<i2", count=len(pcm) // BYTES_PER_SAMPLE).astype(np.float64)


def _rms(audio: FloatArray) -> float:
    return float(np.sqrt(np.mean(audio**2)))


def _cross(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return sums of first[n] * second[n + lag], to be indexed by lag (negative ones from the end)."""
    size = 1 << (first.size + second.size).bit_length()
    spectrum = np.conj(np.fft.rfft(first, size)) * np.fft.rfft(second, size)
    return np.asarray(np.fft.irfft(spectrum, size))


def _energy(audio: FloatArray, start: NDArray[np.intp], end: NDArray[np.intp]) -> FloatArray:
    """Return the sums of squares of ``audio[start:end]`` for arrays of starts and ends."""
    summed = np.concatenate([[0.0], np.cumsum(audio**2)])
    return np.asarray(summed[np.clip(end, 0, audio.size)] - summed[np.clip(start, 0, audio.size)])


def _best_place(segment: FloatArray, window: FloatArray, reach: int, rate_hz: int) -> Correlation:
    places = np.arange(window.size - segment.size + 1)
    products = _cross(segment, window)[places]
    # An all but silent place holds nothing to be alike with, whatever its shape.
    floor = segment.size * SILENT_RMS**2
    energy = np.maximum(_energy(window, places, places + segment.size), floor)
    alike = products / np.sqrt(energy * np.sum(segment**2))
    best = int(np.argmax(alike))
    return Correlation(min(1.0, max(0.0, float(alike[best]))), (best - reach) / rate_hz * 1000)
