"""
Streaming conversion between the rates of a call: 8 or 16 kHz (the phone) and 24 kHz (the model), 8 and 16 kHz.

For each pair of rates one linear-phase low-pass at their common multiple, under a Kaiser window, serves both ways: it
removes the images after zero-stuffing and the aliases before decimation. Only the products that count are computed
(polyphase), several output samples in one matrix product.

The taps are whole multiples of 2**-22, so every product and sum is exact in float64: the same audio gives the
same bytes however it is cut, on any machine. Design and measured figures: ``docs/performance.md``.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.audio.g711 import peak
from gateway.audio.pcm import BYTES_PER_SAMPLE, MODEL, PHONE, WIDEBAND

FloatArray = NDArray[np.float64]

KAISER_BETA = 7.0
GRID = 2.0**22

_UNITS = 8  # smallest exchanges of whole samples per row of a matrix product; measured: cheapest for 20 ms and 250 ms
_ROWS = 64  # rows per product: fits the cache and stays below the size at which BLAS wakes its threads
_PCM = np.dtype("<i2")
_HIGHEST, _LOWEST = np.array(32767.0), np.array(-32768.0)


@dataclass(frozen=True, slots=True)
class LowPass:
    """
    The filter of a pair of rates.

    Attributes:
        rate_hz: the rate it runs at, a multiple of both.
        taps: how many values, an odd number.
        cutoff_hz: where it falls by 6 dB.
    """

    rate_hz: int
    taps: int
    cutoff_hz: int

    def design(self) -> FloatArray:
        """Return its symmetric values with sum 1, on the grid that makes sums exact."""
        centred = np.arange(self.taps) - self.taps // 2
        ideal = np.sinc(2 * self.cutoff_hz / self.rate_hz * centred)
        taps = ideal * np.kaiser(self.taps, KAISER_BETA)
        return np.asarray(np.rint(taps / taps.sum() * GRID) / GRID)


LOW_PASSES = {
    # -0.3 dB at 3300 Hz, -72 dB from 4050 Hz on
    frozenset((PHONE.rate_hz, MODEL.rate_hz)): LowPass(24000, 123, 3590),
    frozenset((PHONE.rate_hz, WIDEBAND.rate_hz)): LowPass(16000, 83, 3590),
    # -0.3 dB at 6850 Hz (G.722 ends at 7000), -70 dB from 8100 Hz on
    frozenset((WIDEBAND.rate_hz, MODEL.rate_hz)): LowPass(48000, 143, 7330),
}


@dataclass(frozen=True, slots=True)
class _Plan:
    """
    How one rate becomes another: a matrix, and how many samples must be together.

    Attributes:
        matrix: shape (history and block of input samples, block of output samples).
        block: new input samples per row.
        unit: input samples that give whole output samples.
        safe_peak: no sample up to this comes out too large for 16 bits.
        delay_ms: by which the sound is later.
    """

    matrix: FloatArray
    block: int
    unit: int
    safe_peak: int
    delay_ms: float


@functools.cache
def _plan(source_hz: int, target_hz: int) -> _Plan:
    filter_ = LOW_PASSES.get(frozenset((source_hz, target_hz)))
    if filter_ is None:
        raise ValueError(f"no filter between {source_hz} and {target_hz} Hz; there is one for {list(LOW_PASSES)}")
    up, down = filter_.rate_hz // source_hz, filter_.rate_hz // target_hz
    newest = down - 1  # of the places an output sample could stand at, the latest: no input after it is needed
    history = (filter_.taps - 1 - newest) // up
    taps = up * filter_.design()  # zero-stuffing divides the level by the ratio; the filter gives it back
    matrix = np.zeros((history + _UNITS * down, _UNITS * up))
    for sample in range(_UNITS * up):
        places = sample * down + newest - np.arange(filter_.taps)  # at the filter's rate, of what each tap meets
        heard = places % up == 0  # all others are the zeros between
        matrix[history + places[heard] // up, sample] = taps[heard]
    delay_ms = (filter_.taps // 2 - newest) / filter_.rate_hz * 1000
    safe_peak = int(32767 / np.abs(matrix).sum(axis=0).max())
    return _Plan(matrix, block=_UNITS * down, unit=down, safe_peak=safe_peak, delay_ms=delay_ms)


def delay_ms(source_hz: int, target_hz: int) -> float:
    """Return by how much a ``Resampler`` delays the sound."""
    return _plan(source_hz, target_hz).delay_ms


class Resampler:
    """
    A stream of 16-bit PCM from one rate to another; delays the sound by 1.5 to 2.6 ms.

    One per call and direction: it keeps state between chunks. No locks; use it from one thread.

    Args:
        source_hz: samples per second of what comes in.
        target_hz: the same of what is wanted; the two are one of the pairs in ``LOW_PASSES``, either way round.
    """

    def __init__(self, source_hz: int, target_hz: int) -> None:
        plan = _plan(source_hz, target_hz)
        self._matrix = plan.matrix
        self._block = plan.block
        self._unit = plan.unit
        self._safe_peak = plan.safe_peak
        self._history_size = plan.matrix.shape[0] - plan.block
        self.reset()

    def reset(self) -> None:
        """Forget everything heard, as if new."""
        self._kept = bytes(self._history_size * BYTES_PER_SAMPLE)  # the filter's past, then what fills no unit yet

    def process(self, pcm: bytes) -> bytes:
        """
        Convert the next part of the stream.

        Args:
            pcm: signed 16-bit little-endian mono; any number of bytes. What does not fill a unit waits.

        Returns:
            As many whole samples at the other rate as can be computed now; may be empty.
        """
        signal = self._kept + pcm
        fresh = len(signal) // BYTES_PER_SAMPLE - self._history_size
        fresh -= fresh % self._unit
        self._kept = signal[fresh * BYTES_PER_SAMPLE :]
        return self._filter(signal, fresh) if fresh else b""

    def tail(self) -> bytes:
        """
        End the stream: put out what the filter still holds, as if silence followed, and reset.

        Half a sample that waits for its other byte is dropped; whole samples of an unfinished unit are not.
        """
        held = len(self._kept) // BYTES_PER_SAMPLE  # all of it is still to be heard in full
        self._kept = self._kept[: held * BYTES_PER_SAMPLE]
        wanted = math.ceil(held / self._unit) * self._unit
        ended = self.process(bytes((wanted - held + self._history_size) * BYTES_PER_SAMPLE))
        self.reset()
        return ended

    def _filter(self, signal: bytes, fresh: int) -> bytes:
        """Return what ``fresh`` samples come to; ``signal`` is the filter's past and these, maybe more."""
        block, (window, produced) = self._block, self._matrix.shape
        rows = -(-fresh // block)
        signal = signal[: (self._history_size + fresh) * BYTES_PER_SAMPLE]
        saturates = peak(signal) > self._safe_peak
        if missing := rows * block - fresh:
            signal += bytes(missing * BYTES_PER_SAMPLE)
        # A view of overlapping windows; each product below copies its own few, as BLAS wants them in a row.
        windows = np.ndarray((rows, window), _PCM, signal, 0, (block * BYTES_PER_SAMPLE, BYTES_PER_SAMPLE))
        pcm = self._product(windows[:_ROWS], saturates)
        if rows > _ROWS:
            pcm = b"".join(
                [pcm, *(self._product(windows[row : row + _ROWS], saturates) for row in range(_ROWS, rows, _ROWS))]
            )
        return pcm[: fresh * produced // block * BYTES_PER_SAMPLE] if missing else pcm

    def _product(self, windows: NDArray[np.int16], saturates: bool) -> bytes:
        """Return 16-bit PCM, row after row."""
        wanted = windows.astype(np.float64).dot(self._matrix)
        np.rint(wanted, out=wanted)
        if saturates:
            np.minimum(wanted, _HIGHEST, out=wanted)
            np.maximum(wanted, _LOWEST, out=wanted)
        pcm: NDArray[np.int16] = wanted.astype(_PCM)
        return pcm.tobytes()


class Upsampler(Resampler):
    """8 kHz to 24 kHz, three samples for each."""

    def __init__(self) -> None:
        super().__init__(PHONE.rate_hz, MODEL.rate_hz)


class Downsampler(Resampler):
    """24 kHz to 8 kHz, one sample for each three."""

    def __init__(self) -> None:
        super().__init__(MODEL.rate_hz, PHONE.rate_hz)
