"""Which responses of a session are over: what still comes of them is stale."""

from __future__ import annotations

MAX_ENDED_RESPONSES = 32
"""Ended responses whose late audio is still known to be late."""


class EndedResponses:
    """The newest responses of one session that ended, or that nobody is to hear any more."""

    def __init__(self) -> None:
        self._ended: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._ended)

    def add(self, *response_ids: str | None) -> None:
        """Take note that what still comes of these is stale."""
        for response_id in response_ids:
            if response_id is not None:
                self._ended[response_id] = None
        while len(self._ended) > MAX_ENDED_RESPONSES:
            del self._ended[next(iter(self._ended))]

    def remove(self, response_id: str) -> None:
        """Take what comes of this id for another response's: it began anew."""
        self._ended.pop(response_id, None)

    def __contains__(self, response_id: str | None) -> bool:
        """Return whether what comes of this response is stale."""
        return response_id in self._ended
