"""RTP of many calls as rows of numbers, and the figures of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PACKET = np.dtype(
    [("at_ns", np.int64), ("port", np.uint16), ("sequence", np.uint16), ("ssrc", np.uint32), ("is_speech", np.bool_)]
)
"""A packet: when it came (epoch), the far port, its numbers, whether it was louder than line noise."""

Rows = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Packets:
    """
    Packets of several calls, in the order they came.

    Attributes:
        rows: of ``PACKET``.
    """

    rows: Rows

    def of(self, port: int, *, since_ns: int = 0, until_ns: int = 2**63 - 1) -> Packets:
        """Return those of one call, between two times."""
        rows = self.rows
        return Packets(rows[(rows["port"] == port) & (rows["at_ns"] >= since_ns) & (rows["at_ns"] < until_ns)])

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lost(self) -> int:
        """How many of the stream's numbers are missing."""
        missing = 0
        for ssrc in np.unique(self.rows["ssrc"]):
            numbers = self.rows["sequence"][self.rows["ssrc"] == ssrc].astype(np.int64)
            steps = (np.diff(numbers) + 2**15) % 2**16 - 2**15  # a difference of 16 bits, as the nearest signed number
            places = np.concatenate([[0], np.cumsum(steps)])
            missing += int(places.max() - places.min()) + 1 - len(np.unique(places))
        return missing

    @property
    def speech_share(self) -> float:
        """Share of packets with speech in them; 0 for none."""
        return float(self.rows["is_speech"].mean()) if len(self.rows) else 0.0

    def intervals_ms(self) -> NDArray[np.float64]:
        """Return the times between packets that came one after the other; of one call."""
        return np.diff(self.rows["at_ns"]) / 1e6


def all_intervals_ms(calls: Iterable[Packets]) -> NDArray[np.float64]:
    """Return the intervals of several calls together."""
    return np.concatenate([np.zeros(0), *(call.intervals_ms() for call in calls)])
