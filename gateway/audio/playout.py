"""The agent's speech on its way to the phone: written in bursts on the loop, read at 20 ms by the clock."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.audio.filler import FillerLoop
from gateway.audio.pcm import BYTES_PER_SAMPLE, PcmFormat
from gateway.call.ports import PlayedItem
from gateway.threads import runs_on

MAX_CUT_ITEMS = 64
"""Flushed items whose late speech is still known to be stale."""


@dataclass(slots=True)
class _Item:
    """Speech of one upstream item that is not played in full yet."""

    item_id: str
    chunks: deque[bytes] = field(default_factory=deque)
    offset: int = 0  # bytes of chunks[0] already read
    queued_bytes: int = 0
    played_bytes: int = 0
    complete: bool = False
    first_at: float | None = None  # monotonic seconds of its first and its last frame so far
    last_at: float | None = None


class PlayoutBuffer:
    """
    A queue of speech without a length limit, keyed by item, that gives one frame at a time.

    What does not fill a frame waits for the rest of its item; once the item is complete the last frame is
    padded with silence.

    Args:
        fmt: format of what is written and read.
        filler: what is given over and over between ``start_filler`` and ``stop_filler`` when no speech is queued;
            the same format, empty for silence.

    Attributes:
        first_frame_at: monotonic seconds at which the first frame of speech was clocked out; None before that.
        last_frame_at: the same of the last one so far.
    """

    def __init__(self, fmt: PcmFormat, filler: bytes = b"") -> None:
        self._fmt = fmt
        self._silence = bytes(fmt.frame_bytes)
        self._items: deque[_Item] = deque()
        self._lock = threading.Lock()
        self._held = False
        self._cut: deque[str] = deque(maxlen=MAX_CUT_ITEMS)
        self._filler = FillerLoop(filler, fmt)
        self._next_filler: FillerLoop | None = None  # for the next start: the old one may still be fading
        self._finished: list[PlayedItem] = []
        self._rung = True  # nobody need be told of what is finished
        self._wake: Callable[[], None] | None = None
        self.first_frame_at: float | None = None
        self.last_frame_at: float | None = None

    # Speech comes in

    @runs_on("loop")
    def write(self, item_id: str, pcm: bytes) -> None:
        """Append speech of an item, any number of bytes, also an odd part of a frame; not if it was flushed."""
        if item_id in self._cut:
            return
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
            while self._items and self._items[0].complete and not self._items[0].queued_bytes:
                self._finish(self._items.popleft(), complete=True)
            wake = self._news()
        if wake is not None:
            wake()

    # A call's control of it

    @runs_on("loop")
    def use_filler(self, filler: bytes) -> None:
        """Give this filler from the next ``start_filler`` on; the format of the speech, empty for silence."""
        with self._lock:
            self._next_filler = FillerLoop(filler, self._fmt)

    @runs_on("loop")
    def flush(self) -> None:
        """Drop what waits, and what still comes of the same items; hold no longer. The next frame is silence."""
        with self._lock:
            self._held = False
            for item in self._items:
                self._cut.append(item.item_id)
                self._finish(item, complete=False)
            self._items.clear()
            self._rung = True  # whoever flushes knows

    @runs_on("loop")
    def pause(self) -> None:
        """Give silence from the next frame on, filler neither; what waits and what comes is kept."""
        self._held = True

    @runs_on("loop")
    def resume(self) -> None:
        """Go on where it stopped."""
        self._held = False

    @runs_on("loop")
    def start_filler(self) -> None:
        """Give the filler, over and over, whenever no speech can be played."""
        with self._lock:
            self._filler, self._next_filler = self._next_filler or self._filler, None
            self._filler.start()

    @runs_on("loop")
    def stop_filler(self) -> None:
        """Give silence again when no speech can be played."""
        with self._lock:
            self._filler.stop()

    @runs_on("loop")
    def listen(self, wake: Callable[[], None] | None) -> None:
        """Call ``wake`` when an item was played to its end, once until ``take_finished``. None: stop."""
        self._wake = wake

    @runs_on("loop")
    def position(self) -> tuple[str, int] | None:
        """Return (item id, milliseconds of it clocked out) of the item being played, or None."""
        with self._lock:
            if not self._items:
                return None
            item = self._items[0]
            return item.item_id, self._fmt.ms(item.played_bytes)

    @runs_on("loop")
    def take_finished(self) -> list[PlayedItem]:
        """Return the items that were played to their end or flushed since the last time, in order."""
        with self._lock:
            finished, self._finished = self._finished, []
            self._rung = True
        return finished

    @property
    def queued_ms(self) -> int:
        """Milliseconds of speech that wait, held speech too."""
        with self._lock:
            return self._fmt.ms(sum(item.queued_bytes for item in self._items))

    # Frames go out

    @runs_on("clock")
    def read_frame(self) -> bytes | None:
        """
        Take the next frame of speech, or of the filler.

        Returns:
            ``fmt.frame_bytes`` bytes of signed 16-bit little-endian mono PCM; None when nothing can be
            played now.

        Thread: clock. Holds the lock for one slice, never waits for the loop.
        """
        with self._lock:
            frame = self._next_frame() if self._items and not self._held else None
            if self._filler.active:
                frame = self._filler.blend(frame, held=self._held)
            wake = None if self._rung else self._news()
        if wake is not None:
            wake()
        return frame

    def _next_frame(self) -> bytes | None:
        wanted = self._fmt.frame_bytes
        now = time.monotonic()
        parts: list[bytes] = []
        while wanted and self._items:
            item = self._items[0]
            following = len(self._items) > 1
            if item.queued_bytes < wanted and not item.complete and not following:
                break  # the rest of this frame is still to come
            if item.queued_bytes:
                wanted -= self._take(item, wanted, parts)
                item.last_at = now
                if item.first_at is None:
                    item.first_at = now
            if item.queued_bytes == 0 and (item.complete or following):
                self._finish(self._items.popleft(), complete=True)
        if not parts:
            return None
        self.last_frame_at = now
        if self.first_frame_at is None:
            self.first_frame_at = now
        return b"".join(parts) + self._silence[:wanted] if wanted else b"".join(parts)

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

    def _finish(self, item: _Item, *, complete: bool) -> None:
        received_ms = self._fmt.ms(item.played_bytes + item.queued_bytes)
        played_ms = self._fmt.ms(item.played_bytes)
        played = PlayedItem(item.item_id, played_ms, received_ms, item.first_at, item.last_at, complete)
        self._finished.append(played)
        self._rung = False

    def _news(self) -> Callable[[], None] | None:
        """Return whom to wake because of something finished, once."""
        if self._rung:
            return None
        self._rung = True
        return self._wake
