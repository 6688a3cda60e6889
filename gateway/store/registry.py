"""
The registry of workers: which there are, on all hosts that share a Redis, and whether they take calls.

Each worker writes a hash of its own (``WorkerEntry``, carried out by the writer in ``calls``): at once when its state
changes, with the record of a call that begins or ends, and every ``worker_heartbeat_s``. The hash expires
``worker_expiry_s`` after the last write, so a worker that died, or whose host did, is gone within seconds. One that
ends in order takes its hash away itself. A set names all hashes; a message on a channel tells of each change of state.

``follow_workers`` is the reading side, for whoever sends calls to workers. It asks for the whole list, one round trip
whatever its length, when a message comes and every second, and gives it when it has changed. A message may get lost,
and a worker that dies sends none, so the list is the truth and messages only make it fast.

While Redis is away the last list stays in force: the workers are most likely well. After that, workers that are not in
Redis yet are kept a little longer, since a Redis that lost its memory learns of them one by one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
import re
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, get_args

import structlog
from redis.asyncio.client import PubSub

from gateway.condition import State, WorkerCondition
from gateway.redact import without_password
from gateway.settings.sections import RedisSettings
from gateway.store.connection import AWAY, COMMAND_LIMIT_S, FIRST_RETRY_S, LAST_RETRY_S, connect, in_words, whole_ms
from gateway.store.lua import WORKERS
from gateway.store.record import as_text

POLL_S = 1.0
GATHER_S = 0.05
"""How long further messages are waited for, so that a hundred workers that start are one list."""

_STATES: frozenset[str] = frozenset(get_args(State))
_ADDRESS = re.compile(r"([0-9.]{7,15}):([0-9]{1,5})")
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RegisteredWorker:
    """
    A worker as Redis has it.

    Attributes:
        condition: how it is; ``sip`` is empty for one that no edge may send calls to.
        host: name of the machine it runs on.
        version: of its program.
        heartbeat_at: when it last wrote, Unix seconds of its own clock.
    """

    condition: WorkerCondition
    host: str
    version: str
    heartbeat_at: float


class WorkerEntry:
    """
    The entry of one worker, on its way to Redis. Thread: loop.

    Args:
        settings: the prefix and the times.
        worker: name of this worker.
        now: Unix seconds.
        wake: called when there is something that cannot wait for the next heartbeat.
    """

    def __init__(
        self, settings: RedisSettings, worker: str, *, now: Callable[[], float], wake: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._key = f"{settings.prefix}:worker:{worker}"
        self._fixed = {"worker": worker, "host": socket.gethostname(), "version": own_version()}
        self._now = now
        self._wake = wake
        self._condition: WorkerCondition | None = None
        self._is_news = False
        self.changed = False
        """Something is not yet written."""
        self.due_at = math.inf
        """When the next heartbeat is due, in monotonic seconds."""

    def note(self, condition: WorkerCondition) -> None:
        """Put a new condition in the place of the last one; the state ``ended`` takes the entry away."""
        last, self._condition = self._condition, condition
        self.changed = True
        # How many calls there are is written with the record of the call that began or ended.
        if last is None or replace(last, live_calls=condition.live_calls) != condition:
            self._is_news = True
            self._wake()

    def commands(self, monotonic: float, *, again: bool) -> Iterator[tuple[str, ...]]:
        """
        Give what writes the entry, if anything is to be written; it counts as written from then on.

        Args:
            monotonic: seconds.
            again: what was written before may be lost.
        """
        condition = self._condition
        if condition is None or not (self.changed or again or monotonic >= self.due_at):
            return
        news = self._is_news or again
        self.changed = self._is_news = False
        if condition.state == "ended":
            self.due_at = math.inf
            yield from self.farewell()
            return
        self.due_at = monotonic + self._settings.worker_heartbeat_s
        told = {
            **self._fixed,
            "sip": condition.sip,
            "state": condition.state,
            "live_calls": str(condition.live_calls),
            "capacity": str(condition.capacity),
            "heartbeat_at": as_text(self._now()),
        }
        yield ("HSET", self._key, *(word for pair in told.items() for word in pair))
        yield ("PEXPIRE", self._key, whole_ms(self._settings.worker_expiry_s))
        yield ("SADD", names_key(self._settings.prefix), self._key)
        if news:
            yield self._message(condition.state)

    def farewell(self) -> Iterator[tuple[str, ...]]:
        """Give what takes the entry away."""
        if self._condition is not None:
            yield from removal(self._settings.prefix, self._fixed["worker"])

    def _message(self, state: State) -> tuple[str, ...]:
        return _message(self._settings.prefix, state, self._fixed["worker"])


def removal(prefix: str, worker: str) -> Iterator[tuple[str, ...]]:
    """Give what takes the entry of a worker away, one that is dead too."""
    key = f"{prefix}:worker:{worker}"
    yield ("DEL", key)
    yield ("SREM", names_key(prefix), key)
    yield _message(prefix, "ended", worker)


def _message(prefix: str, state: State, worker: str) -> tuple[str, ...]:
    return ("PUBLISH", changes_channel(prefix), f"{state} {worker}")


def own_version() -> str:
    """Return the version of this program as it was installed; empty where it was not."""
    try:
        return version("sip-voice-gateway")
    except PackageNotFoundError:
        return ""


def names_key(prefix: str) -> str:
    """Return the key of the set that names the hashes of all workers."""
    return f"{prefix}:workers"


def changes_channel(prefix: str) -> str:
    """Return the channel on which every change of a worker's state is told."""
    return f"{prefix}:workers:changed"


def registered_worker(flat: Mapping[str, str]) -> RegisteredWorker | None:
    """Return what a hash tells of a worker; None for one that something else wrote."""
    sip, state, name = flat.get("sip", ""), flat.get("state", ""), flat.get("worker", "")
    try:
        live_calls, capacity = int(flat["live_calls"]), int(flat["capacity"])
        heartbeat_at = float(flat["heartbeat_at"])
    except (KeyError, ValueError):
        return None
    usable = name and min(live_calls, capacity) >= 0 and math.isfinite(heartbeat_at)
    if not usable or state not in _STATES or (sip and not _is_address(sip)):
        return None
    told: State = state  # type: ignore[assignment]  # one of them, as was just checked
    condition = WorkerCondition(name, told, live_calls, capacity, sip)
    return RegisteredWorker(condition, flat.get("host", ""), flat.get("version", ""), heartbeat_at)


def _is_address(sip: str) -> bool:
    """Whether this is an IPv4 address and a port; nothing else may come into the configuration of an edge."""
    found = _ADDRESS.fullmatch(sip)
    if found is None or not 0 < int(found[2]) < 65536:
        return False
    try:
        return not ipaddress.IPv4Address(found[1]).is_unspecified
    except ValueError:
        return False


def read_answer(answer: str) -> dict[str, RegisteredWorker]:
    """Return the workers, by name, in what the script ``lua.WORKERS`` answered; what cannot be read is passed over."""
    found = {}
    for words in json.loads(answer) or ():
        flat = dict(zip(words[::2], words[1::2], strict=True))
        worker = registered_worker(flat)
        if worker is None:
            _log.warning("unreadable worker ignored", entry={name: text[:100] for name, text in flat.items()})
        else:
            found[worker.condition.worker] = worker
    return dict(sorted(found.items()))


def believed(
    known: Mapping[str, RegisteredWorker], found: Mapping[str, RegisteredWorker], *, sure: bool
) -> dict[str, RegisteredWorker]:
    """
    Return the workers to go by.

    Args:
        known: those that were gone by so far.
        found: those that Redis has.
        sure: Redis was there long enough that every worker that lives has written; else those known are kept.
    """
    return dict(found) if sure else {**known, **found}


def is_same(one: Mapping[str, RegisteredWorker], other: Mapping[str, RegisteredWorker]) -> bool:
    """Whether two lists mean the same to who sends calls: heartbeats and counts of calls change all the time."""
    return _steady(one) == _steady(other)


def _steady(workers: Mapping[str, RegisteredWorker]) -> dict[str, RegisteredWorker]:
    return {
        name: replace(worker, heartbeat_at=0, condition=replace(worker.condition, live_calls=0))
        for name, worker in workers.items()
    }


async def follow_workers(
    settings: RedisSettings, *, poll_s: float = POLL_S
) -> AsyncGenerator[tuple[RegisteredWorker, ...]]:
    """
    Give the list of all workers, by name: the first one when Redis has answered, then each one that differs.

    Never ends and never raises because of Redis: while that is away, nothing is given and the last list stays in
    force. Use ``contextlib.aclosing``. Thread: loop.

    Args:
        settings: where Redis is, the prefix and the times; ``url`` must be set.
        poll_s: how often the list is asked for without a message.
    """
    redis, where = connect(settings), without_password(str(settings.url))
    known: dict[str, RegisteredWorker] | None = None
    lost_at, sure_at, delay_s = None, 0.0, FIRST_RETRY_S
    try:
        while True:
            news = redis.pubsub()
            try:
                await news.subscribe(changes_channel(settings.prefix))
                while True:
                    answer = await _ask(redis, "EVAL", WORKERS, "1", names_key(settings.prefix))
                    if lost_at is not None:
                        _log.warning("registry_is_back", where=where, away_s=round(time.monotonic() - lost_at, 1))
                        # By then each worker has tried again, at the longest interval, and written.
                        sure_at = time.monotonic() + LAST_RETRY_S + settings.worker_expiry_s
                        lost_at, delay_s = None, FIRST_RETRY_S
                    now = believed(known or {}, read_answer(answer), sure=time.monotonic() >= sure_at)
                    if known is None or not is_same(known, now):
                        yield tuple(now.values())
                    known = now
                    await _until_news(news, poll_s)
            except AWAY as error:
                if lost_at is None:
                    lost_at = time.monotonic()
                    _log.error("registry_away", detail="the last list stays", where=where, error=in_words(error))
            finally:
                await news.aclose()  # type: ignore[no-untyped-call]
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, LAST_RETRY_S)
    finally:
        await redis.aclose()


async def _ask(redis: Any, *words: str) -> Any:
    async with asyncio.timeout(2 * COMMAND_LIMIT_S):
        return await redis.execute_command(*words)


async def _until_news(news: PubSub, poll_s: float) -> None:
    """Wait for a message, and then a moment for those that come with it; for ``poll_s`` seconds at most."""
    end = time.monotonic() + poll_s
    while (left_s := end - time.monotonic()) > 0:
        if await news.get_message(ignore_subscribe_messages=True, timeout=left_s) is not None:
            end = min(end, time.monotonic() + GATHER_S)
