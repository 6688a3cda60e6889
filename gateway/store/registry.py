"""
The registry of workers: which there are, on all hosts that share a Redis, and whether they take calls.

Each worker has a hash, written by itself or, in a fleet, by its supervisor for all of them (``RegistryWriter``): at
once when its state changes, and every ``worker_heartbeat_s``. The hash expires ``worker_expiry_s`` after the last
write, so the workers of a host that died are gone within seconds. A worker that ended, or whose supervisor saw it die,
is ``ended`` at once, until its hash expires. A set names all hashes; a message on a channel tells of each change of
state.

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
import random
import re
import socket
import time
from collections.abc import AsyncGenerator, Callable, Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Self, get_args

import structlog
from redis.asyncio.client import PubSub

from gateway.condition import State, WorkerCondition
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
from gateway.store.lua import REGISTER, WORKERS
from gateway.store.record import as_text
from gateway.threads import runs_on

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


class RegistryWriter:
    """
    Writes the entries of workers of this machine: of the one in this process, or of all that a supervisor has.

    ``set_workers`` neither waits nor raises; one task writes, everything that is due in one round trip. Entries are
    always written whole, so a write that is repeated or lost does no harm. Use as ``async with``, at whose end all
    workers have ended. Thread: loop.

    Args:
        settings: where Redis is, the prefix and the times; ``url`` must be set.
        now: Unix seconds.
    """

    def __init__(self, settings: RedisSettings, *, now: Callable[[], float] = time.time) -> None:
        self._redis = connect(settings)
        self._settings = settings
        self._where = without_password(str(settings.url))
        self._fixed = {"host": socket.gethostname(), "version": own_version()}
        self._now = now
        self._workers: dict[str, WorkerCondition] = {}
        self._news: set[str] = set()  # workers whose change is not told yet
        self._wake = asyncio.Event()
        self._beat_at = 0.0
        self._away = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to write."""
        self._task = asyncio.create_task(self._write(), name="registry writer")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say that all workers have ended, if Redis is there, and let go of it."""
        if self._task is not None:
            await end_task(self._task)
        self.set_workers(())
        with suppress(*AWAY):
            if self._workers and not self._away:
                await self._send(self._workers.values(), self._workers)
        await self._redis.aclose()

    @runs_on("loop")
    def set_workers(self, conditions: Iterable[WorkerCondition]) -> None:
        """
        Put these workers in the place of those given before; one that is left out has ended.

        A new state is written at once, a number of calls with the next heartbeat. The entry of a worker that ended says
        so until it expires.
        """
        before, now = self._workers, {each.worker: each for each in conditions}
        gone = {name: replace(last, state="ended") for name, last in before.items() if name not in now}
        self._workers = now | gone
        news = {name for name, condition in self._workers.items() if _is_news(before.get(name), condition)}
        if news:
            self._news |= news
            self._wake.set()

    async def _write(self) -> None:
        delay_s, tidied = FIRST_RETRY_S, False
        while True:
            if not self._away:
                await self._until_due()
            try:
                await self._write_due()
                if not tidied:  # names of workers that died while no one read the list
                    tidied = bool(await ask(self._redis, "EVAL", WORKERS, "1", names_key(self._settings.prefix)))
            except AWAY as error:
                if not self._away:
                    _log.error("registry_not_written", where=self._where, error=in_words(error))
                self._away = True
                await asyncio.sleep(delay_s * random.uniform(0.5, 1))  # not all hosts in the same instant
                delay_s = min(2 * delay_s, LAST_RETRY_S)
            else:
                self._away, delay_s = False, FIRST_RETRY_S

    async def _write_due(self) -> None:
        """Write all workers at a heartbeat or after a loss, when the Redis may be a new one; else what is news."""
        now = asyncio.get_running_loop().time()
        news = self._news | self._workers.keys() if self._away else set(self._news)
        due = set(news)
        if now >= self._beat_at or self._away:
            self._beat_at = now + self._settings.worker_heartbeat_s
            due |= self._workers.keys()
        written = [condition for name, condition in self._workers.items() if name in due]
        self._news -= news
        sent = False
        try:
            await self._send(written, news)
            sent = True
        finally:
            if not sent:
                self._news |= news
        for condition in written:
            if condition.state == "ended" and self._workers.get(condition.worker) == condition:
                del self._workers[condition.worker]

    async def _until_due(self) -> None:
        """Wait for news, and a moment for more; at the longest until the heartbeat."""
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._beat_at if self._workers else None):
                if not self._news:
                    await self._wake.wait()
                await asyncio.sleep(GATHER_S)

    async def _send(self, conditions: Iterable[WorkerCondition], news: Container[str]) -> None:
        prefix = self._settings.prefix
        words = [whole_ms(self._settings.worker_expiry_s), changes_channel(prefix)]
        for each in conditions:
            fields = [word for pair in self._fields(each).items() for word in pair]
            told = f"{each.state} {each.worker}" if each.worker in news else ""
            words += [worker_key(prefix, each.worker), told, str(len(fields)), *fields]
        async with asyncio.timeout(2 * COMMAND_LIMIT_S):
            await ask(self._redis, "EVAL", REGISTER, "1", names_key(prefix), *words)

    def _fields(self, condition: WorkerCondition) -> dict[str, str]:
        return {
            **self._fixed,
            "worker": condition.worker,
            "sip": condition.sip,
            "state": condition.state,
            "live_calls": str(condition.live_calls),
            "capacity": str(condition.capacity),
            "heartbeat_at": as_text(self._now()),
        }


def _is_news(last: WorkerCondition | None, new: WorkerCondition) -> bool:
    return last is None or replace(last, live_calls=new.live_calls) != new


def own_version() -> str:
    """Return the version of this program as it was installed; empty where it was not."""
    try:
        return version("sip-voice-gateway")
    except PackageNotFoundError:
        return ""


def worker_key(prefix: str, worker: str) -> str:
    """Return the key of a worker's hash."""
    return key_of(prefix, "worker", worker)


def names_key(prefix: str) -> str:
    """Return the key of the set that names the hashes of all workers."""
    return key_of(prefix, "workers")


def changes_channel(prefix: str) -> str:
    """Return the channel on which every change of a worker's state is told."""
    return key_of(prefix, "workers", "changed")


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


def read_answer(answer: str) -> tuple[dict[str, RegisteredWorker], list[str]]:
    """Return the workers, by name, in what the script ``lua.WORKERS`` answered, and the names of those unreadable."""
    found, unreadable = {}, []
    for words in json.loads(answer) or ():
        flat = dict(zip(words[::2], words[1::2], strict=True))
        worker = registered_worker(flat)
        if worker is None:
            unreadable.append(flat.get("worker", "")[:100])
        else:
            found[worker.condition.worker] = worker
    return dict(sorted(found.items())), sorted(unreadable)


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
    """Whether two lists tell the same; that a worker has written again is no difference."""
    return _timeless(one) == _timeless(other)


def _timeless(workers: Mapping[str, RegisteredWorker]) -> dict[str, RegisteredWorker]:
    return {name: replace(worker, heartbeat_at=0) for name, worker in workers.items()}


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
    told_odd: list[str] = []
    lost_at, sure_at, delay_s = None, 0.0, FIRST_RETRY_S
    try:
        while True:
            news = redis.pubsub()
            try:
                await news.subscribe(changes_channel(settings.prefix))
                while True:
                    async with asyncio.timeout(2 * COMMAND_LIMIT_S):
                        answer = await ask(redis, "EVAL", WORKERS, "1", names_key(settings.prefix))
                    if lost_at is not None:
                        _log.warning("registry_is_back", where=where, away_s=round(time.monotonic() - lost_at, 1))
                        # By then each worker has tried again, at the longest interval, and written.
                        sure_at = time.monotonic() + LAST_RETRY_S + settings.worker_expiry_s
                        lost_at, delay_s = None, FIRST_RETRY_S
                    found, odd = read_answer(answer)
                    if odd != told_odd:
                        _log.warning("registry_unreadable", workers=odd, detail="entries of these workers are ignored")
                        told_odd = odd
                    now = believed(known or {}, found, sure=time.monotonic() >= sure_at)
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


async def _until_news(news: PubSub, poll_s: float) -> None:
    """Wait for a message, and then a moment for those that come with it; for ``poll_s`` seconds at most."""
    end = time.monotonic() + poll_s
    while (left_s := end - time.monotonic()) > 0:
        if await news.get_message(ignore_subscribe_messages=True, timeout=left_s) is not None:
            end = min(end, time.monotonic() + GATHER_S)
