"""A playout buffer whose position the test sets."""

from __future__ import annotations


class FakePlayout:
    """Counts flushes; a flush empties it."""

    def __init__(self) -> None:
        self.playing: tuple[str, int] | None = None
        self.first_frame_at: float | None = None
        self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        self.playing = None

    def position(self) -> tuple[str, int] | None:
        return self.playing
