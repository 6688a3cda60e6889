"""Idempotency keys of calls that were asked for over HTTP: the same key is the same call, for a day."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from gateway.ids import CallId
from gateway.settings.sections import RedisSettings
from gateway.store.calls import RedisCallStore
from gateway.store.commands import DIALLED_KEPT_S
from gateway.store.connection import whole_ms
from gateway.store.keys import key_of

# KEYS: the key's. ARGV: call id, digest of what was asked for, ms for which it is kept. The first one wins.
_CLAIM = """
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'call_id', ARGV[1], 'asked', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return redis.call('HMGET', KEYS[1], 'call_id', 'asked')
"""


class Claimed(NamedTuple):
    """
    What an idempotency key stands for.

    Attributes:
        call_id: of the call, whoever asked first.
        same: whether what was asked for then is what is asked for now.
    """

    call_id: CallId
    same: bool


class DialKeys:
    """
    Remembers idempotency keys. Thread: loop.

    Args:
        settings: the prefix.
        store: open; what reaches Redis.
    """

    def __init__(self, settings: RedisSettings, store: RedisCallStore) -> None:
        self._prefix = settings.prefix
        self._store = store

    async def claim(self, client: str, key: str, asked: str, call_id: CallId) -> Claimed:
        """
        Return the call that a key stands for: ``call_id`` for a new key.

        Args:
            client: whose key it is; two clients may have the same.
            key: as the client chose it.
            asked: what it asks for, in one form.
            call_id: of the call to be.

        Raises:
            StoreError: Redis does not answer.
        """
        name = key_of(self._prefix, "web", "dial", client, hashlib.sha256(key.encode()).hexdigest())
        digest = hashlib.sha256(asked.encode()).hexdigest()
        known, known_digest = await self._store.run(_CLAIM, [name], [call_id, digest, whole_ms(DIALLED_KEPT_S)])
        return Claimed(CallId(known), known_digest == digest)
