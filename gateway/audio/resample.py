"""
Streaming conversion between 8 kHz (the phone) and 24 kHz (the model).

One linear-phase low-pass at 24 kHz, 123 taps under a Kaiser window, serves both ways: it removes the images
after zero-stuffing and the aliases before decimation. Only the products that count are computed (polyphase),
several output samples in one matrix product.

The taps are whole multiples of 2**-22, so every product and sum is exact in float64: the same audio gives the
same bytes however it is cut, on any machine. Design and measured figures: ``docs/performance.md``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gateway.audio.pcm import BYTES_PER_SAMPLE, MODEL, PHONE

FloatArray = NDArray[np.float64]

RATIO = MODEL.rate_hz // PHONE.rate_hz
TAPS = 123
CUTOFF_HZ = 3590  # with this window: -0.3 dB at 3300 Hz, -72 dB from 4050 Hz on
KAISER_BETA = 7.0
GRID = 2.0**22

# The filter's centre, counted in samples at 24 kHz. Down, the newest of three samples is already used.
UP_DELAY_MS = (TAPS // 2) / MODEL.rate_hz * 1000
DOWN_DELAY_MS = (TAPS // 2 - (RATIO - 1)) / MODEL.rate_hz * 1000

_PHONE_BLOCK = 8  # samples at 8 kHz per row of a matrix product; measured: cheapest for 20 ms and for 250 ms
_ROWS = 64  # rows per product: fits the cache and stays below the size at which BLAS wakes its threads
_SILENCE = bytes(BYTES_PER_SAMPLE)


def design_taps() -> FloatArray:
    """Return the low-pass: ``TAPS`` symmetric values with sum 1, on the grid that makes sums exact."""
    centred = np.arange(TAPS) - TAPS // 2
    ideal = np.sinc(2 * CUTOFF_HZ / MODEL.rate_hz * centred)
    taps = ideal * np.kaiser(TAPS, KAISER_BETA)
    return np.asarray(np.rint(taps / taps.sum() * GRID) / GRID)


def _up_matrix(taps: FloatArray) -> FloatArray:
    """Return the matrix that turns a window of 8 kHz samples into one block at 24 kHz."""
    per_phase = TAPS // RATIO
    matrix = np.zeros((per_phase - 1 + _PHONE_BLOCK, RATIO * _PHONE_BLOCK))
    for sample in range(_PHONE_BLOCK):
        for phase in range(RATIO):
            # Zero-stuffing divides the level by the ratio; the filter gives it back.
            matrix[sample : sample + per_phase, RATIO * sample + phase] = RATIO * taps[phase::RATIO][::-1]
    return matrix


def _down_matrix(taps: FloatArray) -> FloatArray:
    """Return the matrix that turns a window of 24 kHz samples into one block at 8 kHz."""
    matrix = np.zeros((TAPS - RATIO + RATIO * _PHONE_BLOCK, _PHONE_BLOCK))
    for sample in range(_PHONE_BLOCK):
        matrix[RATIO * sample : RATIO * sample + TAPS, sample] = taps[::-1]
    return matrix


class _Resampler:
    """
    A streaming filter given as a matrix: (history + block) samples in, one block of output out.

    Args:
        matrix: shape (window, samples out per block).
        block: new input samples per block.
        unit: input samples that must be together before anything can be put out.
    """

    def __init__(self, matrix: FloatArray, *, block: int, unit: int) -> None:
        self._matrix = matrix
        self._block = block
        self._unit_bytes = unit * BYTES_PER_SAMPLE
        self._history_size = matrix.shape[0] - block
        self.reset()

    def reset(self) -> None:
        """Forget everything heard, as if new."""
        self._history: FloatArray = np.zeros(self._history_size)
        self._carry = b""

    def process(self, pcm: bytes) -> bytes:
        """
        Convert the next part of the stream.

        Args:
            pcm: signed 16-bit little-endian mono; any number of bytes. What does not fill a unit waits.

        Returns:
            As many whole samples at the other rate as can be told now; may be empty.
        """
        data = self._carry + pcm if self._carry else pcm
        usable = len(data) - len(data) % self._unit_bytes
        self._carry = data[usable:]
        if not usable:
            return b""
        return self._filter(np.frombuffer(data, dtype="<i2", count=usable // BYTES_PER_SAMPLE))

    def tail(self) -> bytes:
        """
        End the stream: put out what the filter still holds, as if silence followed, and reset.

        Half a sample that waits for its other byte is dropped; whole samples of an unfinished unit are not.
        """
        whole = len(self._carry) // BYTES_PER_SAMPLE * BYTES_PER_SAMPLE
        self._carry = self._carry[:whole]
        held = self._history_size + whole // BYTES_PER_SAMPLE
        ended = self.process(_SILENCE * held)
        self.reset()
        return ended

    def _filter(self, samples: NDArray[np.int16]) -> bytes:
        block, history = self._block, self._history_size
        window, produced = self._matrix.shape
        rows = -(-samples.size // block)
        signal = np.zeros(history + rows * block)
        signal[:history] = self._history
        signal[history : history + samples.size] = samples
        self._history = signal[samples.size : samples.size + history].copy()
        # A view of overlapping windows; each product below copies its own few, as BLAS wants them in a row.
        step = signal.itemsize
        windows = np.ndarray((rows, window), np.float64, signal, 0, (block * step, step))
        out = np.empty((rows, produced))
        for row in range(0, rows, _ROWS):
            np.matmul(windows[row : row + _ROWS].copy(), self._matrix, out=out[row : row + _ROWS])
        wanted = out.reshape(-1)[: samples.size * produced // block]
        np.rint(wanted, out=wanted)
        np.minimum(wanted, 32767, out=wanted)
        np.maximum(wanted, -32768, out=wanted)
        return wanted.astype("<i2").tobytes()


_TAPS = design_taps()
_UP = _up_matrix(_TAPS)
_DOWN = _down_matrix(_TAPS)


class Upsampler(_Resampler):
    """
    8 kHz to 24 kHz, three samples for each; delays the speech by 2.5 ms.

    One per call and direction: it keeps state between chunks. No locks; use it from one thread.
    """

    def __init__(self) -> None:
        super().__init__(_UP, block=_PHONE_BLOCK, unit=1)


class Downsampler(_Resampler):
    """
    24 kHz to 8 kHz, one sample for each three; delays the speech by 2.5 ms.

    One per call and direction: it keeps state between chunks. No locks; use it from one thread.
    """

    def __init__(self) -> None:
        super().__init__(_DOWN, block=RATIO * _PHONE_BLOCK, unit=RATIO)
