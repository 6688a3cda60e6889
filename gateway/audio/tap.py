"""What takes both sides of a call from the clock, besides the agent: a recording, a listener."""

from __future__ import annotations

from typing import Protocol


class AudioTap(Protocol):
    """What takes each frame of both sides from the clock, never waiting."""

    def write_caller(self, frame: bytes | None) -> None:
        """Take a frame of the caller's voice; None is silence. Thread: clock."""

    def write_agent(self, frame: bytes | None) -> None:
        """Take a frame of what the caller hears; None is silence. Thread: clock."""
