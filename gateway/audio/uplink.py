"""The caller's voice on its way to the model: written by the clock every 20 ms, read by the loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from gateway.threads import runs_on


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
