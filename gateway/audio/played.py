"""What the caller hears of the agent's speech, and has heard."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlayoutPosition:
    """
    How far the speech is that is being played to the caller.

    Attributes:
        item_id: the upstream's id of the item being played.
        played_ms: milliseconds of it that were clocked out to RTP.
    """

    item_id: str
    played_ms: int


@dataclass(frozen=True, slots=True)
class PlayedItem:
    """
    What the caller heard of one item of the agent's speech, once no more of it will be played.

    Attributes:
        item_id: the upstream's id.
        played_ms: milliseconds clocked out to RTP.
        received_ms: milliseconds that had come from the upstream by then.
        first_at: monotonic seconds at which its first frame was clocked out; None when none was.
        last_at: the same of its last frame.
        complete: it was played to its end, not cut off.
    """

    item_id: str
    played_ms: int
    received_ms: int
    first_at: float | None
    last_at: float | None
    complete: bool
