"""Log-ins on the page, in Redis, so that every process that serves the API knows them."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass

from gateway.settings.sections import RedisSettings
from gateway.store.calls import RedisCallStore
from gateway.store.keys import key_of

SESSIONS_PER_TOKEN = 32
"""A further log-in ends the oldest one."""

# A field of the hash is the digest of a session's id; its value has the end (Unix seconds), the token's name, its mark.
_OPEN = """
local now = tonumber(redis.call('TIME')[1])
local oldest, oldest_until, count = nil, nil, 0
local all = redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do
  local value = cjson.decode(all[at + 1])
  if value[1] <= now then
    redis.call('HDEL', KEYS[1], all[at])
  elseif value[2] == ARGV[2] then
    count = count + 1
    if not oldest or value[1] < oldest_until then oldest, oldest_until = all[at], value[1] end
  end
end
if count >= tonumber(ARGV[5]) then redis.call('HDEL', KEYS[1], oldest) end
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode({now + tonumber(ARGV[4]), ARGV[2], ARGV[3]}))
redis.call('EXPIRE', KEYS[1], ARGV[4])
"""
_FIND = """
local value = redis.call('HGET', KEYS[1], ARGV[1])
if not value or cjson.decode(value)[1] <= tonumber(redis.call('TIME')[1]) then return false end
return value
"""
_CLOSE = "return redis.call('HDEL', KEYS[1], ARGV[1])"


@dataclass(frozen=True, slots=True)
class WebSession:
    """
    Who logged in.

    Attributes:
        name: of the token.
        mark: of the token's hash; a token that was made anew under the same name ends the sessions of the old one.
    """

    name: str
    mark: str


class WebSessions:
    """
    Opens, finds and closes sessions; Redis has digests of their ids only, and its clock ends them. Thread: loop.

    Args:
        settings: the prefix.
        store: open; what reaches Redis.
        lasts_s: seconds from log-in to end.
    """

    def __init__(self, settings: RedisSettings, store: RedisCallStore, lasts_s: int) -> None:
        self._key = key_of(settings.prefix, "web", "sessions")
        self._store = store
        self._lasts_s = lasts_s

    async def open(self, session: WebSession) -> str:
        """Begin a session; return its id, 256 random bits. Raises ``StoreError``."""
        session_id = secrets.token_urlsafe(32)
        words = [_digest(session_id), session.name, session.mark, str(self._lasts_s), str(SESSIONS_PER_TOKEN)]
        await self._store.run(_OPEN, [self._key], words)
        return session_id

    async def find(self, session_id: str) -> WebSession | None:
        """Return who logged in; None for a session that ended or never was. Raises ``StoreError``."""
        found = await self._store.run(_FIND, [self._key], [_digest(session_id)])
        if found is None:
            return None
        _, name, mark = json.loads(found)
        return WebSession(name, mark)

    async def close(self, session_id: str) -> None:
        """End a session. Raises ``StoreError``."""
        await self._store.run(_CLOSE, [self._key], [_digest(session_id)])


def _digest(session_id: str) -> str:
    return hashlib.sha256(session_id.encode("utf-8", "surrogateescape")).hexdigest()
