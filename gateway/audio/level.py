"""How loud speech is, for people who watch: the level of both sides of a call, measured over a while."""

from __future__ import annotations

import math

import numpy as np

FULL_SCALE = 32768.0
SILENCE_DBFS = -90.0
"""The lowest level that is told; 16 bits hold no lower one."""


class LevelMeter:
    """The root mean square of a stream of PCM16 between two readings. No locks; use it from one thread."""

    def __init__(self) -> None:
        self._energy = 0.0
        self._samples = 0

    def add(self, pcm: bytes) -> None:
        """Hear the next part of the stream, signed 16-bit little-endian mono."""
        samples = np.frombuffer(pcm, "<i2").astype(np.float64)
        self._energy += float(samples.dot(samples))
        self._samples += len(samples)

    def read(self) -> float:
        """
        Return the level since the last reading and begin anew.

        Returns:
            dB relative to full scale (a constant 32768 is 0), with one decimal; at least ``SILENCE_DBFS``, which is
            also what silence and the lack of any sound have.
        """
        mean = self._energy / self._samples / FULL_SCALE**2 if self._samples else 0.0
        self._energy, self._samples = 0.0, 0
        return round(max(SILENCE_DBFS, 10 * math.log10(mean)), 1) if mean else SILENCE_DBFS
