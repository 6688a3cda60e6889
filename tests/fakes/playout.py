"""A playout buffer whose position the test sets."""

from __future__ import annotations

from collections.abc import Callable

from gateway.audio.played import PlayedItem, PlayoutPosition


class FakePlayout:
    """Remembers what it was told; a flush cuts off what is being played."""

    def __init__(self) -> None:
        self.playing: PlayoutPosition | None = None
        self.received_ms = 0
        """Of the item being played; at least what was played of it."""
        self.first_at: float | None = None
        self.last_at: float | None = None
        self.first_frame_at: float | None = None
        self.queued_ms = 0
        self.flushes = 0
        self.held = False
        self.filling = False
        self.orders: list[str] = []
        self.written: dict[str, bytes] = {}
        self.finished: list[PlayedItem] = []
        self.wake: Callable[[], None] | None = None

    def write(self, item_id: str, pcm: bytes) -> None:
        """Queue 16-bit sound of 8 kHz; it is played when the test says so."""
        self.written[item_id] = self.written.get(item_id, b"") + pcm
        self.queued_ms += len(pcm) // 16

    def complete(self, item_id: str) -> None:
        self.orders.append(f"play {item_id}")

    def flush(self) -> None:
        self.flushes += 1
        self.orders.append("flush")
        self.held = False
        self._finish(complete=False)
        self.queued_ms = 0

    def listen(self, wake: Callable[[], None] | None) -> None:
        self.wake = wake

    def take_finished(self) -> list[PlayedItem]:
        finished, self.finished = self.finished, []
        return finished

    def position(self) -> PlayoutPosition | None:
        return self.playing

    def pause(self) -> None:
        self.orders.append("pause")
        self.held = True

    def resume(self) -> None:
        self.orders.append("resume")
        self.held = False

    def start_filler(self) -> None:
        self.orders.append("start_filler")
        self.filling = True

    def stop_filler(self) -> None:
        self.orders.append("stop_filler")
        self.filling = False

    def play(self, item_id: str, played_ms: int, *, of_ms: int, first_at: float, last_at: float | None = None) -> None:
        """Be in the middle of an item."""
        self.playing = PlayoutPosition(item_id, played_ms)
        self.received_ms = of_ms
        self.first_at, self.last_at = first_at, first_at + played_ms / 1000 if last_at is None else last_at

    def play_out(self) -> None:
        """Come to the end of the item being played, and tell."""
        assert self.playing is not None
        self.playing = PlayoutPosition(self.playing.item_id, self.received_ms)
        self._finish(complete=True)
        if self.wake is not None:
            self.wake()

    def _finish(self, *, complete: bool) -> None:
        if self.playing is not None:
            at, received_ms = self.playing, max(self.playing.played_ms, self.received_ms)
            played = PlayedItem(at.item_id, at.played_ms, received_ms, self.first_at, self.last_at, complete)
            self.finished.append(played)
        self.playing = self.first_at = self.last_at = None
        self.received_ms = 0
