"""The agent's speech on its way to the phone: written in bursts on the loop, read at 20 ms by the clock."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field

from gateway.audio.pcm import BYTES_PER_SAMPLE, PcmFormat
from gateway.threads import runs_on


@dataclass(slots=True)
class _Item:
    """Speech of one upstream item that is not played in full yet."""

    item_id: str
    chunks: deque[bytes] = field(default_factory=deque)
    offset: int = 0  # bytes of chunks[0] already read
    queued_bytes: int = 0
    played_bytes: int = 0
    complete: bool = False


class PlayoutBuffer:
    """
    A queue of speech without a length limit, keyed by item, that gives one frame at a time.

    What does not fill a frame waits for the rest of its item; once the item is complete the last frame is
    padded with silence.

    Args:
        fmt: format of what is written and read.
    """

    def __init__(self, fmt: PcmFormat) -> None:
        self._fmt = fmt
        self._silence = bytes(fmt.frame_bytes)
        self._items: deque[_Item] = deque()
        self._lock = threading.Lock()
        self.first_frame_at: float | None = None

    @runs_on("loop")
    def write(self, item_id: str, pcm: bytes) -> None:
        """Append speech of an item; any number of bytes, also an odd part of a frame."""
        with self._lock:
            item = self._items[-1] if self._items else None
            if item is None or item.item_id != item_id:
                if item is not None and item.queued_bytes % BYTES_PER_SAMPLE:
                    # It ended in half a sample: fill it up, or every sample that follows would be garbled.
                    item.chunks.append(b"\x00")
                    item.queued_bytes += 1
                item = _Item(item_id)
                self._items.append(item)
            item.chunks.append(pcm)
            item.queued_bytes += len(pcm)

    @runs_on("loop")
    def complete(self, item_id: str) -> None:
        """Say that no more speech of this item will come, so that its last part of a frame can be played."""
        with self._lock:
            for item in self._items:
                if item.item_id == item_id:
                    item.complete = True

    @runs_on("loop")
    def flush(self) -> None:
        """Drop everything that waits; the frame after the current one is silence."""
        with self._lock:
            self._items.clear()

    @runs_on("loop")
    def position(self) -> tuple[str, int] | None:
        """Return (item id, milliseconds of it clocked out) of the item being played, or None."""
        with self._lock:
            if not self._items:
                return None
            item = self._items[0]
            return item.item_id, self._fmt.ms(item.played_bytes)

    @property
    def queued_ms(self) -> int:
        """Milliseconds of speech that wait."""
        with self._lock:
            return self._fmt.ms(sum(item.queued_bytes for item in self._items))

    @runs_on("clock")
    def read_frame(self) -> bytes | None:
        """
        Take the next frame of speech.

        Returns:
            ``fmt.frame_bytes`` bytes of signed 16-bit little-endian mono PCM; None when nothing can be
            played now.

        Thread: clock. Holds the lock for one slice, never waits for the loop.
        """
        with self._lock:
            frame = self._next_frame()
        if frame is not None and self.first_frame_at is None:
            self.first_frame_at = time.monotonic()
        return frame

    def _next_frame(self) -> bytes | None:
        wanted = self._fmt.frame_bytes
        parts: list[bytes] = []
        while wanted and self._items:
            item = self._items[0]
            following = len(self._items) > 1
            if item.queued_bytes < wanted and not item.complete and not following:
                break  # the rest of this frame is still to come
            wanted -= self._take(item, wanted, parts)
            if item.queued_bytes == 0 and (item.complete or following):
                self._items.popleft()
        if not parts:
            return None
        frame = b"".join(parts)
        return frame + self._silence[: self._fmt.frame_bytes - len(frame)]

    @staticmethod
    def _take(item: _Item, wanted: int, parts: list[bytes]) -> int:
        taken = 0
        while taken < wanted and item.chunks:
            chunk = item.chunks[0]
            piece = chunk[item.offset : item.offset + wanted - taken]
            parts.append(piece)
            taken += len(piece)
            item.offset += len(piece)
            if item.offset == len(chunk):
                item.chunks.popleft()
                item.offset = 0
        item.queued_bytes -= taken
        item.played_bytes += taken
        return taken
