"""What the endpoints read of calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import NamedTuple, Protocol

from gateway.store.calls import RedisCallStore
from gateway.store.record import CallRecord


class Entry(NamedTuple):
    """An entry of a stream of events."""

    id: str
    fields: dict[str, str]


class Reader(Protocol):
    """Reads calls from Redis. All methods raise ``StoreError``. Thread: loop."""

    async def live_calls(self) -> list[CallRecord]:
        """Return the live calls of all workers, oldest first."""

    async def call(self, call_id: str, /) -> CallRecord | None:
        """Return a call, live or ended; None when there is none."""

    async def events_of(self, call_id: str, after: str = "0") -> list[Entry]:
        """Return a call's events after an id."""

    def follow_events(self, call_id: str | None, after: str) -> AsyncGenerator[Entry]:
        """Give the events of a call, or of all, after an id (``$``: from now on) as they come."""


_RANGE = "return redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', '1000')"
_LAST = "return redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', '1')"
_EVERY_S = 0.3


class StoreReader:
    """Reads calls with what the store has."""

    def __init__(self, store: RedisCallStore) -> None:
        self._store = store
        self._key = store._key("events")
        self.live_calls = store.live_calls
        self.call = store.call

    async def events_of(self, call_id: str, after: str = "0") -> list[Entry]:
        """Return a call's events after an id."""
        return [entry for entry in await self._after(after) if entry.fields.get("call_id") == call_id]

    async def follow_events(self, call_id: str | None, after: str) -> AsyncGenerator[Entry]:
        """Give events as they come."""
        if after == "$":
            newest = await self._store.run(_LAST, [self._key], [])
            after = newest[0][0] if newest else "0"
        while True:
            for entry in await self._after(after):
                after = entry.id
                if call_id is None or entry.fields.get("call_id") == call_id:
                    yield entry
            await asyncio.sleep(_EVERY_S)

    async def _after(self, after: str) -> list[Entry]:
        found = await self._store.run(_RANGE, [self._key], [f"({after}"])
        return [Entry(each, dict(zip(flat[::2], flat[1::2], strict=True))) for each, flat in found]
