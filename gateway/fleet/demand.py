"""
How many workers a fleet needs. Pure: times are arguments.

A fleet keeps the places of ``spare`` workers free. What it needs is the workers that its calls would fill, and the
spare ones besides. When calls come so fast that the free places run out before new workers are ready, it doubles: as
many as are full are started beside the spare ones, so that a fleet grows as fast as its load.

It shrinks slowly: what was needed at any time within ``idle_s`` is kept. Then the workers with the fewest calls drain,
those without calls first. An edge spreads calls over all workers, so one that is to end may have a call yet; it ends
with it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seat:
    """
    A worker that takes calls, or will.

    Attributes:
        number: of the worker.
        live_calls: calls that it has.
        starting: it is not ready yet.
    """

    number: int
    live_calls: int
    starting: bool = False


def needed(seats: Sequence[Seat], *, capacity: int, spare: int, most: int) -> int:
    """
    Return how many workers should be there.

    Args:
        seats: those that take calls or are about to.
        capacity: calls of one worker.
        spare: workers whose places are to be free.
        most: never more than these.
    """
    live = sum(seat.live_calls for seat in seats)
    full = math.ceil(live / capacity)
    free = sum(max(0, capacity - seat.live_calls) for seat in seats if not seat.starting)
    ramp = full if 2 * free < spare * capacity else 0
    return max(1, min(full + max(spare, ramp), most))


class Demand:
    """
    What was needed lately.

    Args:
        capacity: calls of one worker.
        spare: workers whose places are to be free.
        most: workers of the whole fleet.
        idle_s: how long a worker that is not needed is kept.
    """

    def __init__(self, *, capacity: int, spare: int, most: int, idle_s: float) -> None:
        self._capacity = capacity
        self._spare = spare
        self._most = most
        self._idle_s = idle_s
        self._peaks: deque[tuple[float, int]] = deque()  # later ones are smaller

    def target(self, seats: Sequence[Seat], now: float) -> int:
        """
        Return how many workers to have: as many as there are, unless that is too few now or was too many for long.

        Args:
            seats: those that take calls or are about to.
            now: monotonic seconds.
        """
        least = needed(seats, capacity=self._capacity, spare=self._spare, most=self._most)
        while self._peaks and self._peaks[-1][1] <= least:
            self._peaks.pop()
        self._peaks.append((now, least))
        while self._peaks[0][0] <= now - self._idle_s:
            self._peaks.popleft()
        return max(least, min(len(seats), self._peaks[0][1]))


def emptiest(seats: Sequence[Seat], count: int) -> list[int]:
    """Return the numbers of the ready workers with the fewest calls; of equal ones, those that started last."""
    ready = sorted((seat.live_calls, -seat.number) for seat in seats if not seat.starting)
    return [-number for _, number in ready[: max(0, count)]]
