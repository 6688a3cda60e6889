"""
Webhooks in Redis: the events they are made of, the messages that wait for each endpoint, those that were given up.

Theory of operation
-------------------
::

    {gateway}:events --XREADGROUP webhooks--> entries() --> put(entry, deliveries) or skip(entries)
                                                                |
    {gateway}:webhooks:due:{endpoint}   sorted set, score: when its turn comes, ms of Redis's clock
    {gateway}:webhooks:delivery:{id}    hash: the message and what became of it so far
    {gateway}:webhooks:dead             sorted set of those given up, score: when

- *From the stream of events, by a consumer group.* Nothing is asked of the process that has the call, and an entry that
  was read by a process that died is read again by another (XAUTOCLAIM). ``put`` writes an entry's deliveries and
  acknowledges it in one script, which does nothing for an entry that is acknowledged already: a message is made once.
- *A turn is a lease.* ``claim`` takes deliveries whose turn has come and moves the turn beyond the longest attempt.
  Of several processes one gets each; if that one dies, the turn comes again. After the attempt ``done`` removes the
  delivery, ``again`` sets its next turn, ``bury`` gives it up.
- *Bounded.* Beyond ``backlog`` waiting deliveries of an endpoint the one whose turn is next is given up. All of it
  expires ``keep_days`` after the last change, and the set of the dead is cut by time and number.

Times are those of Redis's clock, so that clocks of different hosts need not agree. Everything raises ``StoreError``
when Redis is away.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from gateway.errors import StoreError
from gateway.settings.sections import RedisSettings
from gateway.settings.webhooks import WebhooksSettings
from gateway.store.connection import COMMAND_LIMIT_S, OwnConnection, ask, connect, reading, whole_ms
from gateway.store.keys import key_of

GROUP = "webhooks"
BLOCK_S = 5.0
"""How long one read of events waits inside Redis."""
ENTRIES_AT_ONCE = 64
ORPHANED_S = 30.0
"""An entry that was read and not acknowledged for this long is read again, by another process."""
CONSUMER_KEPT_S = 3600.0
"""A process that has read nothing for so long, and owes nothing, is no consumer any more."""

# KEYS[1] the stream. What this and the other scripts share: the time, the names of keys, and what is counted for the
# metrics in the same step, so that it is counted once.
_COMMON = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local STEM, KEEP, MOST = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local DEAD = STEM .. 'dead'
local METRICS = string.gsub(STEM, 'webhooks:$', 'metrics')
local function count(field) redis.call('HINCRBY', METRICS, field, 1) end
local function due(endpoint) return STEM .. 'due:' .. endpoint end
local function hash(id) return STEM .. 'delivery:' .. id end
local function bury(id, endpoint, detail)
  count('gateway_webhooks_total given_up')
  redis.call('ZREM', due(endpoint), id)
  redis.call('HSET', hash(id), 'dead_at', now / 1000, 'detail', detail)
  redis.call('PEXPIRE', hash(id), KEEP)
  redis.call('ZADD', DEAD, now, id)
  redis.call('ZREMRANGEBYSCORE', DEAD, '-inf', now - KEEP)
  local more = redis.call('ZCARD', DEAD) - MOST
  if more > 0 then
    for _, old in ipairs(redis.call('ZRANGE', DEAD, 0, more - 1)) do redis.call('DEL', hash(old)) end
    redis.call('ZREMRANGEBYRANK', DEAD, 0, more - 1)
  end
  redis.call('PEXPIRE', DEAD, KEEP)
end
"""

# KEYS[1] the stream. ARGV from 4: group, entry, then for each delivery its id, its endpoint, the count of words, and
# these. The entry is acknowledged last: if a write fails, all of it is done again, to the same keys.
_PUT = (
    _COMMON
    + """
if #redis.call('XPENDING', KEYS[1], ARGV[4], ARGV[5], ARGV[5], 1) == 0 then return 0 end
local i = 6
while i <= #ARGV do
  local id, endpoint, words = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  redis.call('HSET', hash(id), 'id', id, 'endpoint', endpoint, 'queued_at', now / 1000)
  redis.call('HSET', hash(id), unpack(ARGV, i + 3, i + 2 + words))
  redis.call('PEXPIRE', hash(id), KEEP)
  redis.call('ZADD', due(endpoint), now, id)
  redis.call('PEXPIRE', due(endpoint), KEEP)
  if redis.call('ZCARD', due(endpoint)) > MOST then
    bury(redis.call('ZRANGE', due(endpoint), 0, 0)[1], endpoint, 'too many messages waited for this endpoint')
  end
  i = i + 3 + words
end
return redis.call('XACK', KEYS[1], ARGV[4], ARGV[5])
"""
)

# KEYS[1] the endpoint's due set. ARGV from 4: endpoint, most, ms until the turn comes again. Answers the deliveries and
# the ms until the next turn, -1 if nothing waits.
_CLAIM = (
    _COMMON
    + """
local found = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[5])) do
  if redis.call('EXISTS', hash(id)) == 1 then
    redis.call('HINCRBY', hash(id), 'attempts', 1)
    redis.call('ZADD', KEYS[1], now + ARGV[6], id)
    found[#found + 1] = redis.call('HGETALL', hash(id))
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {found, first[2] and math.max(0, first[2] - now) or -1}
"""
)

# KEYS[1] the delivery. ARGV from 4: id, endpoint.
_DONE = (
    _COMMON
    + """
redis.call('ZREM', due(ARGV[5]), ARGV[4])
if redis.call('DEL', KEYS[1]) == 1 then count('gateway_webhooks_total delivered') end
"""
)

# KEYS[1] the delivery. ARGV from 4: id, endpoint, why it failed, ms until the next turn.
_AGAIN = (
    _COMMON
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'detail', ARGV[6], 'last_at', now / 1000)
redis.call('PEXPIRE', KEYS[1], KEEP + ARGV[7])
redis.call('ZADD', due(ARGV[5]), now + ARGV[7], ARGV[4])
redis.call('PEXPIRE', due(ARGV[5]), KEEP + ARGV[7])
count('gateway_webhooks_total failed')
return 1
"""
)

# KEYS[1] the delivery. ARGV from 4: id, endpoint, why.
_BURY = (
    _COMMON
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'last_at', now / 1000)
bury(ARGV[4], ARGV[5], ARGV[6])
return 1
"""
)

# KEYS[1] the set of the dead. ARGV from 4: how many.
_DEAD = (
    _COMMON
    + """
local found = {}
for _, id in ipairs(redis.call('ZREVRANGE', KEYS[1], 0, ARGV[4] - 1)) do
  local flat = redis.call('HGETALL', hash(id))
  if #flat > 0 then found[#found + 1] = flat else redis.call('ZREM', KEYS[1], id) end
end
return found
"""
)

# KEYS[1] the set of the dead. ARGV from 4: id.
_RESEND = (
    _COMMON
    + """
local endpoint = redis.call('HGET', hash(ARGV[4]), 'endpoint')
if redis.call('ZREM', KEYS[1], ARGV[4]) == 0 or not endpoint then return 0 end
redis.call('HDEL', hash(ARGV[4]), 'dead_at')
redis.call('HSET', hash(ARGV[4]), 'attempts', 0)
redis.call('PEXPIRE', hash(ARGV[4]), KEEP)
redis.call('ZADD', due(endpoint), now, ARGV[4])
redis.call('PEXPIRE', due(endpoint), KEEP)
return 1
"""
)


class EventEntry(NamedTuple):
    """
    An event of a call.

    Attributes:
        id: of its entry in the stream.
        fields: names and values; none if the stream was cut before it was read.
    """

    id: str
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class Delivery:
    """
    A message on its way to one endpoint.

    Attributes:
        id: of the delivery: the message's and the endpoint's name.
        endpoint: its name in the settings.
        message_id: ``webhook-id``, the same at each attempt and for all endpoints.
        type: such as ``call.ended``.
        call_id: the call it is about.
        body: JSON.
        traceparent: of the call's trace (W3C Trace Context); empty without one.
        attempts: how many there were, the one it was claimed for included.
    """

    id: str
    endpoint: str
    message_id: str
    type: str
    call_id: str
    body: str
    traceparent: str = ""
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """
    A message that was given up.

    Attributes:
        delivery: the message.
        queued_at: Unix seconds.
        dead_at: when it was given up.
        detail: why the last attempt failed.
    """

    delivery: Delivery
    queued_at: float
    dead_at: float
    detail: str

    def fields(self) -> dict[str, str | int | float]:
        """Return it as plain values, for the HTTP API."""
        told = {"queued_at": self.queued_at, "dead_at": self.dead_at, "detail": self.detail}
        return {**asdict(self.delivery), **told}


class WebhookQueue(OwnConnection):
    """
    The queue; the module says how. Thread: loop. Use as ``async with``, or call ``close``.

    Args:
        redis: where Redis is, and the prefix; ``url`` must be set.
        settings: how much is kept, and for how long.
    """

    def __init__(self, redis: RedisSettings, settings: WebhooksSettings) -> None:
        super().__init__(redis)
        self._waiting = connect(redis, answer_limit_s=BLOCK_S + COMMAND_LIMIT_S)
        self._stream = key_of(redis.prefix, "events")
        self._stem = key_of(redis.prefix, "webhooks", "")
        self._limits = (self._stem, whole_ms(settings.keep_days * 86400), str(settings.backlog))
        self._group_is_there = False
        self._from = "$"  # the first time: what happens from now on
        self._owes = True  # perhaps this consumer has taken entries that are not acknowledged
        self._cursor = "0-0"
        self._tidy_at = 0.0

    async def close(self) -> None:
        """Let go of Redis."""
        await super().close()
        await self._waiting.aclose()

    # Events

    async def entries(self, consumer: str) -> list[EventEntry]:
        """
        Return events that no process has taken yet, or that one took and did not finish; waits for some.

        The first time ever, those from now on. Empty when none came within ``BLOCK_S``.

        Args:
            consumer: name of this process.
        """
        await self._make_group()
        try:
            if self._owes:  # after an outage, the answer to an earlier question may have got lost
                owed = await self._read(consumer, "0")
                self._owes = bool(owed)
                if owed:
                    return owed
            return await self._orphans(consumer) or await self._read(consumer, ">", "BLOCK", whole_ms(BLOCK_S))
        except _NoGroupError:
            self._group_is_there = False
            return []

    async def _read(self, consumer: str, start: str, *block: str) -> list[EventEntry]:
        words = ("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", str(ENTRIES_AT_ONCE), *block)
        async with self._reading(BLOCK_S):
            answer = await self._asked(self._waiting, *words, "STREAMS", self._stream, start)
        return [EventEntry(entry[0], _flat(entry[1])) for _, entries in answer or () for entry in entries]

    async def _orphans(self, consumer: str) -> list[EventEntry]:
        """Take over what a process that died had taken; looked for now and then."""
        now = time.monotonic()
        if now < self._tidy_at:
            return []
        start = self._cursor
        words = (
            "XAUTOCLAIM",
            self._stream,
            GROUP,
            consumer,
            whole_ms(ORPHANED_S),
            start,
            "COUNT",
            str(ENTRIES_AT_ONCE),
        )
        async with self._reading():
            self._cursor, entries, *_ = await self._asked(self._redis, *words)
        if self._cursor == "0-0":
            self._tidy_at = now + ORPHANED_S
            await self._forget_consumers(consumer)
        return [EventEntry(entry[0], _flat(entry[1])) for entry in entries if entry]

    async def _forget_consumers(self, own: str) -> None:
        async with self._reading():
            for flat in await ask(self._redis, "XINFO", "CONSUMERS", self._stream, GROUP):
                one = _flat(flat)
                idle = int(one["idle"]) > CONSUMER_KEPT_S * 1000 and not int(one["pending"])
                if idle and one["name"] != own:
                    await ask(self._redis, "XGROUP", "DELCONSUMER", self._stream, GROUP, str(one["name"]))

    async def _make_group(self) -> None:
        if self._group_is_there:
            return
        async with self._reading():
            try:
                await ask(self._redis, "XGROUP", "CREATE", self._stream, GROUP, self._from, "MKSTREAM")
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise
        self._group_is_there, self._from = True, "0"  # if it is lost, Redis has lost its memory: what it has is new

    async def skip(self, entries: Iterable[EventEntry]) -> None:
        """Acknowledge entries that concern no endpoint."""
        ids = [entry.id for entry in entries]
        if ids:
            async with self._reading():
                await ask(self._redis, "XACK", self._stream, GROUP, *ids)

    async def put(self, entry: EventEntry, deliveries: Sequence[Delivery]) -> bool:
        """Queue what an entry becomes, and acknowledge it; False if another process has done that."""
        words = [GROUP, entry.id]
        for each in deliveries:
            told = {"message_id": each.message_id, "type": each.type, "call_id": each.call_id, "body": each.body}
            told |= {"traceparent": each.traceparent, "attempts": "0"}
            flat = [word for pair in told.items() for word in pair]
            words += [each.id, each.endpoint, str(len(flat)), *flat]
        return bool(await self._run(_PUT, self._stream, *words))

    # Deliveries

    async def claim(self, endpoint: str, most: int, lease_s: float) -> tuple[list[Delivery], float | None]:
        """
        Take deliveries of an endpoint whose turn has come.

        Args:
            endpoint: its name.
            most: how many.
            lease_s: when their turn comes again if nothing else is said of them.

        Returns:
            The deliveries, and the seconds until the next one's turn; None if none waits.
        """
        key = f"{self._stem}due:{endpoint}"
        found, next_ms = await self._run(_CLAIM, key, endpoint, str(most), whole_ms(lease_s))
        return [_delivery(_flat(words)) for words in found], None if int(next_ms) < 0 else int(next_ms) / 1000

    async def done(self, delivery: Delivery) -> None:
        """Remove a delivery that arrived."""
        await self._run(_DONE, self._hash(delivery.id), delivery.id, delivery.endpoint)

    async def again(self, delivery: Delivery, detail: str, delay_s: float) -> None:
        """Have a delivery tried again after a while; ``detail`` is why it failed."""
        await self._run(_AGAIN, self._hash(delivery.id), delivery.id, delivery.endpoint, detail, whole_ms(delay_s))

    async def bury(self, delivery: Delivery, detail: str) -> None:
        """Give a delivery up; ``detail`` is why its last attempt failed."""
        await self._run(_BURY, self._hash(delivery.id), delivery.id, delivery.endpoint, detail)

    # Those given up

    async def dead(self, newest: int = 100) -> list[DeadLetter]:
        """Return the messages that were given up, the newest first."""
        return [_letter(_flat(words)) for words in await self._run(_DEAD, f"{self._stem}dead", str(newest))]

    async def resend(self, delivery_id: str) -> bool:
        """Try one that was given up again, as if for the first time; False if there is none with this id."""
        return bool(await self._run(_RESEND, f"{self._stem}dead", delivery_id))

    def _hash(self, delivery_id: str) -> str:
        return f"{self._stem}delivery:{delivery_id}"

    async def _run(self, script: str, key: str, *words: str) -> Any:
        async with self._reading():
            return await ask(self._redis, "EVAL", script, "1", key, *self._limits, *words)

    @staticmethod
    async def _asked(redis: Any, *words: str) -> Any:
        try:
            return await ask(redis, *words)
        except ResponseError as error:
            if "NOGROUP" in str(error):
                raise _NoGroupError from None
            raise

    @asynccontextmanager
    async def _reading(self, wait_s: float = 0.0) -> AsyncIterator[None]:
        try:
            async with reading(self._where, 2 * COMMAND_LIMIT_S + wait_s):
                yield
        except StoreError:
            self._owes = True
            raise


class _NoGroupError(Exception):
    """The stream or its group is gone."""


def _flat(words: Sequence[str] | Mapping[str, str] | None) -> dict[str, str]:
    """Return names and values, in whichever of its protocols Redis gave them; none of an entry that is gone."""
    if words is None or isinstance(words, Mapping):
        return dict(words or {})
    return dict(zip(words[::2], words[1::2], strict=True))


def _delivery(flat: dict[str, str]) -> Delivery:
    names = ("id", "endpoint", "message_id", "type", "call_id", "body", "traceparent")
    return Delivery(**{name: flat.get(name, "") for name in names}, attempts=int(flat.get("attempts", 0)))


def _letter(flat: dict[str, str]) -> DeadLetter:
    queued_at, dead_at = float(flat.get("queued_at", 0)), float(flat.get("dead_at", 0))
    return DeadLetter(_delivery(flat), queued_at, dead_at, flat.get("detail", ""))
