"""
The records of all calls in Redis: a hash per call, the set of live calls, a stream of events. See ``docs/redis.md``.

``note`` and its siblings only remember, on the loop; they neither wait nor raise. One task writes, in batches, each a
single script on the server (``lua.APPLY``). It always writes the whole newest state of a call, so a write that is
repeated, or that finds its key expired, does no harm. The script numbers the attempts: one that got lost on the way
and arrives late changes nothing, and no event is appended twice.

With each heartbeat the task renews the lease of every live call and the states of this worker (``worker_states``).
What is not renewed expires, and any process may then end the records of a dead worker's calls (``reap_dead_calls``).

While Redis is away calls go on: writes are kept, and when the backlog is full the oldest are dropped and counted. When
it is back, everything that is live is written again, because its keys may have expired or the server may be a new one.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog
from redis.exceptions import AuthenticationError

from gateway.errors import StoreError
from gateway.ids import CallId
from gateway.metrics.definitions import JOURNAL_DROPPED, JOURNAL_LAG, REDIS_AWAY, REDIS_OUTAGES
from gateway.metrics.fields import added, observed
from gateway.redact import without_password
from gateway.settings.sections import RedisSettings
from gateway.store.connection import (
    AWAY,
    COMMAND_LIMIT_S,
    FIRST_RETRY_S,
    LAST_RETRY_S,
    ask,
    connect,
    end_task,
    in_words,
    whole_ms,
)
from gateway.store.keys import key_of
from gateway.store.lua import APPLY, REAP
from gateway.store.record import RECORD_FIELDS, CallRecord, as_text, readable
from gateway.store.worker_states import WorkerStates, read_states
from gateway.threads import runs_on

BATCH = 256
"""Events per round trip."""
COUNTS_KEPT_S = 2 * 86400.0
REMEMBERED = 1024
"""Ended calls whose late events are known not to begin a new record."""

_log = structlog.stdlib.get_logger(__name__)


class _Once(NamedTuple):
    """A command that is carried out once, however often it is sent: an entry of a stream, or a count."""

    number: int
    words: tuple[str, ...]
    at: float  # monotonic seconds


class RedisCallStore:
    """
    ``SessionStore`` on Redis, with the reading side for commands and the status page.

    Everything runs on the loop. ``note`` neither waits nor raises, whatever Redis does; the reading methods wait (at
    most two seconds) and raise ``StoreError``.

    Args:
        settings: names, limits and times; its ``url`` must be set.
        worker: name of this worker, unique among those that share the Redis.
        now: Unix seconds.
    """

    def __init__(
        self,
        settings: RedisSettings,
        worker: str,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._redis = connect(settings)
        self._settings = settings
        self._prefix = settings.prefix
        self._worker = worker
        self._now = now
        self._where = without_password(str(settings.url))
        self._marks = key_of(settings.prefix, "writer", secrets.token_hex(8))
        self._metrics = key_of(settings.prefix, "metrics")
        self._live: dict[str, dict[str, str]] = {}
        self._ended: dict[str, dict[str, str]] = {}
        self._gone: dict[str, None] = {}
        self._dirty: dict[str, None] = {}
        self._events: deque[_Once] = deque()
        self._counts: Counter[tuple[str, str]] = Counter()  # (key, field)
        self._own_counts: Counter[tuple[str, str]] = Counter()  # of the writing itself: they go with the next batch
        self._last_event = 0
        self._attempt = 0
        self._beat_at = 0.0
        self._lost_at: float | None = None
        self._closed = False
        self._wake = asyncio.Event()
        self._states = WorkerStates(self._prefix, worker, whole_ms(settings.expiry_s), now=now, wake=self._wake.set)
        self._task: asyncio.Task[None] | None = None
        self._dropped_counted = 0
        self.dropped = 0
        """Events and ended records that were given up because the backlog was full."""

    @property
    def prefix(self) -> str:
        """First part of every key."""
        return self._prefix

    @property
    def away(self) -> bool:
        """Redis did not answer the last attempt."""
        return self._lost_at is not None

    @property
    def backlog(self) -> int:
        """Events not yet in Redis."""
        return len(self._events)

    # --- writing ---

    @runs_on("loop")
    def note(self, call_id: CallId, event: str, /, **fields: str | int | float) -> None:
        """
        Merge ``fields`` into the call's record and append ``event`` with them to the stream; never waits or raises.

        Names that are not fields of ``CallRecord`` go to the stream only. ``state="ended"`` closes the record; what is
        noted of the call after that goes to the stream only.
        """
        if self._closed:
            return
        at = as_text(self._now())
        flat = {name: as_text(value) for name, value in fields.items() if value is not None}
        self._merge(call_id, flat, at)
        entry = {**flat, "call_id": call_id, "event": as_text(event), "at": at, "worker": self._worker}
        self._append("events", entry)

    @runs_on("loop")
    def audit(self, **fields: str | int | float) -> None:
        """Append a request to the HTTP API to the audit stream; never waits or raises."""
        if not self._closed:
            flat = {name: as_text(value) for name, value in fields.items()}
            self._append("audit", {**flat, "at": as_text(self._now()), "worker": self._worker})

    @runs_on("loop")
    def note_trunk(self, trunk: str, /, **fields: str | int | float) -> None:
        """Replace the state of a trunk of this worker; never waits or raises."""
        self._states.note("trunk", trunk, fields)

    @runs_on("loop")
    def note_dialplan(self, **fields: str | int | float) -> None:
        """Put the state of this worker's dialplan in the place of its last one; never waits or raises."""
        self._states.note("dialplan", "", fields)

    @runs_on("loop")
    def note_upstream(self, model: str, /, **fields: str | int | float) -> None:
        """Replace the state of a model's service as this worker sees it; never waits or raises."""
        self._states.note("upstream", model, fields)

    @runs_on("loop")
    def count(self, what: str, kind: str) -> None:
        """Count one more ``kind`` in today's hash of ``what`` (days of UTC); never waits or raises."""
        if not self._closed:
            self._counts[self._key_of_today(what), as_text(kind)] += 1
            self._wake.set()

    @runs_on("loop")
    def add(self, amounts: Mapping[str, int]) -> None:
        """Add whole numbers to fields of the metrics (``gateway/metrics/fields.py``); never waits or raises."""
        if amounts and not self._closed:
            self._counts.update(self._in_metrics(amounts))
            self._wake.set()

    def _in_metrics(self, amounts: Mapping[str, int]) -> dict[tuple[str, str], int]:
        return {(self._metrics, field): amount for field, amount in amounts.items()}

    def _append(self, stream: str, entry: dict[str, str]) -> None:
        trim = ("MAXLEN", "~", str(self._settings.stream_length), "*")
        words = (word for pair in entry.items() for word in pair)
        self._do_once("XADD", self._key(stream), *trim, *words)

    def _do_once(self, *words: str) -> None:
        if len(self._events) >= self._settings.backlog:
            self._events.popleft()
            self.dropped += 1
        self._last_event += 1
        self._events.append(_Once(self._last_event, words, time.monotonic()))
        self._wake.set()

    def _count_up(self) -> None:
        """Put the counts among the commands. While Redis is away they are added up instead."""
        if self.away:
            return
        self._counts.update(self._own_counts)
        self._own_counts.clear()
        for (key, field), number in self._counts.items():
            self._do_once("HINCRBY", key, field, str(number))
            if key != self._metrics:
                self._do_once("PEXPIRE", key, whole_ms(COUNTS_KEPT_S))
        self._counts.clear()

    def _merge(self, call_id: str, flat: dict[str, str], at: str) -> None:
        if call_id in self._gone:
            return
        record = self._live.setdefault(call_id, {"created_at": at, "worker": self._worker})
        record.update((name, value) for name, value in flat.items() if name in RECORD_FIELDS)
        record["call_id"] = call_id
        self._dirty[call_id] = None
        if record.get("state") != "ended":
            return
        self._ended[call_id] = self._live.pop(call_id)
        self._gone[call_id] = None
        while len(self._gone) > REMEMBERED:
            del self._gone[next(iter(self._gone))]
        while len(self._ended) > self._settings.backlog:
            oldest = next(iter(self._ended))
            del self._ended[oldest]
            self._dirty.pop(oldest, None)
            self.dropped += 1

    async def open(self) -> None:
        """
        Make sure that Redis answers and takes writes, then start the writer.

        Raises:
            StoreError: it does not; says where Redis was expected and what to do.
        """
        try:
            await self._apply([], [])
        except AuthenticationError as error:
            await self._redis.aclose()
            raise StoreError(
                f"Redis at {self._where} refused the login ({error}): put user and password in GATEWAY_REDIS__URL"
            ) from None
        except AWAY as error:
            await self._redis.aclose()
            raise StoreError(
                f"Redis at {self._where} does not answer ({in_words(error)}): start it, fix GATEWAY_REDIS__URL "
                "or REDIS_URL, or unset both for a private server"
            ) from None
        self._task = asyncio.create_task(self._write(), name="session store")

    async def close(self, limit_s: float = 2.0) -> None:
        """Write what is waiting, for at most ``limit_s`` seconds, then let go of Redis. Safe more than once."""
        if self._closed:
            return
        self._closed = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=limit_s)
            await end_task(self._task)
        if self._events or self._dirty:
            _log.warning("redis closed with writes waiting", events=len(self._events), records=len(self._dirty))
        if self._task is not None and not self.away:
            with suppress(*AWAY):
                async with asyncio.timeout(COMMAND_LIMIT_S):
                    for words in (("DEL", self._marks), *self._states.farewell()):
                        await self._ask(*words)
        await self._redis.aclose()

    async def _write(self) -> None:
        delay_s = FIRST_RETRY_S
        while not (self._closed and not self._events and not self._dirty and not self._counts):
            await self._work_or_beat()
            events, dirty, commands = self._batch()
            try:
                await self._apply(events, commands)
            except AWAY as error:
                self._dirty = dirty | self._dirty
                self._noticed_loss(error)
                # Workers that lost the same Redis must not all return in the same instant.
                await asyncio.sleep(delay_s * random.uniform(0.5, 1))
                delay_s = min(2 * delay_s, LAST_RETRY_S)
            else:
                self._written(events, dirty)
                delay_s = FIRST_RETRY_S

    async def _work_or_beat(self) -> None:
        if self._events or self._dirty or self._counts or self._states.changed or self.away or self._closed:
            return
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._beat_at):
                await self._wake.wait()

    def _batch(self) -> tuple[list[_Once], dict[str, None], list[tuple[int, tuple[str, ...]]]]:
        """Return the events to append, the calls written, and the commands; takes the calls out of ``_dirty``."""
        monotonic, at = asyncio.get_running_loop().time(), as_text(self._now())
        commands: list[tuple[int, tuple[str, ...]]] = []
        dirty = dict.fromkeys(itertools.islice(self._dirty, BATCH))
        for call_id in dirty:
            del self._dirty[call_id]
        # After a loss everything is written again: the keys may have expired, or the server be a new one.
        beats = monotonic >= self._beat_at or self.away
        if beats or self._states.changed:
            commands.extend((0, words) for words in self._states.commands())
        if beats:
            self._beat_at = monotonic + self._settings.heartbeat_s
            dirty |= dict.fromkeys(self._live)
        commands.extend((0, words) for call_id in dirty for words in self._record_commands(call_id, at))
        self._count_up()
        events = list(itertools.islice(self._events, BATCH))
        commands.extend((event.number, event.words) for event in events)
        return events, dirty, commands

    def _record_commands(self, call_id: str, at: str) -> Iterator[tuple[str, ...]]:
        live = self._live.get(call_id)
        record = self._ended.get(call_id, {}) if live is None else live
        if live is not None:
            live["heartbeat_at"] = at
        key, lease = self._key("call", call_id), self._key("lease", call_id)
        yield ("DEL", key)  # what another worker wrote when it took ours for dead
        yield ("HSET", key, *(word for pair in record.items() for word in pair))
        yield ("PEXPIRE", key, whole_ms(self._kept_s(record)))
        if live is None:
            yield ("DEL", lease)
            yield ("SREM", self._key("calls", "live"), call_id)
        else:
            yield ("SET", lease, self._worker, "PX", whole_ms(self._settings.expiry_s))
            yield ("SADD", self._key("calls", "live"), call_id)

    def _kept_s(self, record: Mapping[str, str]) -> float:
        """Return how long a record is kept: only briefly for an unanswered inbound call."""
        unanswered = record.get("state") == "ended" and "answered_at" not in record
        if unanswered and record.get("direction") != "outbound":
            return min(self._settings.unanswered_retention_s, self._settings.retention_s)
        return self._settings.retention_s

    async def _apply(self, events: list[_Once], commands: Iterable[tuple[int, tuple[str, ...]]]) -> None:
        self._attempt += 1
        last = str(events[-1].number) if events else "0"
        words = [str(self._attempt), last, whole_ms(self._settings.retention_s)]
        for number, command in commands:
            words += [str(len(command)), str(number), *command]
        async with asyncio.timeout(2 * COMMAND_LIMIT_S):
            faults = await self._ask("EVAL", APPLY, "1", self._marks, *words)
        if faults:
            _log.error("redis refused commands", faults=faults[:5], count=len(faults))

    def _written(self, events: list[_Once], dirty: dict[str, None]) -> None:
        last = events[-1].number if events else 0
        appended = next((event.at for event in events if event.words[0] == "XADD"), None)
        if appended is not None:
            lag = observed(JOURNAL_LAG, time.monotonic() - appended)
            self._own_counts.update(self._in_metrics(lag))
        while self._events and self._events[0].number <= last:
            self._events.popleft()
        for call_id in dirty:
            if call_id not in self._dirty:
                self._ended.pop(call_id, None)
        if self._lost_at is not None:
            away_s = round(asyncio.get_running_loop().time() - self._lost_at, 1)
            self._lost_at = None
            outage = {**added(REDIS_OUTAGES), **added(REDIS_AWAY, amount=away_s)}
            outage |= added(JOURNAL_DROPPED, amount=self.dropped - self._dropped_counted)
            self._dropped_counted = self.dropped
            self._own_counts.update(self._in_metrics(outage))
            _log.warning("redis is back", where=self._where, away_s=away_s, dropped=self.dropped)

    def _noticed_loss(self, error: BaseException) -> None:
        if self._lost_at is None:
            self._lost_at = asyncio.get_running_loop().time()
            _log.error("redis is away; calls go on, writes are kept", where=self._where, error=in_words(error))

    # --- reading ---

    async def live_calls(self) -> list[CallRecord]:
        """Return the live calls of all workers, oldest first. Raises ``StoreError``."""
        async with self._reading():
            ids = sorted(await self._ask("SMEMBERS", self._key("calls", "live")))
            async with self._redis.pipeline(transaction=False) as pipeline:
                for call_id in ids:
                    pipeline.execute_command("EXISTS", self._key("lease", call_id))
                    pipeline.execute_command("HGETALL", self._key("call", call_id))
                answers = await pipeline.execute()
        hashes = (flat for leased, flat in zip(answers[::2], answers[1::2], strict=True) if leased)
        records = [record for flat in hashes if (record := readable(flat)) is not None]
        return sorted(records, key=lambda record: record.created_at or 0)

    async def call(self, call_id: str) -> CallRecord | None:
        """Return a call, live or ended within ``retention_s``; None when there is none. Raises ``StoreError``."""
        async with self._reading():
            flat = await self._ask("HGETALL", self._key("call", call_id))
        return readable(flat)

    async def events(self, newest: int = 1000) -> list[dict[str, str]]:
        """
        Return the newest events of all calls, oldest first, each with ``call_id``, ``event``, ``at`` and ``worker``.

        Raises ``StoreError``.
        """
        async with self._reading():
            entries = await self._ask("XREVRANGE", self._key("events"), "+", "-", "COUNT", str(newest))
        return [fields for _, fields in reversed(entries)]

    async def counts(self, what: str) -> dict[str, int]:
        """Return how many of each kind ``count`` has counted today. Raises ``StoreError``."""
        async with self._reading():
            flat = await self._ask("HGETALL", self._key_of_today(what))
        return {kind: int(number) for kind, number in flat.items()}

    async def metrics(self) -> dict[str, str]:
        """Return what all workers have counted, by ``add``, since the key is there. Raises ``StoreError``."""
        async with self._reading():
            return dict(await self._ask("HGETALL", self._metrics))

    async def trunks(self) -> list[dict[str, str]]:
        """Return the state of every worker's trunks, as noted by ``note_trunk``. Raises ``StoreError``."""
        async with self._reading():
            return await read_states(self._ask, self._prefix, "trunk")

    async def dialplans(self) -> list[dict[str, str]]:
        """Return the state of every worker's dialplan, as noted by ``note_dialplan``. Raises ``StoreError``."""
        async with self._reading():
            return await read_states(self._ask, self._prefix, "dialplan")

    async def upstreams(self) -> list[dict[str, str]]:
        """Return how every worker found the models' services, as noted by ``note_upstream``. Raises ``StoreError``."""
        async with self._reading():
            return await read_states(self._ask, self._prefix, "upstream")

    async def call_keys(self) -> list[str]:
        """Return the keys of all calls that Redis still holds, ended ones too. Raises ``StoreError``."""
        async with self._reading():
            return [key async for key in self._redis.scan_iter(match=self._key("call", "*"))]

    async def reap_dead_calls(self) -> list[str]:
        """
        End the records of calls that are no longer renewed: their worker died.

        Each leaves the live set, is kept like any other that ended (``end_reason`` ``worker_died``, at the time of its
        last heartbeat) and gets one event ``orphaned``, however many processes reap at once. Returns their ids. Raises
        ``StoreError``.
        """
        live, stream, reaped = self._key("calls", "live"), self._key("events"), []
        async with self._reading():
            for call_id in await self._ask("SMEMBERS", live):
                if call_id in self._live:  # only late: the next heartbeat writes it again
                    continue
                keys = (live, self._key("call", call_id), stream, self._key("lease", call_id))
                length, kept_ms = str(self._settings.stream_length), whole_ms(self._settings.retention_s)
                words = (call_id, as_text(self._now()), self._worker, length, kept_ms)
                if await self._ask("EVAL", REAP, "4", *keys, *words):
                    reaped.append(call_id)
        return reaped

    async def reap_calls_of(self, worker: str) -> list[str]:
        """
        End the records of the calls of a worker that is known to be dead, although their leases last yet.

        Returns their ids, and those of all others that expired meanwhile. Raises ``StoreError``.
        """
        async with self._reading():
            for call_id in await self._ask("SMEMBERS", self._key("calls", "live")):
                lease = self._key("lease", call_id)
                if await self._ask("GET", lease) == worker:
                    await self._ask("DEL", lease)
        return await self.reap_dead_calls()

    async def run(self, script: str, keys: Sequence[str], words: Sequence[str]) -> Any:
        """Run a Lua script once on the server; return its answer. Raises ``StoreError``."""
        async with self._reading():
            return await self._ask("EVAL", script, str(len(keys)), *keys, *words)

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(2 * COMMAND_LIMIT_S):
                yield
        except AWAY as error:
            raise StoreError(f"Redis at {self._where} does not answer ({in_words(error)})") from None

    async def _ask(self, *words: str) -> Any:
        return await ask(self._redis, *words)

    def _key_of_today(self, what: str) -> str:
        return self._key(what, datetime.fromtimestamp(self._now(), UTC).date().isoformat())

    def _key(self, *parts: str) -> str:
        return key_of(self._prefix, *parts)
