"""
An edge on a machine of its own: ``gateway edge run``. It has no workers and finds those of all hosts in the registry.

``LoneEdge`` starts Kamailio (``gateway/edge``), follows the registry (``gateway/store/registry.py``) and tells Kamailio
each new list. Kamailio is started again when it ends; calls survive that. With ``control``, the Kamailio is one that
another service started with the output of ``gateway edge config``, and is only told.

Any number of edges may run on one registry: none knows of the others, and each sends calls to all workers. How many
calls a worker has comes with the registry, so edges see each other's calls.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path
from typing import Protocol

import structlog

from gateway.edge.edge import Edge, key_of
from gateway.edge.feed import WorkerFeed
from gateway.edge.roster import Roster
from gateway.edge.rpc import EdgeError
from gateway.edge.workers import EdgeWorker
from gateway.errors import ConfigError
from gateway.fleet.notify import Notifier
from gateway.settings.sections import Settings
from gateway.settings.sources import service_environment
from gateway.store.connection import end_task
from gateway.store.registry import RegisteredWorker, follow_workers

LOOK_AGAIN_S = 2.0
"""How often Kamailio is told although nothing has changed: it may have been started anew."""
NO_KEY = (
    "edge.key is not set: another edge, or this one when it is started again, does not find the workers of calls that "
    "are up; set it, to the same text on all edges"
)

_log = structlog.get_logger(__name__)


class _TakesWorkers(Protocol):
    async def set_workers(self, workers: Sequence[EdgeWorker]) -> None:
        """Replace the list of workers; raises ``EdgeError``."""


class LoneEdge:
    """
    Keeps one edge.

    Args:
        settings: of the gateway; its Redis is the workers' own.
        announce: takes the lines a person should see.
        control: the control socket of a Kamailio that another service keeps; None starts one.

    Raises:
        ConfigError: no Redis is set.
    """

    def __init__(self, settings: Settings, announce: Callable[[str], None], *, control: Path | None = None) -> None:
        if settings.redis.url is None:
            raise ConfigError("redis.url: an edge of its own finds the workers in Redis; set it to the Redis they use")
        if control is not None and settings.edge.key is None:
            raise ConfigError("edge.key: Kamailio was configured with one; set it to the same text here")
        self._settings = settings
        self._announce = announce
        self._control = control
        self._notifier = Notifier(service_environment(), os.getpid())
        self._roster = Roster(host=socket.gethostname(), kept_s=settings.call.max_length_s)
        self._registered: tuple[RegisteredWorker, ...] | None = None
        self._changed = asyncio.Event()
        self._stop = asyncio.Event()
        self._reload_asked = asyncio.Event()

    async def run(self) -> None:
        """
        Keep the edge until SIGTERM or SIGINT; SIGHUP has it read the certificates again.

        Raises:
            ConfigError: Kamailio cannot be started.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        async with AsyncExitStack() as stack:
            jobs = [self._follow()]
            if self._control is not None:
                jobs.append(self._tell(WorkerFeed(self._control, key_of(self._settings))))
                self._announce(f"ready: Kamailio at {self._control} is told the workers in the registry")
            else:
                edge = await stack.enter_async_context(Edge(self._settings))
                loop.add_signal_handler(signal.SIGHUP, self._reload_asked.set)
                jobs += [self._tell(edge), edge.keep(), self._reload(edge)]
                self._announce_ready(edge)
            self._notifier.ready()
            watchdog = asyncio.create_task(self._notifier.feed_watchdog())
            stack.push_async_callback(end_task, watchdog)
            await self._until_stopped(jobs)
        self._announce("edge stopped")

    async def _until_stopped(self, jobs: Iterable[Coroutine[None, None, None]]) -> None:
        """Run all jobs until we are asked to stop, or one fails."""
        tasks = [asyncio.create_task(job) for job in (*jobs, self._stopped())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self._notifier.stopping()
            for task in done:
                task.result()
        finally:
            for task in tasks:
                await end_task(task)

    async def _stopped(self) -> None:
        await self._stop.wait()

    async def _follow(self) -> None:
        async with aclosing(follow_workers(self._settings.redis)) as lists:
            async for workers in lists:
                self._registered = workers
                self._changed.set()

    async def _tell(self, proxy: _TakesWorkers) -> None:
        """Tell Kamailio each new list, and the last one again now and then."""
        told: tuple[EdgeWorker, ...] | None = None
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_S):
                    await self._changed.wait()
            self._changed.clear()
            if self._registered is None:  # Redis has not answered yet
                continue
            workers = self._roster.update(time.monotonic(), self._registered)
            try:
                await proxy.set_workers(workers)
            except EdgeError as error:
                _log.warning("edge_not_told", detail=str(error))
                continue
            if told is None or [(each.sip, each.state) for each in told] != [
                (each.sip, each.state) for each in workers
            ]:
                self._report(workers)
            told = workers

    def _report(self, workers: Sequence[EdgeWorker]) -> None:
        states = Counter[str](each.state for each in workers)
        _log.info("edge_workers", total=len(workers), **states)
        self._notifier.status(", ".join(f"{count} workers {state}" for state, count in states.items()) or "no workers")

    async def _reload(self, edge: Edge) -> None:
        while True:
            await self._reload_asked.wait()
            self._reload_asked.clear()
            self._notifier.reloading()
            try:
                await edge.reload_certificates()
                _log.info("edge_certificates_reloaded")
            except EdgeError as error:
                _log.error("edge_certificates_not_reloaded", detail=str(error))
            self._notifier.ready()

    def _announce_ready(self, edge: Edge) -> None:
        sip, place = self._settings.sip, edge.place
        if self._settings.edge.key is None:
            self._announce(NO_KEY)
        self._announce(
            f"ready: sip:{place.public}:{place.port} ({', '.join(sip.transports)}), for workers {edge.inner}"
        )
