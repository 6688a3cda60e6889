"""Requests that every worker reload its dialplan, passed on through Redis."""

from __future__ import annotations

import secrets

from gateway.errors import StoreError
from gateway.settings.sections import RedisSettings
from gateway.store.calls import RedisCallStore
from gateway.store.keys import key_of

_ASK = "return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])"
_NEWEST = "return redis.call('GET', KEYS[1])"


class ReloadRequests:
    """
    One key holds the newest request: a random word, so that a Redis that lost its memory does no harm.

    Workers look at it now and then and load when the word has changed. So a worker that could not reach
    Redis for a while still learns of the request, once.

    Args:
        settings: the prefix, and how long a request is kept (``retention_s``).
        store: open; what reaches Redis.
    """

    def __init__(self, settings: RedisSettings, store: RedisCallStore) -> None:
        self._key = key_of(settings.prefix, "reload")
        self._expiry_ms = str(round(settings.retention_s * 1000))
        self._store = store

    async def ask(self) -> None:
        """Make a new request. Raises ``StoreError``: Redis does not answer, and no worker was asked."""
        word = secrets.token_hex(8)
        try:
            await self._store.run(_ASK, [self._key], [word, self._expiry_ms])
        except StoreError:  # perhaps only a connection from before Redis was started anew; the same word does no harm
            await self._store.run(_ASK, [self._key], [word, self._expiry_ms])

    async def newest(self) -> str | None:
        """Return the newest request; None when there is none. Raises ``StoreError``."""
        found = await self._store.run(_NEWEST, [self._key], [])
        return None if found is None else str(found)
