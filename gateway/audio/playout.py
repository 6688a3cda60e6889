"""
The agent's speech on its way to the phone: written in bursts on the loop, read every 20 ms by the clock.

How it works. A voice model sends speech faster than it is spoken, so a call has one ``PlayoutBuffer``:
``upstream/audio`` writes decoded speech into it by item, and ``AgentMediaPort`` reads one frame at a time. The buffer
is where the call knows what the caller has heard: ``position`` says how far the item that plays now has got (a
barge-in is stamped with it), ``take_finished`` lists items that were played or cut, ``flush`` drops what waits.
Sounds of the dialplan take the same way. While nothing is queued the filler sounds between ``start_filler`` and
``stop_filler``, else silence.

Threads: everything is called on the loop but ``read_frame``, which is the clock's. A lock guards the queue; each side
holds it for a few list operations, so that the clock never waits for the loop. The clock reports what it finished by
setting one wake-up, not by calling into the loop.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.audio.filler import FillerLoop
from gateway.audio.pcm import BYTES_PER_SAMPLE, PcmFormat
from gateway.audio.played import PlayedItem, PlayoutPosition
from gateway.threads import runs_on

MAX_PAST_ITEMS = 64
"""Items no longer queued of which it is still known how much was heard, and whether their late speech is stale."""

PATIENCE_MS = 1000
"""How long the rest of an item is waited for while the next of its response could be played."""


class Place(NamedTuple):
    """
    Where an item belongs among those not played yet.

    Attributes:
        session: of the upstream, counted through the call (``PlayoutBuffer.new_session``); item ids are its own.
        response: number of the response in its session.
        item: index of the item in its response.
    """

    session: int
    response: int
    item: int


NO_PLACE = Place(0, 0, 0)
"""Of an item that belongs to no session, such as a sound: behind what is queued, and what comes later stays behind."""


_Key = tuple[int, int, str]
"""What makes an item itself: an id may come again in another session, and with some services in another response."""


def _key(item_id: str, place: Place) -> _Key:
    return place.session, place.response, item_id


@dataclass(slots=True)
class _QueuedItem:
    """Speech of one upstream item that is not played in full yet."""

    item_id: str
    place: Place
    chunks: deque[bytes] = field(default_factory=deque)
    offset: int = 0  # bytes of chunks[0] already read
    queued_bytes: int = 0
    played_bytes: int = 0
    earlier_bytes: int = 0  # played before it came to its end once, and went on
    complete: bool = False
    waited: int = 0  # frames for which it kept others waiting
    first_at: float | None = None  # monotonic seconds of its first and its last frame so far
    last_at: float | None = None

    @property
    def key(self) -> _Key:
        return _key(self.item_id, self.place)

    def shares_response(self, other: _QueuedItem) -> bool:
        return self.place[:2] == other.place[:2] and self.place != NO_PLACE


class PlayoutBuffer:
    """
    A queue of speech without a length limit, by item, that gives one frame at a time.

    Items are played one after the other, by their place as long as they have not begun: one whose speech comes late is
    played before those that belong behind it. The item being played waits for its rest, but not while speech of another
    response is there, and for ``PATIENCE_MS`` at the longest while the next of its own is; a rest that comes later is
    played behind. Where an item ends within a frame the next one begins, or silence.

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
        self._items: deque[_QueuedItem] = deque()
        self._lock = threading.Lock()
        self._held = False
        self._patience = PATIENCE_MS // fmt.ptime_ms
        self._past: dict[_Key, int] = {}  # bytes heard of items played to their end, which may go on
        self._cut: dict[_Key, int] = {}  # bytes heard of items flushed, of which no more is played
        self._flushed: list[_QueuedItem] = []  # the last time
        self._sessions = 0
        self._filler = FillerLoop(filler, fmt)
        self._next_filler: FillerLoop | None = None  # for the next start: the old one may still be fading
        self._finished: list[PlayedItem] = []
        self._rung = True  # no listener waits for finished items
        self._wake: Callable[[], None] | None = None
        self.first_frame_at: float | None = None
        self.last_frame_at: float | None = None

    # Speech comes in

    @runs_on("loop")
    def new_session(self) -> int:
        """Return the number of another session, whose item ids may be those of an earlier one."""
        self._sessions += 1
        return self._sessions

    @runs_on("loop")
    def write(self, item_id: str, pcm: bytes, place: Place = NO_PLACE) -> None:
        """Queue speech of an item, any number of bytes, also an odd part of a frame; not if it was flushed."""
        key = _key(item_id, place)
        if not pcm or key in self._cut:
            return
        with self._lock:
            item = self._find(key) or self._insert(_QueuedItem(item_id, place))
            item.complete = False
            item.waited = 0
            item.chunks.append(pcm)
            item.queued_bytes += len(pcm)

    @runs_on("loop")
    def complete(self, item_id: str, place: Place = NO_PLACE) -> None:
        """Say that no more speech of this item is awaited, so that its last part of a frame can be played."""
        with self._lock:
            item = self._find(_key(item_id, place))
            if item is not None:
                item.complete = True
                if not item.queued_bytes:
                    self._items.remove(item)
                    self._finish(item, complete=True)
            wake = self._news()
        if wake is not None:
            wake()

    def _find(self, key: _Key) -> _QueuedItem | None:
        return next((item for item in self._items if item.key == key), None)

    def _insert(self, item: _QueuedItem) -> _QueuedItem:
        """Queue an item before those that belong behind it, as far as nothing of them was played."""
        item.earlier_bytes = self._past.pop(item.key, 0)
        at = len(self._items)
        while at and not self._items[at - 1].played_bytes and self._items[at - 1].place > item.place != NO_PLACE:
            at -= 1
        self._items.insert(at, item)
        return item

    # A call's control of it

    @runs_on("loop")
    def use_filler(self, filler: bytes) -> None:
        """Give this filler from the next ``start_filler`` on; the format of the speech, empty for silence."""
        with self._lock:
            self._next_filler = FillerLoop(filler, self._fmt)

    @runs_on("loop")
    def flush(self) -> None:
        """Drop what is queued and what still arrives of the same items; end any pause. The next frame is silence."""
        with self._lock:
            self._held = False
            self._flushed = list(self._items)
            self._items.clear()
            for item in self._flushed:
                self._finish(item, complete=False)
            self._rung = True  # the one who flushes knows

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
    def position(self) -> PlayoutPosition | None:
        """Return the item being played, and how far it is; None when nothing is."""
        with self._lock:
            if not self._items:
                return None
            item = self._items[0]
            return PlayoutPosition(item.item_id, self._fmt.ms(item.earlier_bytes + item.played_bytes))

    @runs_on("loop")
    def cut_off(self, session: int) -> dict[str, int]:
        """Return, of a session's items that the last flush dropped, how many milliseconds were clocked out, by id."""
        cut = [item for item in self._flushed if item.place.session == session]
        return {item.item_id: self._fmt.ms(item.earlier_bytes + item.played_bytes) for item in cut}

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
            if item.queued_bytes < wanted and not item.complete and self._waits(item):
                break  # the rest of this frame is still to come
            if item.queued_bytes:
                wanted -= self._take(item, wanted, parts)
                item.last_at = now
                if item.first_at is None:
                    item.first_at = now
            if not item.queued_bytes and (item.complete or wanted):
                if wanted % BYTES_PER_SAMPLE:  # it ended in half a sample, which would garble what follows
                    parts.append(b"\x00")
                    wanted -= 1
                self._finish(self._items.popleft(), complete=True)
        if not parts:
            return None
        self.last_frame_at = now
        if self.first_frame_at is None:
            self.first_frame_at = now
        return b"".join(parts) + self._silence[:wanted] if wanted else b"".join(parts)

    def _waits(self, item: _QueuedItem) -> bool:
        """Whether the first item is to wait for its rest: none is behind it, or, for a while, only its own response."""
        if len(self._items) == 1:
            return True
        if item.waited == self._patience or not all(map(item.shares_response, self._items)):
            return False
        item.waited += 1
        return True

    @staticmethod
    def _take(item: _QueuedItem, wanted: int, parts: list[bytes]) -> int:
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

    def _finish(self, item: _QueuedItem, *, complete: bool) -> None:
        received_ms = self._fmt.ms(item.played_bytes + item.queued_bytes)
        played_ms = self._fmt.ms(item.played_bytes)
        played = PlayedItem(item.item_id, played_ms, received_ms, item.first_at, item.last_at, complete)
        self._finished.append(played)
        self._rung = False
        kept = self._past if complete else self._cut
        kept[item.key] = item.earlier_bytes + item.played_bytes
        if len(kept) > MAX_PAST_ITEMS:
            del kept[next(iter(kept))]

    def _news(self) -> Callable[[], None] | None:
        """Return whom to wake because of something finished, once."""
        if self._rung:
            return None
        self._rung = True
        return self._wake
