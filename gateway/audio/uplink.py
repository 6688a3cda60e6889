"""The caller's voice on its way to the model: written by the clock every 20 ms, read by the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from gateway.threads import runs_on

GATHER_S = 0.002
"""The clock is done with the frames of all calls by then."""


class Doorbell:
    """
    One bell for all calls of a process: the clock rings it, and the loop then goes round to everyone who has frames.

    The clock writes the frames of all calls within a millisecond of each other. Waking the loop for each would cost a
    system call and a change of threads each, and the two would quarrel over the interpreter while the clock is at work.

    Args:
        loop: where the visits are made.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._visits: deque[Callable[[], None]] = deque()
        self._rung = False

    @runs_on("clock")
    def ring(self, visit: Callable[[], None]) -> None:
        """Ask for ``visit`` on the loop, within a few milliseconds. Thread: clock; never waits."""
        self._visits.append(visit)
        if not self._rung:
            self._rung = True
            self._loop.call_soon_threadsafe(self._loop.call_later, GATHER_S, self._go_round)

    @runs_on("loop")
    def _go_round(self) -> None:
        self._rung = False
        try:
            while self._visits:
                self._visits.popleft()()
        finally:
            if self._visits:  # a visit failed: the others are still to be made
                self._loop.call_soon(self._go_round)


class UplinkTap:
    """
    A bounded queue of the caller's frames; when full, the oldest goes.

    ``deque.append`` and ``popleft`` are atomic in CPython, so neither side ever waits for the other.

    Args:
        capacity_frames: frames held at the most.
    """

    def __init__(self, *, capacity_frames: int) -> None:
        self._frames: deque[bytes] = deque(maxlen=capacity_frames)
        self._wake: Callable[[], None] | None = None
        self._rung = False
        self.dropped_frames = 0

    @runs_on("loop")
    def listen(self, wake: Callable[[], None] | None) -> None:
        """Call ``wake`` (on the clock thread) when frames wait; once until the next ``read``. None: stop."""
        self._wake = wake
        self._rung = False

    @runs_on("clock")
    def write_frame(self, frame: bytes) -> None:
        """Append one frame. Thread: clock; never waits."""
        if len(self._frames) == self._frames.maxlen:
            self.dropped_frames += 1
        self._frames.append(frame)
        wake = self._wake  # read once: the loop may take it away between two reads
        if wake is not None and not self._rung:
            self._rung = True
            wake()

    @runs_on("loop")
    def read(self) -> bytes:
        """Take everything that waits, joined; empty when nothing does."""
        self._rung = False
        frames = []
        while self._frames:
            frames.append(self._frames.popleft())
        return b"".join(frames)
