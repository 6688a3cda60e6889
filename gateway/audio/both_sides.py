"""
Both sides of a call, as the caller's end of it has them: laid down by the clock frame by frame, taken elsewhere.

How it works. The clock moves one frame each way in every tick: the caller's voice comes in, and what the caller hears
goes out. ``BothSides`` pairs the two of a tick and keeps the pairs in a bounded queue, so both channels stay aligned,
and at any moment hold what the caller said and heard then. A recording empties it on its own thread, a listener on the
loop. Nothing here waits: ``deque.append`` and ``popleft`` are atomic in CPython.
"""

from __future__ import annotations

import time
from collections import deque

import numpy as np

from gateway.audio.pcm import PcmFormat
from gateway.threads import runs_on

CHANNELS = 2
"""Left the caller, right what the caller hears: the agent, or a second leg."""

Pair = tuple[bytes | None, bytes | None]
"""A frame of the caller and one of what the caller hears in the same tick; None is silence."""


class BothSides:
    """
    A bounded queue of pairs; when full, the oldest goes.

    The clock calls ``write_agent`` and ``write_caller`` once per tick, always in the same order, whether there is sound
    or not; one that is missing is silence. So both channels are aligned within a frame.

    Args:
        fmt: format of the frames.
        most_ms: what is held at the most.

    Attributes:
        fmt: the same.
        dropped_frames: pairs that went because it was full.
        written_at: monotonic seconds at which the newest pair was complete; 0 before the first.
    """

    def __init__(self, fmt: PcmFormat, most_ms: int) -> None:
        self.fmt = fmt
        self.dropped_frames = 0
        self.written_at = 0.0
        self._pairs: deque[Pair] = deque(maxlen=most_ms // fmt.ptime_ms)
        self._agent: tuple[bytes | None] | None = None  # the agent's frame of this tick, waiting for the caller's

    @runs_on("clock")
    def write_agent(self, frame: bytes | None) -> None:
        """Lay down what the caller hears in this tick, None for silence. Thread: clock; never waits."""
        if self._agent is not None:  # no frame of the caller came in the tick before
            self._append((None, self._agent[0]))
        self._agent = (frame,)

    @runs_on("clock")
    def write_caller(self, frame: bytes | None) -> None:
        """Lay down the caller's frame of this tick, None for silence. Thread: clock; never waits."""
        agent, self._agent = self._agent, None
        self._append((frame, agent[0] if agent is not None else None))

    @runs_on("clock")
    def forget_tick(self) -> None:
        """Drop the half of a tick that waits for the other: what follows is not of the same tick."""
        self._agent = None

    def _append(self, pair: Pair) -> None:
        if len(self._pairs) == self._pairs.maxlen:
            self.dropped_frames += 1
        self._pairs.append(pair)
        self.written_at = time.monotonic()

    def take(self, most_ms: int) -> tuple[bytes, bytes]:
        """
        Take what waits, at most ``most_ms`` of it.

        Returns:
            The caller's side and the other, as PCM of the format, equally long; empty if nothing waits.
        """
        pairs: list[Pair] = []
        while self._pairs and len(pairs) < most_ms // self.fmt.ptime_ms:
            pairs.append(self._pairs.popleft())
        silence = bytes(self.fmt.frame_bytes)
        caller, agent = (b"".join([_whole(pair[side], silence) for pair in pairs]) for side in range(CHANNELS))
        return caller, agent

    def clear(self) -> None:
        """Drop all that waits."""
        self._pairs.clear()


def interleaved(left: bytes, right: bytes) -> bytes:
    """Return two channels of 16-bit PCM, equally long, as one of both: left, right, left, right."""
    mixed = np.empty((len(left) // 2, CHANNELS), "<i2")
    for channel, track in enumerate((left, right)):
        mixed[:, channel] = np.frombuffer(track, "<i2")
    return mixed.tobytes()


def _whole(frame: bytes | None, silence: bytes) -> bytes:
    """Return a frame of the right length, whatever the library gave."""
    if not frame:
        return silence
    return frame if len(frame) == len(silence) else frame[: len(silence)].ljust(len(silence), b"\0")
