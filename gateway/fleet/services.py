"""
What the workers of a fleet live on: Redis, the simulator, the edge. Opened here, or taken over after an ``exec``.

A private Redis and the edge are programs of their own; the simulator is forked by the nursery, since it is part of
this program. All of them die with the supervisor. The edge is started again when it ends by itself: it keeps its
addresses, and its calls go on. The web process, which looks at all that, is started here as well.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from gateway.condition import WorkerCondition
from gateway.edge.edge import Edge
from gateway.edge.roster import Roster
from gateway.edge.rpc import EdgeError
from gateway.edge.workers import EdgeWorker
from gateway.errors import ConfigError, GatewayError, StoreError
from gateway.fleet.child import Child, Watch
from gateway.fleet.forked import SIMULATED_KEY, SIMULATOR
from gateway.fleet.handover import ChildState, Handover
from gateway.fleet.nursery import Nursery
from gateway.fleet.web_process import WEB, WebProcess, run_variables
from gateway.fleet.worker_settings import changed, media_address
from gateway.settings.sections import RedisSettings, Settings
from gateway.settings.sources import runtime_folder, service_environment
from gateway.store.calls import RedisCallStore
from gateway.store.connection import end_task
from gateway.store.embedded import EmbeddedRedis
from gateway.store.registry import RegisteredWorker, RegistryWriter, follow_workers, worker_key
from gateway.worker.worker import worker_name

TELL_CALLS_S = 1.0
"""How often the edge is told how many calls the workers have: it counts them too."""
EXEC_LIMIT_S = 30.0
_KEEP = "for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[1]) end"

_log = structlog.get_logger(__name__)


class FleetServices:
    """
    Opens what is missing and closes it in the end. Thread: loop.

    Args:
        settings: the operator's.
        config: file that they come from, if it was named.
        announce: takes the lines a person should see.
        write_line: takes each line that the simulator or the web process writes, and its name.

    Attributes:
        values: what workers are given of it: the arguments of ``run_worker``.
        store: reaches Redis.
        edge: None if it runs elsewhere.
    """

    def __init__(
        self,
        settings: Settings,
        config: Path | None,
        announce: Callable[[str], None],
        write_line: Callable[[str, str], None],
    ) -> None:
        self._settings = settings
        self._config = config
        self._announce = announce
        self._write_line = write_line
        self._redis: EmbeddedRedis | None = None
        self._registry: RegistryWriter | None = None
        self._simulator: Child | None = None
        self._web: asyncio.Task[None] | None = None
        self._told: tuple[tuple[EdgeWorker, ...], bool] = ((), False)
        self._told_at = 0.0
        self._others: tuple[RegisteredWorker, ...] = ()
        self._roster = Roster(host=socket.gethostname(), kept_s=settings.call.max_length_s)
        self._closing = False
        self.values: dict[str, Any] = {}
        self.store: RedisCallStore
        self.edge: Edge | None = None

    async def open(self, stack: AsyncExitStack, nursery: Nursery, before: Handover | None, *, simulate: bool) -> None:
        """
        Open everything, or take over what ``before`` has; ``stack`` closes it.

        Raises:
            GatewayError: something is missing or does not start.
        """
        settings = await self._open_redis(stack, before)
        self.values = {"redis_url": str(settings.url), "realtime": {}} if before is None else dict(before.values)
        if simulate:
            await self._open_simulator(stack, nursery, before.simulator if before is not None else None)
        self.values["media_address"] = media_address(self._settings.sip)
        await self._open_edge(stack, before.edge if before is not None else None)
        is_shared = self._settings.redis.url is not None  # a private one has no other machines
        if is_shared or self._settings.web.start:
            self._registry = await stack.enter_async_context(RegistryWriter(settings))
            if is_shared and self.edge is not None:
                _run_until_closed(stack, self._follow_others(settings), "registry")
        if self._settings.web.start:
            self._start_web(stack)

    def hand_over(self) -> dict[str, Any]:
        """Leave everything running for the program that this process becomes; the fields of a ``Handover``."""
        return {
            "values": self.values,
            "redis": None if self._redis is None else self._redis.hand_over(),
            "edge": None if self.edge is None else self.edge.hand_over(),
            "simulator": None if self._simulator is None else self._simulator.state,
        }

    @property
    def where(self) -> str:
        """Where calls come in, in words."""
        sip, edge = self._settings.sip, self.edge
        if edge is None:
            return f"workers on {self._settings.fleet.host}, for an edge elsewhere"
        return f"sip:{sip.host}:{edge.place.port} ({' and '.join(map(str.upper, sip.transports))})"

    def register(self, conditions: Sequence[WorkerCondition]) -> None:
        """Write down how all workers are; where no edge may send them calls, without an address."""
        if self._registry is None:
            return
        if not (self._settings.edge.start or self._settings.sip.edges):
            conditions = [replace(condition, sip="") for condition in conditions]
        self._registry.set_workers(conditions)

    async def keep_registered(self, workers: Sequence[str]) -> None:
        """Keep the entries of workers in the registry until the program that this process becomes writes them."""
        if self._registry is not None:
            keys = [worker_key(self._settings.redis.prefix, worker) for worker in workers]
            with suppress(StoreError):
                await self.store.run(_KEEP, keys, [str(round(EXEC_LIMIT_S * 1000))])

    async def tell_edge(self, workers: Sequence[WorkerCondition], now: float, *, growing: bool) -> None:
        """
        Tell the edge its workers, those of other machines too, if there is news.

        Args:
            workers: ours.
            now: monotonic seconds.
            growing: more are starting.
        """
        told = self._roster.update(now, self._others, workers)
        news = (told, growing)
        if self.edge is None or news == self._told:
            return
        if _steady(news) == _steady(self._told) and now < self._told_at + TELL_CALLS_S:
            return
        self._told, self._told_at = news, now
        try:
            await self.edge.set_workers(told, growing=growing)
        except EdgeError as error:  # it is told everything when it is there again
            self._told = ((), False)
            _log.warning("edge_not_told", detail=str(error))

    async def reload_certificates(self) -> None:
        """Have the edge read its certificates again."""
        if self.edge is not None:
            try:
                await self.edge.reload_certificates()
            except EdgeError as error:
                _log.error("certificates_not_reloaded", detail=str(error))

    async def stop_web(self) -> None:
        """End the web process: the program that this process becomes starts its own."""
        if self._web is not None:
            await end_task(self._web)

    # --- one after the other ---

    async def _open_redis(self, stack: AsyncExitStack, before: Handover | None) -> RedisSettings:
        settings = self._settings.redis
        if settings.url is None:
            self._redis = EmbeddedRedis(adopted=None if before is None else before.redis)
            url = await stack.enter_async_context(self._redis)
            settings = changed(settings, {"url": url})
            if before is None:
                self._announce(f"no Redis is configured: using a private one that ends with the gateway ({url})")
        self.store = RedisCallStore(settings, worker_name(os.getpid()))
        if before is None:  # later a Redis that is away for a moment is no reason to end a fleet
            await self.store.open()
        stack.push_async_callback(self.store.close)
        return settings

    async def _open_simulator(self, stack: AsyncExitStack, nursery: Nursery, before: ChildState | None) -> None:
        url: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def dead(how: str) -> None:
            if not url.done():
                url.set_exception(GatewayError(f"the simulator did not start: {how}"))
            elif not self._closing:
                _log.error("simulator_died", detail=how)

        watch = Watch(
            lambda message: url.set_result(message["url"]), lambda line: self._write_line(line, SIMULATOR), dead
        )
        if before is None:
            self._simulator = await Child.fork(nursery, SIMULATOR, {}, lambda pid: watch)
        else:
            self._simulator = Child.adopt(before, watch)
            url.set_result(self.values["realtime"]["url"])
        stack.push_async_callback(self._simulator.wait)
        stack.callback(self._simulator.send, {"order": "end"})
        self.values["realtime"] = {"url": await url, "api_key": SIMULATED_KEY}
        if before is None:
            self._announce(f"simulating: the agent is the built-in simulator at {url.result()}; no key is used")

    async def _open_edge(self, stack: AsyncExitStack, before: str | None) -> None:
        if not self._settings.edge.start:
            self.values |= {"edge": "", "edge_contact": ""}
            return
        self.edge = Edge(self._settings, adopted=before)
        try:
            await stack.enter_async_context(self.edge)
        except ConfigError as error:
            if before is None:
                raise
            _log.error("edge_lost", detail=str(error))
            self.edge = await stack.enter_async_context(Edge(self._settings))
        self.values |= {"edge": self.edge.inner, "edge_contact": f"{self.edge.place.public}:{self.edge.place.port}"}
        stack.callback(setattr, self, "_closing", True)
        _run_until_closed(stack, self.edge.keep(), "edge")

    def _start_web(self, stack: AsyncExitStack) -> None:
        web = WebProcess(
            self._settings,
            run_variables(
                self._settings,
                config=self._config,
                redis_url=self.values["redis_url"],
                simulator=self.values["realtime"],
            ),
            announce=self._announce,
            write_line=lambda line: self._write_line(line, WEB),
            folder=runtime_folder(service_environment()),
        )
        self._web = _run_until_closed(stack, web.keep(), "web")

    async def _follow_others(self, settings: RedisSettings) -> None:
        async with aclosing(follow_workers(settings)) as lists:
            async for workers in lists:
                self._others = workers


def _steady(told: tuple[tuple[EdgeWorker, ...], bool]) -> object:
    workers, growing = told
    return [(worker.sip, worker.capacity, worker.state) for worker in workers], growing


def _run_until_closed(stack: AsyncExitStack, work: Any, name: str) -> asyncio.Task[None]:
    task = asyncio.create_task(work, name=name)
    stack.push_async_callback(end_task, task)
    return task
