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
  ends the supervisor with the workers' last lines. A worker that does not answer is killed.
- SIGTERM and SIGINT drain all workers, a second one ends their calls. SIGHUP has them reload the dialplan.
- All that the processes write comes through the supervisor (``output.py``), so the log is one stream.
- A restart (``gateway fleet restart``) first tries the program on disk, then executes it in the place of this one
  (``handover.py``): workers, edge and Redis stay. The new supervisor has every worker that it took over replaced: as
  many start as there is room for, and for each one that is ready an old one drains, for as long as its calls last.
  A nursery that died is replaced in the same way; workers then stay.

A supervisor that is killed takes the edge and a private Redis with it; the workers drain by themselves.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import uvloop

from gateway.child_process import ChildFailed, ChildProcess
from gateway.errors import ConfigError, GatewayError, StoreError
from gateway.fleet import handover
from gateway.fleet.control import ControlSocket, control_path
from gateway.fleet.crew import WORKER, Crew, CrewWatch, Member
from gateway.fleet.demand import Demand, emptiest
from gateway.fleet.forked import SIMULATED_KEY, SIMULATOR, run_simulator, run_worker
from gateway.fleet.handover import Handover
from gateway.fleet.notify import Notifier
from gateway.fleet.nursery import Nursery, NurseryGone, NurseryProcess, open_nursery
from gateway.fleet.output import named
from gateway.fleet.restarts import Restarts
from gateway.fleet.services import FleetServices
from gateway.fleet.worker_settings import FleetSize, changed
from gateway.logs import configure_logs
from gateway.settings.sections import Settings
from gateway.settings.sources import service_environment
from gateway.sip.library.stun import with_public_address
from gateway.store.commands import forget_reader
from gateway.store.connection import end_task
from gateway.store.registry import own_version
from gateway.worker.worker import Worker

TICK_S = 1.0
KILL_AFTER_S = 10.0
"""A worker that was told to end its calls is killed after this."""
PING_S = 5.0
SILENT_S = 30.0
"""A worker that does not answer for so long is killed: its calls are silent, too."""
CHECK_LIMIT_S = 60.0
"""For the program on disk to say whether it would start."""
ANY_URL = "ws://127.0.0.1/"
"""Of a simulator that is not there yet."""
LEAST_APART_S = 10.0
"""Between one nursery's end and the next: one that dies at once would have us execute ourselves all the time."""

_log = structlog.get_logger(__name__)


class FleetFailed(GatewayError):
    """The fleet cannot work; the text says why."""


def run_fleet(
    settings: Settings,
    size: FleetSize,
    announce: Callable[[str], None],
    *,
    simulate: bool,
    config: Path | None = None,
    resume: int | None = None,
) -> None:
    """
    Take calls with many workers until SIGTERM or SIGINT.

    Args:
        settings: the operator's.
        size: how large the fleet can become.
        announce: takes the lines a person should see.
        simulate: run the simulator and have all agents talk to it.
        config: file that the settings come from, if it was named.
        resume: descriptor of what the supervisor left that this process was before, or ``handover.ONLY_CHECK``.

    Raises:
        GatewayError: the fleet could not start, or failed later.

    Thread: the main thread of a process without other threads, and without a loop.
    """
    before = handover.resumed(resume) if resume is not None and resume >= 0 else None
    configure_logs(settings.log, worker="supervisor", shorten=settings.privacy.in_log)
    prepared = _prepared(settings, announce, simulate=simulate, may_fail=before is not None)
    if resume == handover.ONLY_CHECK:
        return
    settings = settings.model_copy(update={"sip": with_public_address(settings.sip)})
    nursery = open_nursery(
        {WORKER: partial(run_worker, settings, prepared), SIMULATOR: partial(run_simulator, settings)}
    )
    fleet = Supervisor(settings, size, nursery, announce, config=config, simulate=simulate, before=before)
    uvloop.run(fleet.run())


def _prepared(settings: Settings, announce: Callable[[str], None], *, simulate: bool, may_fail: bool) -> Worker | None:
    """Return a worker for others to inherit, the dialplan loaded; None if that cannot be used and ``may_fail``."""
    realtime = changed(settings.realtime, {"api_key": SIMULATED_KEY, "url": ANY_URL}) if simulate else settings.realtime
    try:
        prepared = Worker(settings.model_copy(update={"realtime": realtime}), announce)
    except ConfigError as error:
        if not may_fail:
            raise
        _log.error("dialplan_refused", mistakes=error.problems)
        return None
    prepared.prepare()
    return prepared


class Supervisor:
    """
    Keeps a fleet. Thread: loop.

    Args:
        settings: the operator's, with the public address.
        size: how large the fleet can become.
        nursery: forked already.
        announce: takes the lines a person should see.
        config: file that the settings come from, if it was named.
        simulate: run the simulator.
        before: what the supervisor left that this process was before.
    """

    def __init__(
        self,
        settings: Settings,
        size: FleetSize,
        nursery: NurseryProcess,
        announce: Callable[[str], None],
        *,
        config: Path | None,
        simulate: bool,
        before: Handover | None,
    ) -> None:
        self._settings = settings
        self._size = size
        self._nursery_process = nursery
        self._announce = announce
        self._simulate = simulate
        self._before = before
        fleet = settings.fleet
        self._demand = Demand(capacity=size.capacity, spare=fleet.spare_workers, most=size.workers, idle_s=fleet.idle_s)
        self._restarts = Restarts()
        self._notifier = Notifier(service_environment(), os.getpid())
        self._services = FleetServices(settings, config, announce, self._write_line)
        self._crew = Crew(fleet, size.slices, CrewWatch(self._write_line, lambda: self._wake.set(), self._on_death))
        self._wake = asyncio.Event()
        self._stop_asked = False
        self._kill_at: float | None = None
        self._failure: GatewayError | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._is_ready = before is not None and before.is_ready
        self._began_at = time.monotonic()
        self._unwaited = 0
        self._nursery: Nursery

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
        handover.signals_wanted()
        async with AsyncExitStack() as stack:
            watchdog = asyncio.create_task(self._notifier.feed_watchdog(), name="watchdog")
            stack.push_async_callback(end_task, watchdog)
            self._nursery = Nursery(self._nursery_process, self._on_nursery_end)
            stack.push_async_callback(self._nursery.close)
            for member in () if self._before is None else self._before.members:
                self._crew.adopt(member)
            await self._services.open(stack, self._nursery, self._before, simulate=self._simulate)
            self._crew.values = self._services.values
            stack.push_async_callback(self._end_all)
            control = control_path(self._settings, service_environment(), pid=os.getpid())
            await stack.enter_async_context(ControlSocket(control, self._answer))
            await self._keep()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Ask for a drain; a second time, for the end."""
        now = time.monotonic()
        if not self._stop_asked:
            self._stop_asked = True
            self._notifier.stopping()
            limit_s = self._settings.call.drain_limit_s
            self._announce(
                f"stopping: no new calls; {self._live_calls} live ones may continue for {limit_s:g} s "
                "(a second signal ends them at once)"
            )
            self._kill_at = now + limit_s + KILL_AFTER_S
            for member in self._crew:
                self._crew.drain(member, limit_s)
        else:
            self._end_now()
        self._wake.set()

    def reload(self) -> None:
        """Have all workers read the dialplan again, and the edge its certificates."""
        self._notifier.reloading()
        for member in self._crew:
            self._crew.order(member, "reload")
        self._in_background(self._services.reload_certificates())
        self._notifier.ready()

    @property
    def _live_calls(self) -> int:
        return sum(member.live_calls for member in self._crew)

    # --- as many workers as are needed ---

    async def _keep(self) -> None:
        """Keep as many workers as are needed until the fleet is to end."""
        while not self._stop_asked and self._failure is None:
            self._wake.clear()
            try:
                await self._adjust()
            except NurseryGone as error:
                _log.error("nursery_died", detail=str(error))
                await asyncio.sleep(max(0.0, self._began_at + LEAST_APART_S - time.monotonic()))
                await self._become(replace_workers=False)
            self._look_after()
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()

    async def _adjust(self) -> None:
        """Start, retire, and tell whom it concerns."""
        now = time.monotonic()
        if self._nursery.is_gone:
            raise NurseryGone("it was killed, or failed")
        serving = [member for member in self._crew if member.in_service]
        target = self._demand.target([member.seat for member in serving], now)
        new = [member for member in serving if not member.old]
        old = [member for member in serving if member.old]
        for member in self._crew:
            if member.ready_at is not None:
                self._restarts.served(now - member.ready_at)
        if not self._restarts.delay_s(now):
            for _ in range(min(target - len(new), self._crew.free_slots)):
                await self._crew.start(self._nursery)
        ready = [member for member in new if member.ready_at is not None]
        surplus = (old, len(old) + len(ready) - target) if old else (new, len(new) - target)
        for number in emptiest([member.seat for member in surplus[0]], surplus[1]):
            self._crew.drain(self._crew.members[number], self._settings.call.max_length_s)
        if old and not [member for member in self._crew if member.in_service and member.old]:
            leaving = [member for member in self._crew if member.old]
            calls = sum(member.live_calls for member in leaving)
            _log.info("workers_replaced", detail=f"{calls} calls go on at {len(leaving)} old workers until they end")
        await self._tell(now)

    async def _tell(self, now: float) -> None:
        """Tell the edge, the service manager and the operator how things are."""
        starting = [member for member in self._crew if member.in_service and member.ready_at is None]
        conditions = [condition for member in self._crew if (condition := member.now) is not None]
        self._services.register(conditions)
        grown = sum(member.in_service for member in self._crew) == self._size.workers and not starting
        growing = not grown and not self._stop_asked
        await self._services.tell_edge(conditions, now, growing=growing)
        ready = [member for member in self._crew if member.in_service and member.ready_at is not None]
        limit = self._settings.fleet.calls
        self._notifier.status(f"{len(ready)} workers, {self._live_calls} of {limit} calls")
        if ready and not starting and not self._is_ready:
            self._is_ready = True
            self._notifier.ready()
            self._announce(f"ready: {self._services.where}, {len(ready)} workers now, at most {limit} calls")

    def _look_after(self) -> None:
        """Ask workers whether they are alive; wait for orphans that came to us."""
        now = time.monotonic()
        for member in self._crew:
            if member.ready_at is None or now < member.pinged_at + PING_S:
                continue
            if member.pinged_at and now - max(member.heard_at, self._began_at) > SILENT_S:
                _log.error("worker_silent", worker=member.name, detail=f"no answer for {SILENT_S:g} s: killed")
                member.child.kill()
            member.pinged_at = now
            self._crew.order(member, "ping")
        self._unwaited = _reap_orphan(self._unwaited)

    # --- ends of workers ---

    def _on_death(self, member: Member, how: str) -> None:
        asked = member.leaving or not member.in_service
        if asked and how == "exit code 0":
            _log.info("worker_ended", worker=member.name)
        else:
            now = time.monotonic()
            served_s = None if member.ready_at is None else now - member.ready_at
            lines = member.child.last_lines
            _log.error("worker_died", worker=member.name, detail=how, calls=member.live_calls, last_lines=lines)
            if not asked:
                self._restarts.died(now, served_s)
            if self._restarts.is_loop and not any(other.ready_at for other in self._crew):
                self._failure = FleetFailed(
                    f"workers die as they start ({how}), one after another; the last one wrote:\n"
                    + ("\n".join(lines) or "(nothing)")
                )
            self._in_background(self._mourn(member.name))
        self._wake.set()

    async def _mourn(self, worker: str) -> None:
        """End the records of a dead worker's calls at once, and their places in limits; it gets no command any more."""
        store = self._services.store
        try:
            await forget_reader(store, self._settings.redis.prefix, worker)
            await store.reap_calls_of(worker)
        except StoreError as error:
            _log.warning("records_expire_by_themselves", worker=worker, detail=str(error))

    def _in_background(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _end_now(self) -> None:
        self._stop_asked = True
        self._kill_at = time.monotonic() + KILL_AFTER_S
        for member in self._crew:
            self._crew.end(member)

    async def _end_all(self) -> None:
        """Wait for the workers, which drain or were told to end; one that does not is killed."""
        if not self._stop_asked:  # by a failure
            self._end_now()
        while self._crew.members:
            self._wake.clear()
            await self._tell(time.monotonic())
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                for member in self._crew:
                    _log.error("worker_does_not_end", worker=member.name)
                    member.child.kill()
                self._kill_at = None
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()
        await asyncio.gather(*self._background, return_exceptions=True)

    # --- the next program ---

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out a request of ``gateway fleet``."""
        match request.get("command"):
            case "status":
                return self._status()
            case "restart":
                if self._stop_asked:
                    raise FleetFailed("the fleet is stopping")
                await self._try_program()
                self._in_background(self._become(after_s=0.1))  # after the answer
                return {"pid": os.getpid()}
            case command:
                raise FleetFailed(f"there is no command {command!r}; there are status and restart")

    def _status(self) -> dict[str, Any]:
        now = time.monotonic()
        workers = [
            {
                "worker": member.name,
                "sip": f"{self._settings.fleet.host}:{member.port}",
                "state": "starting" if member.now is None else member.now.state,
                "live_calls": member.live_calls,
                "capacity": self._size.capacity,
                "age_s": round(now - member.started_at),
                "old": member.old,
            }
            for member in self._crew
        ]
        edge = self._services.edge
        return {
            "pid": os.getpid(),
            "version": own_version(),
            "where": self._services.where,
            "calls": self._live_calls,
            "limit": self._settings.fleet.calls,
            "edge": 0 if edge is None else edge.pid,
            "nursery": self._nursery.pid,
            "ready": self._is_ready and not self._stop_asked,
            "workers": workers,
        }

    async def _try_program(self) -> None:
        """Have the program on disk load everything and end; raises ``FleetFailed`` if it would not start."""
        check = ChildProcess(*handover.program(handover.ONLY_CHECK), name="the program on disk", new_session=True)
        async with check:
            try:
                code = await check.wait(CHECK_LIMIT_S)
            except ChildFailed as error:
                raise FleetFailed(str(error)) from None
        if code:
            raise FleetFailed(f"nothing was restarted: the program on disk would not start:\n{check.output}")

    async def _become(self, *, replace_workers: bool = True, after_s: float = 0) -> None:
        """Execute the program on disk in the place of this one."""
        await asyncio.sleep(after_s)
        names = [member.name for member in self._crew]
        await self._services.keep_registered(names)
        await self._services.stop_web()
        if self._stop_asked:
            return
        self._notifier.reloading()
        members = tuple(member.state for member in self._crew)
        if replace_workers:
            members = tuple(replace(member, old=True) for member in members)
        state = Handover(members, is_ready=self._is_ready, **self._services.hand_over())
        _log.info("executing_again", workers=len(members))
        handover.become(state)

    def _on_nursery_end(self) -> None:
        self._wake.set()

    def _write_line(self, line: str, name: str) -> None:
        sys.stderr.write(named(line, name, self._settings.log.format) + "\n")
        sys.stderr.flush()


def _reap_orphan(seen: int) -> int:
    """
    Wait for a dead child of ours that nobody waits for: what a process left that is dead itself comes to us.

    Args:
        seen: the one found last time; whoever has started it had a second to wait for it.

    Returns:
        The one found now; 0 for none.
    """
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None or found.si_pid != seen:
            return 0 if found is None else found.si_pid
        os.waitpid(seen, os.WNOHANG)
    except ChildProcessError:
        pass
    return 0
