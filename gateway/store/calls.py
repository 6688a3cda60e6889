"""
Writes the records of all calls to Redis: hashes, live sets, events, CDRs, totals.

``reader`` reads them; see ``docs/redis.md``.

Theory of operation
-------------------
``note`` and its siblings only remember, on the loop; they neither wait nor raise. One task writes, in batches, each a
single script on the server (``lua.APPLY``), so records, live sets, events and CDRs change together. A changed record is
always written whole, so a write that is repeated, or that finds its key expired, does no harm. The script numbers the
attempts: one that got lost on the way and arrives late changes nothing, and no event is appended twice. A call's CDR is
written when its record ends, by the same script; the record remembers it, so there is never a second one.

With each heartbeat the task renews the live calls and the states of this worker (``worker_states``). The score of a
call in the live set is the time, on Redis's clock, until which it counts as alive. What is not renewed belongs to a
worker that is lost, and the first process to look ends it (``lua.REAP``): each write says whether there is any. While
Redis is away nobody can renew anything, so a store looks only when it has reached Redis for ``expiry_s`` without a gap
(``BACK_WITHIN_S`` at least): by then every worker that lives has renewed its calls.

While Redis is away calls go on: writes are kept, and when the backlog is full the oldest are dropped and counted. When
it is back, everything that is live is written again, because its keys may have expired or the server may be a new one.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog
from redis.exceptions import AuthenticationError

from gateway.call.end_reasons import END_REASONS
from gateway.call.outcome import EndReason, Side
from gateway.errors import StoreError
from gateway.ids import CallId
from gateway.metrics.definitions import CALLS_ENDED, JOURNAL_DROPPED, JOURNAL_LAG, REDIS_AWAY, REDIS_OUTAGES
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
    reading,
    whole_ms,
)
from gateway.store.keys import key_of
from gateway.store.lua import APPLY, REAP
from gateway.store.record import RECORD_FIELDS, as_text
from gateway.store.worker_states import WorkerStates
from gateway.threads import runs_on

BATCH = 256
"""Events per round trip."""
COUNTS_KEPT_S = 2 * 86400.0
REMEMBERED = 1024
"""Ended calls whose late events are known not to begin a new record."""
BACK_WITHIN_S = LAST_RETRY_S + 2 * COMMAND_LIMIT_S
"""In this time every store that lives has reached a Redis that is back: an attempt that fails, and the next one."""
FORGET_EVERY_S = 3600.0
"""How often entries of streams that are older than they may be are removed."""
REAPED_AT_ONCE = 64
"""Calls of lost workers that one script ends."""
_LOST = {
    "end_reason": EndReason.WORKER_LOST.value,
    "end_detail": "its worker was lost",
    "ended_by": Side.GATEWAY.value,
    "fault": END_REASONS[EndReason.WORKER_LOST].fault.value,
}
"""How a call ends whose worker was lost."""

_log = structlog.stdlib.get_logger(__name__)


class _Once(NamedTuple):
    """A command that is carried out once, however often it is sent: an entry of a stream, or a count."""

    number: int
    words: tuple[str, ...]
    at: float  # monotonic seconds


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one script writes: ``dirty`` are the calls whose records it has."""

    events: list[_Once]
    dirty: dict[str, None]
    commands: list[tuple[int, tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class StoreCondition:
    """
    How the writer is.

    Attributes:
        away_s: how long Redis has been away; None while it answers.
        backlog: writes that wait.
        dropped: writes given up since the process began because the backlog was full.
    """

    away_s: float | None
    backlog: int
    dropped: int

    @property
    def degraded(self) -> bool:
        """Redis does not answer, or takes no writes."""
        return self.away_s is not None


class RedisCallStore:
    """
    ``SessionStore`` on Redis.

    Everything runs on the loop. ``note`` neither waits nor raises, whatever Redis does; what asks Redis waits (at
    most two seconds) and raises ``StoreError``.

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
        self._forget_at = 0.0
        self._lost_at: float | None = None
        self._sure_at = math.inf  # from then on a call that is not renewed is one whose worker is lost
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

    @property
    def condition(self) -> StoreCondition:
        """How the writer is, for whoever reports health."""
        away_s = None if self._lost_at is None else asyncio.get_running_loop().time() - self._lost_at
        return StoreCondition(away_s, len(self._events) + len(self._dirty), self.dropped)

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
        entry = {**flat, "event": as_text(event), "at": at}
        for name in ("call_id", "worker"):  # the script adds them
            entry.pop(name, None)
        self._do_once("TELL", call_id, *_words(entry))

    @runs_on("loop")
    def keep_live(self, call_id: CallId, /, **fields: str | int | float) -> None:
        """
        Merge ``fields`` into the record of a live call of which nothing but counts is kept; never waits or raises.

        No event is appended. With ``state="ended"`` the call is added to the totals of the day, gets no CDR, and its
        record goes.
        """
        if self._closed:
            return
        flat = {name: as_text(value) for name, value in fields.items() if value is not None}
        self._merge(call_id, {**flat, "privacy": "counts"}, as_text(self._now()))
        self._wake.set()

    @runs_on("loop")
    def audit(self, **fields: str | int | float) -> None:
        """Append a request to the HTTP API to the audit stream; never waits or raises."""
        if not self._closed:
            flat = {name: as_text(value) for name, value in fields.items()}
            entry = {**flat, "at": as_text(self._now()), "worker": self._worker}
            length = str(self._settings.stream_length)
            self._do_once("XADD", self._key("audit"), "MAXLEN", "~", length, "*", *_words(entry))

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
        record.pop("heartbeat_at", None)
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
            await self._apply(_Batch([], {}, []))
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
        self._sure_at = self._sure_from(asyncio.get_running_loop().time())
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
            batch = self._batch()
            try:
                missing, overdue = await self._apply(batch)
                if overdue and not self.away:
                    await self._look()
            except AWAY as error:
                self._dirty = batch.dirty | self._dirty
                self._noticed_loss(error)
                # Workers that lost the same Redis must not all return in the same instant.
                await asyncio.sleep(delay_s * random.uniform(0.5, 1))
                delay_s = min(2 * delay_s, LAST_RETRY_S)
            else:
                self._written(batch)
                self._dirty.update((call_id, None) for call_id in missing if call_id in self._live)
                delay_s = FIRST_RETRY_S

    async def _work_or_beat(self) -> None:
        if self._events or self._dirty or self._counts or self._states.changed or self.away or self._closed:
            return
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._beat_at):
                await self._wake.wait()

    def _batch(self) -> _Batch:
        """Return the next things to write; takes the calls out of ``_dirty``."""
        monotonic, at = asyncio.get_running_loop().time(), as_text(self._now())
        commands: list[tuple[int, tuple[str, ...]]] = []
        beats = monotonic >= self._beat_at or self.away
        if beats or self._states.changed:
            commands.extend((0, words) for words in self._states.commands())
        if self.away:  # everything is written again: the keys may have expired, or the server be a new one
            self._dirty.update(dict.fromkeys(self._live))
        dirty = dict.fromkeys(itertools.islice(self._dirty, BATCH))
        for call_id in dirty:
            del self._dirty[call_id]
        if monotonic >= self._forget_at:
            self._forget_at = monotonic + FORGET_EVERY_S
            commands.append((0, ("FORGET", "old entries")))
        if beats:
            self._beat_at = monotonic + self._settings.heartbeat_s
            renewed = ((call_id, self._live[call_id]) for call_id in self._live if call_id not in dirty)
            commands.extend((0, ("RENEW", call_id, self._kept_ms(record), at)) for call_id, record in renewed)
        commands.extend((0, words) for call_id in dirty for words in self._record_command(call_id, at))
        self._count_up()
        events = list(itertools.islice(self._events, BATCH))
        commands.extend((event.number, event.words) for event in events)
        return _Batch(events, dirty, commands)

    def _record_command(self, call_id: str, at: str) -> Iterator[tuple[str, ...]]:
        live = self._live.get(call_id)
        record = self._ended.get(call_id) if live is None else live
        if record is None:  # given up meanwhile
            return
        if live is not None:
            live["heartbeat_at"] = at
        yield ("PUT", call_id, self._kept_ms(record), *_words(record))

    def _kept_ms(self, record: Mapping[str, str]) -> str:
        """Return how long a record is kept: only briefly for an unanswered inbound call."""
        unanswered = record.get("state") == "ended" and "answered_at" not in record
        if unanswered and record.get("direction") != "outbound":
            return whole_ms(min(self._settings.unanswered_retention_s, self._settings.retention_s))
        return whole_ms(self._settings.retention_s)

    def _common_words(self) -> tuple[str, ...]:
        """Return what the scripts about calls share."""
        settings = self._settings
        return (
            self._key(""),
            self._worker,
            whole_ms(settings.expiry_s),
            whole_ms(settings.retention_s),
            str(settings.stream_length),
            str(settings.call_stream_length),
            whole_ms(settings.cdr_retention_s),
        )

    async def _apply(self, batch: _Batch) -> tuple[list[str], int]:
        """Write a batch. Return the live calls that Redis has no live record of, and how many calls nobody renews."""
        self._attempt += 1
        last = str(batch.events[-1].number) if batch.events else "0"
        words = [*self._common_words(), str(self._attempt), last]
        for number, command in batch.commands:
            words += [str(len(command)), str(number), *command]
        async with asyncio.timeout(2 * COMMAND_LIMIT_S):
            faults, missing, overdue = await self._ask("EVAL", APPLY, "1", self._marks, *words)
        if faults:
            _log.error("redis refused commands", faults=faults[:5], count=len(faults))
        return [str(call_id) for call_id in missing], overdue

    def _written(self, batch: _Batch) -> None:
        last = batch.events[-1].number if batch.events else 0
        appended = next((event.at for event in batch.events if event.words[0] == "TELL"), None)
        if appended is not None:
            lag = observed(JOURNAL_LAG, time.monotonic() - appended)
            self._own_counts.update(self._in_metrics(lag))
        while self._events and self._events[0].number <= last:
            self._events.popleft()
        for call_id in batch.dirty:
            if call_id not in self._dirty:
                self._ended.pop(call_id, None)
        if self._lost_at is not None:
            now = asyncio.get_running_loop().time()
            away_s = round(now - self._lost_at, 1)
            self._lost_at, self._sure_at = None, self._sure_from(now)
            outage = {**added(REDIS_OUTAGES), **added(REDIS_AWAY, amount=away_s)}
            outage |= added(JOURNAL_DROPPED, amount=self.dropped - self._dropped_counted)
            self._dropped_counted = self.dropped
            self._own_counts.update(self._in_metrics(outage))
            _log.warning("redis is back", where=self._where, away_s=away_s, dropped=self.dropped)

    def _noticed_loss(self, error: BaseException) -> None:
        if self._lost_at is None:
            self._lost_at = asyncio.get_running_loop().time()
            _log.error("redis is away; calls go on, writes are kept", where=self._where, error=in_words(error))

    # --- the calls of lost workers ---

    async def reap_dead_calls(self) -> list[str]:
        """
        End the records of calls that are no longer renewed: their worker is lost.

        Each leaves the live sets, is kept like any other that ended (``end_reason`` ``worker_lost``, at the time of
        its last heartbeat), gets its CDR and one event ``orphaned``, and gives its places in limits back, however many
        processes look at once. Nothing is done until this process has reached Redis for ``expiry_s`` without a gap.
        Every store looks with each heartbeat, so nobody has to. Returns their ids. Raises ``StoreError``.
        """
        async with self._reading():
            return await self._look()

    async def reap_calls_of(self, worker: str) -> list[str]:
        """
        End the calls of a worker that is known to be dead, although they do not count as lost yet.

        Returns their ids. Raises ``StoreError``.
        """
        async with self._reading():
            return await self._reap(worker)

    def _sure_from(self, reached_at: float) -> float:
        """Return from when on a call that nobody renews is one whose worker is lost."""
        return reached_at + max(self._settings.expiry_s, BACK_WITHIN_S)

    async def _look(self) -> list[str]:
        reaped: list[str] = []
        while asyncio.get_running_loop().time() >= self._sure_at:
            some = await self._reap("")
            reaped += some
            if len(some) < REAPED_AT_ONCE:
                break
        return reaped

    async def _reap(self, worker: str) -> list[str]:
        words = (*self._common_words(), worker, str(REAPED_AT_ONCE), *_words(_LOST))
        async with asyncio.timeout(2 * COMMAND_LIMIT_S):
            faults, reaped = await self._ask("EVAL", REAP, "1", self._key("calls", "live"), *words)
        if faults:
            _log.error("redis refused to end calls", faults=faults[:5], count=len(faults))
        for call_id, lost, direction in reaped:
            _log.warning("call_orphaned", call_id=call_id, lost=lost, detail=_LOST["end_detail"])
            self.add(added(CALLS_ENDED, _LOST["end_reason"], _LOST["fault"], direction))
        return [str(call_id) for call_id, *_ in reaped]

    async def run(self, script: str, keys: Sequence[str], words: Sequence[str]) -> Any:
        """Run a Lua script once on the server; return its answer. Raises ``StoreError``."""
        async with self._reading():
            return await self._ask("EVAL", script, str(len(keys)), *keys, *words)

    def _reading(self) -> AbstractAsyncContextManager[None]:
        return reading(self._where)

    async def _ask(self, *words: str) -> Any:
        return await ask(self._redis, *words)

    def _key_of_today(self, what: str) -> str:
        return self._key(what, datetime.fromtimestamp(self._now(), UTC).date().isoformat())

    def _key(self, *parts: str) -> str:
        return key_of(self._prefix, *parts)


def _words(fields: Mapping[str, str]) -> Iterator[str]:
    """Give names and values in turn, as Redis takes them."""
    return (word for pair in fields.items() for word in pair)
