"""
Many workers of one machine, in front of them the edge, behind them Redis: ``gateway serve --calls N``.

::

    supervisor --+-- nursery ...forks... worker 1, worker 2, ...   (children of the supervisor)
      |          +-- redis-server, if none is configured; the simulator, with --simulate
      |          +-- the edge
      +- control socket: gateway fleet

The supervisor answers no call. ``run_fleet`` loads everything, forks the nursery (``nursery.py``) and then runs
``Supervisor`` on a loop of its own. From there on:

- Each worker tells changes of its condition over its pipe and takes orders from there (``forked.py``, ``crew.py``).
- ``_adjust`` runs after each change and once a second: it starts as many workers as ``demand.py`` finds wanting, has
  those drain that were not needed for long, and tells the edge who takes calls.
- A worker's death is seen through a pidfd at once. The records of its calls are ended and their places freed, and
  another is started, with back-off if it died at its start (``restarts.py``). A crash loop before any worker was ready
  ends the supervisor with the workers' last lines.
- SIGTERM and SIGINT drain all workers, a second one ends their calls. SIGHUP has them reload the dialplan.
- All that the processes write comes through the supervisor (``output.py``), so the log is one stream.

A supervisor that is killed takes the edge and a private Redis with it; the workers drain by themselves.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import structlog
import uvloop

from gateway.errors import GatewayError, StoreError
from gateway.fleet.child import Child, Watch
from gateway.fleet.crew import WORKER, Crew, Member
from gateway.fleet.demand import Demand
from gateway.fleet.forked import SIMULATED_KEY, SIMULATOR, run_simulator, run_worker
from gateway.fleet.notify import Notifier
from gateway.fleet.nursery import Nursery, NurseryGone, NurseryProcess, open_nursery
from gateway.fleet.output import named
from gateway.fleet.restarts import Restarts
from gateway.fleet.worker_settings import FleetSize, changed, media_address
from gateway.settings.sections import RedisSettings, Settings
from gateway.settings.sources import service_environment
from gateway.sip.library.stun import with_public_address
from gateway.store.calls import RedisCallStore
from gateway.store.embedded import EmbeddedRedis
from gateway.store.limits import free_places
from gateway.store.registry import RegistryWriter

TICK_S = 1.0
KILL_AFTER_S = 10.0
"""A worker that was told to end its calls is killed after this."""
START_LIMIT_S = 30.0

_log = structlog.get_logger(__name__)


class FleetFailed(GatewayError):
    """The fleet cannot work; the text says why."""


def run_fleet(settings: Settings, size: FleetSize, announce: Callable[[str], None], *, simulate: bool) -> None:
    """
    Take calls with many workers until SIGTERM or SIGINT.

    Args:
        settings: the operator's.
        size: how large the fleet can become.
        announce: takes the lines a person should see.
        simulate: run the simulator and have all agents talk to it.

    Raises:
        GatewayError: the fleet could not start, or failed later.

    Thread: the main thread of a process without other threads, and without a loop.
    """
    settings = settings.model_copy(update={"sip": with_public_address(settings.sip)})
    nursery = open_nursery({WORKER: partial(run_worker, settings), SIMULATOR: partial(run_simulator, settings)})
    uvloop.run(Supervisor(settings, size, nursery, announce, simulate=simulate).run())


class Supervisor:
    """
    Keeps a fleet.

    Args:
        settings: the operator's, with the public address.
        size: how large the fleet can become.
        nursery: forked already.
        announce: takes the lines a person should see.
        simulate: run the simulator.
    """

    def __init__(
        self,
        settings: Settings,
        size: FleetSize,
        nursery: NurseryProcess,
        announce: Callable[[str], None],
        *,
        simulate: bool,
    ) -> None:
        self._settings = settings
        self._size = size
        self._nursery_process = nursery
        self._announce = announce
        self._simulate = simulate
        fleet = settings.fleet
        self._demand = Demand(capacity=size.capacity, spare=fleet.spare_workers, most=size.workers, idle_s=fleet.idle_s)
        self._restarts = Restarts()
        self._notifier = Notifier(service_environment(), os.getpid())
        self._wake = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self._failure: GatewayError | None = None
        self._mourning: set[asyncio.Task[None]] = set()
        self._is_ready = False
        self._nursery: Nursery
        self._crew: Crew
        self._store: RedisCallStore
        self._registry: RegistryWriter | None = None  # a private Redis has none

    async def run(self) -> None:
        """
        Keep the fleet until SIGTERM or SIGINT.

        Raises:
            GatewayError: it could not start, or failed later.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        async with AsyncExitStack() as stack:
            watchdog = asyncio.create_task(self._notifier.feed_watchdog(), name="watchdog")
            stack.push_async_callback(_cancelled, watchdog)
            self._nursery = Nursery(self._nursery_process, self._on_nursery_end)
            stack.callback(self._nursery.close)
            redis_url = await self._open_redis(stack)
            if self._settings.redis.url is not None:
                self._registry = await stack.enter_async_context(RegistryWriter(self._settings.redis))
            realtime = await self._open_simulator(stack) if self._simulate else {}
            values = {
                "redis_url": redis_url,
                "realtime": realtime,
                "media_address": media_address(self._settings.sip),
                "edge": "",
            }
            self._crew = Crew(
                self._settings.fleet,
                self._nursery,
                self._size.slices,
                values=values,
                on_line=self._write_line,
                on_change=self._wake.set,
                on_death=self._on_death,
            )
            stack.push_async_callback(self._end_all)
            await self._keep()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Ask for a drain; a second time, for the end."""
        if not self._stop_asked.is_set():
            self._notifier.stopping()
            limit_s = self._settings.call.drain_limit_s
            live = sum(member.live_calls for member in self._members)
            self._announce(
                f"stopping: no new calls; {live} live ones may continue for {limit_s:g} s "
                "(a second signal ends them at once)"
            )
            self._stop_asked.set()
            for member in self._members:
                self._crew.drain(member, limit_s)
        else:
            for member in self._members:
                self._crew.end(member)
        self._wake.set()

    def reload(self) -> None:
        """Have all workers read the dialplan again."""
        self._notifier.reloading()
        for member in self._members:
            self._crew.order(member, "reload")
        self._notifier.ready()

    @property
    def _members(self) -> list[Member]:
        return [*self._crew] if hasattr(self, "_crew") else []

    # --- what a fleet lives on ---

    async def _open_redis(self, stack: AsyncExitStack) -> str:
        settings = self._settings.redis
        if settings.url is None:
            url = await stack.enter_async_context(EmbeddedRedis())
            settings = changed(settings, {"url": url})
            self._announce(f"no Redis is configured: using a private one that ends with the gateway ({url})")
        self._store = await self._open_store(stack, settings)
        return str(settings.url)

    async def _open_store(self, stack: AsyncExitStack, settings: RedisSettings) -> RedisCallStore:
        name = f"{socket.gethostname()}-{os.getpid()}"
        store = RedisCallStore(settings, name)
        await store.open()
        stack.push_async_callback(store.close)
        return store

    async def _open_simulator(self, stack: AsyncExitStack) -> dict[str, Any]:
        url: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def dead(how: str) -> None:
            if not url.done():
                url.set_exception(FleetFailed(f"the simulator did not start: {how}"))
            elif not self._stop_asked.is_set():
                _log.error("simulator_died", detail=how)

        watch = Watch(
            lambda message: url.set_result(message["url"]), lambda line: self._write_line(line, SIMULATOR), dead
        )
        child = await Child.fork(self._nursery, SIMULATOR, {}, lambda pid: watch)
        stack.push_async_callback(child.wait)
        stack.callback(child.send, {"order": "end"})
        found = await url
        self._announce(f"simulating: the agent is the built-in simulator at {found}; no key is used")
        return {"url": found, "api_key": SIMULATED_KEY}

    # --- the workers ---

    async def _keep(self) -> None:
        """Keep as many workers as are needed until the fleet is to end."""
        while not self._stop_asked.is_set() and self._failure is None:
            self._wake.clear()
            try:
                await self._adjust()
            except NurseryGone as error:
                self._failure = FleetFailed(f"no more workers can be started: {error}")
                return
            try:
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _adjust(self) -> None:
        now = asyncio.get_running_loop().time()
        seats = [member.seat for member in self._crew if member.in_service]
        wanted = self._demand.to_start(seats, now)
        for member in self._crew:
            if member.ready_at is not None:
                self._restarts.served(now - member.ready_at)
        if not self._restarts.delay_s(now):
            for _ in range(min(wanted, self._crew.free_slots)):
                await self._crew.start()
        for number in self._demand.to_retire(seats):
            self._crew.drain(self._crew.members[number], self._settings.call.max_length_s)
        self._tell()

    def _register(self) -> None:
        """Write down how all workers are; where no edge may send them calls, without an address."""
        if self._registry is None:
            return
        conditions = [member.condition for member in self._crew if member.condition is not None]
        if not (self._settings.edge.start or self._settings.sip.edges):
            conditions = [replace(condition, sip="") for condition in conditions]
        self._registry.set_workers(conditions)

    def _tell(self) -> None:
        self._register()
        ready = [member for member in self._crew if member.in_service and member.ready_at is not None]
        live = sum(member.live_calls for member in self._crew)
        self._notifier.status(f"{len(ready)} workers, {live} of {self._settings.fleet.calls} calls")
        starting = [member for member in self._crew if member.in_service and member.ready_at is None]
        if ready and not starting and not self._is_ready:
            self._is_ready = True
            self._notifier.ready()
            self._announce(f"ready: sip:127.0.0.1:{ready[0].port} (UDP), {len(ready)} workers")

    def _on_death(self, member: Member, how: str) -> None:
        self._register()
        asked = member.leaving or (member.condition is not None and member.condition.state in ("draining", "ended"))
        if asked and how == "exit code 0":
            _log.info("worker_ended", name=member.name)
        else:
            now = asyncio.get_running_loop().time()
            served_s = None if member.ready_at is None else now - member.ready_at
            last_lines = member.child.last_lines
            _log.error("worker_died", name=member.name, detail=how, calls=member.live_calls, last_lines=last_lines)
            if not asked:
                self._restarts.died(now, served_s)
            if self._restarts.is_loop and not any(other.ready_at for other in self._crew):
                self._failure = FleetFailed(
                    f"workers die as they start ({how}), one after another; the last one wrote:\n"
                    + ("\n".join(last_lines) or "(nothing)")
                )
            task = asyncio.create_task(self._mourn(member.name), name=f"mourn-{member.name}")
            self._mourning.add(task)
            task.add_done_callback(self._mourning.discard)
        self._wake.set()

    async def _mourn(self, worker: str) -> None:
        """End the records of a dead worker's calls, and free their places in the limits of routes."""
        try:
            for call_id in await self._store.reap_calls_of(worker):
                _log.warning("call_orphaned", call_id=call_id, detail="its worker died")
                record = await self._store.call(call_id)
                if record is not None:
                    await free_places(self._store, self._settings.redis.prefix, record)
        except StoreError as error:
            _log.warning("records_expire_by_themselves", name=worker, detail=str(error))

    async def _end_all(self) -> None:
        """Wait for the workers, which drain or were told to; one that does not end is killed."""
        if not self._stop_asked.is_set():  # by a failure
            self._stop_asked.set()
            for member in self._crew:
                self._crew.end(member)
        limit_s = self._settings.call.drain_limit_s + KILL_AFTER_S
        try:
            async with asyncio.timeout(limit_s):
                while self._crew.members:
                    self._register()
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            for member in self._crew:
                _log.error("worker_does_not_end", name=member.name)
                member.child.kill()
            await asyncio.gather(*(member.child.wait() for member in self._crew))
        await asyncio.gather(*self._mourning)

    def _on_nursery_end(self) -> None:
        _log.error("nursery_died")
        self._wake.set()

    def _write_line(self, line: str, name: str) -> None:
        sys.stderr.write(named(line, name, self._settings.log.format) + "\n")
        sys.stderr.flush()


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it is gone."""
    task.cancel()
    await asyncio.wait((task,))
