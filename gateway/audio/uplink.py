"""
The caller's voice on its way to the model: written by the clock every 20 ms, read by the loop.

How it works. The clock writes the frames of all calls within a millisecond of each other (``UplinkTap.write_frame``)
and wakes nobody: that would cost a system call, and the two threads would contend for the interpreter while the clock
is at work. It notes the time instead, and the loop keeps one timer for all calls (``UplinkRounds``), which fires
``GATHER_S`` after the next frames are due. So the rounds stay in step with the clock, and the loop wakes once for all.

Threads: ``UplinkTap.write_frame`` is the clock's; everything else runs on the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from gateway.threads import runs_on

GATHER_S = 0.002
"""The clock is done with the frames of all calls by then."""

LATE_S = 0.004
"""The next look at a clock that is late: the machine is busy."""


class UplinkTap:
    """
    A bounded queue of the caller's frames; when full, the oldest goes.

    ``deque.append`` and ``popleft`` are atomic in CPython, so neither side ever waits for the other.

    Args:
        capacity_frames: frames held at the most.

    Attributes:
        dropped_frames: those that went because it was full.
        written_at: monotonic seconds at which the newest frame came; 0 before the first.
    """

    def __init__(self, *, capacity_frames: int) -> None:
        self._frames: deque[bytes] = deque(maxlen=capacity_frames)
        self.dropped_frames = 0
        self.written_at = 0.0

    @runs_on("clock")
    def write_frame(self, frame: bytes) -> None:
        """Append one frame. Thread: clock; never waits."""
        if len(self._frames) == self._frames.maxlen:
            self.dropped_frames += 1
        self._frames.append(frame)
        self.written_at = time.monotonic()

    @runs_on("loop")
    def read(self) -> bytes:
        """Take everything that waits, joined; empty when nothing does."""
        frames = []
        while self._frames:
            frames.append(self._frames.popleft())
        return b"".join(frames)


class ClockWritten(Protocol):
    """Something that the clock writes frames to."""

    @property
    def written_at(self) -> float:
        """Monotonic seconds at which the newest frame came; 0 before the first."""


class UplinkRounds:
    """
    The rounds of a process: whoever joined is visited after each ``every_ms`` of frames, all calls in one go.

    Args:
        loop: where the visits are made.
        every_ms: between two rounds; whole frames.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, every_ms: int) -> None:
        self._loop = loop
        self._every_s = every_ms / 1000
        self._visits: dict[Callable[[], None], ClockWritten] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._seen_at = 0.0  # of the newest frame at the last round

    @runs_on("loop")
    def join(self, tap: ClockWritten, visit: Callable[[], None]) -> None:
        """Call ``visit`` in every round from now on: frames of ``tap`` may wait."""
        self._visits[visit] = tap
        if self._timer is None:
            self._timer = self._loop.call_later(0, self._go_round)

    @runs_on("loop")
    def leave(self, visit: Callable[[], None]) -> None:
        """Call ``visit`` no more."""
        self._visits.pop(visit, None)
        if not self._visits and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @runs_on("loop")
    def _go_round(self) -> None:
        newest_at = max(tap.written_at for tap in self._visits.values())
        self._timer = self._loop.call_later(self._pause_s(newest_at), self._go_round)
        if newest_at != self._seen_at:
            self._seen_at = newest_at
            for visit in tuple(self._visits):  # one that fails costs the others a round: their frames wait
                visit()

    def _pause_s(self, newest_at: float) -> float:
        """Return the seconds until the next round; if the clock is late it comes soon, unless it stands still."""
        until_next_s = newest_at + self._every_s + GATHER_S - self._loop.time()
        if until_next_s > 0:
            return until_next_s
        return LATE_S if until_next_s > -self._every_s else self._every_s
