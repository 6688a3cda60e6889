"""How many streams may be open: each holds a connection here and one to Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.web.errors import too_many

STREAMS_PER_CLIENT = 24
STREAMS = 240
WAIT_S = 10


class StreamSlots:
    """Counts open streams, of each client and of all. Thread: loop."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @property
    def open_now(self) -> int:
        """How many are open."""
        return self._open.total()

    @contextmanager
    def taken_by(self, client: str) -> Iterator[None]:
        """
        Hold a slot.

        Raises:
            ApiError: 429; this client, or all together, have as many streams as there may be.
        """
        if self._open[client] >= STREAMS_PER_CLIENT or self._open.total() >= STREAMS:
            raise too_many("too many streams are open; close some", WAIT_S)
        self._open[client] += 1
        try:
            yield
        finally:
            self._open[client] -= 1
