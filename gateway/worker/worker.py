"""
One process that takes calls: builds every object once, runs until it is told to stop, and stops in reverse order.

::

    SipThread [sip] -- events --> Switchboard --> a CallSession per call --> leg, agent, tools, recorder
                                   |   |   |          (made by CallBuilder)
                          LivePlan-+   |   +- CallLog --> CallTraces --> RedisCallStore
                                   RedisLimits

- ``LivePlan`` has the dialplan in force and replaces it when its files change, on SIGHUP, or on request through Redis.
- ``Switchboard`` routes each INVITE, asks ``RedisLimits`` whether the route has room for it, and runs its session.
- ``CallBuilder`` makes what a session needs: the SIP leg, the audio buffers, the agent, its tools.
- ``Registrar`` has the SIP thread register at the trunks while this worker is the one of all that does, behind an edge.
- ``CallLog`` passes on what sessions write down, so that a flood of unanswered calls fills neither Redis nor the log.
- ``Listening`` publishes the sound and the levels of calls while anyone hears them.
- ``CallTraces`` makes a trace of each call from that, where traces are asked for (``SpanExporter`` sends them).
- ``WorkerCommands`` carries out what operators order, as ``CommandInbox`` reads it from Redis.
- ``GarbageCollection`` runs full collections between calls.

Everything here runs on the loop. The SIP thread is started last, when all it leads to is there. The first SIGTERM or
SIGINT drains: new calls are refused, live ones may finish within the limit. The second one ends them at once. What was
opened is closed by one ``AsyncExitStack``, whatever ended the process. Who started the worker may ask for the same
(``drain``, ``end``), and is told each change of its ``WorkerCondition``.

``dial`` builds the same for one outbound call, without taking calls or registering at trunks.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from gateway.audio.uplink import UplinkRounds
from gateway.call.outcome import Outcome
from gateway.call.ports import Clock, TimerHandle
from gateway.condition import State, WorkerCondition
from gateway.dialplan.read.files import PlanFile
from gateway.errors import ConfigError
from gateway.own_address import ANY, own_address_towards
from gateway.recording.recorder import RecordingWriter
from gateway.settings.sections import RedisSettings, Settings
from gateway.settings.sip import SipSettings
from gateway.sip.calls.accounts import TrunkChanged
from gateway.sip.library.endpoint import SipInfo, phone_format
from gateway.sip.screen.trace import delete_old_traces
from gateway.sip.thread import SipThread
from gateway.store.audio import AudioPublisher
from gateway.store.calls import RedisCallStore
from gateway.store.commands import CommandInbox
from gateway.store.connection import end_task
from gateway.store.embedded import EmbeddedRedis
from gateway.store.limits import RedisLimits
from gateway.store.registry import RegistryWriter, own_version
from gateway.store.reload_requests import ReloadRequests
from gateway.threads import runs_on
from gateway.tools.runner import TraceHeaders, no_headers
from gateway.tools.webhook import WebhookClient
from gateway.tracing.call_traces import CallTraces
from gateway.tracing.exporter import SpanExporter, check_tracing
from gateway.upstream.core.breaker import Breakers, HeldBack, UpstreamAway, UpstreamBack
from gateway.upstream.link import prepare_links
from gateway.upstream.realtime.access.models import list_models
from gateway.upstream.realtime.access.secrets import SecretMinter, prepare_minting
from gateway.worker.build import CallBuilder
from gateway.worker.call_log import CallLog
from gateway.worker.commands import Control, WorkerCommands
from gateway.worker.garbage import GarbageCollection
from gateway.worker.listening import BLOCK_MS, Listening
from gateway.worker.live_plan import LivePlan, PreparedPlan, load_plan
from gateway.worker.model_watch import ModelWatch
from gateway.worker.registrar import Registrar
from gateway.worker.switchboard import DialOrder, Switchboard

_log = structlog.get_logger(__name__)
_STORE_CLOSE_S = 2.0
SERVICE = "sip-voice-gateway"
FIRST_PID_NAMESPACE = 0xEFFFFFFC
"""The machine's own (``PROC_PID_INIT_INO`` of Linux); each container counts its processes for itself."""

NO_KEY = (
    "realtime.api_key: no API key: set OPENAI_API_KEY (or GATEWAY_REALTIME__API_KEY), "
    "or try the gateway without a key: gateway serve --simulate"
)


def worker_name(pid: int) -> str:
    """Return the name of the worker that has this process id on this machine, or in this container of it."""
    namespace = os.stat("/proc/self/ns/pid").st_ino if os.path.exists("/proc/self/ns/pid") else FIRST_PID_NAMESPACE
    container = "" if namespace == FIRST_PID_NAMESPACE else f"-{namespace:x}"
    return f"{socket.gethostname()}{container}-{pid}"


class LoopClock:
    """Time as the running loop tells it."""

    def now(self) -> float:
        """Return Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return time.monotonic()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> TimerHandle:
        """Run ``callback`` on the loop after ``seconds``."""
        return asyncio.get_running_loop().call_later(seconds, callback)


class Worker:
    """
    The whole gateway in one process.

    Args:
        settings: all of them.
        announce: takes the lines a person should see at start and stop.
        on_condition: takes how the worker is, at each change: from when it takes calls until it has ended; without it,
            the worker enters itself into the registry.
        inherited: one that was prepared with the same dialplan before this process was forked; never one that runs.

    Raises:
        ConfigError: there is no key, or the dialplan cannot be used; with all its mistakes.
    """

    def __init__(
        self,
        settings: Settings,
        announce: Callable[[str], None],
        *,
        on_condition: Callable[[WorkerCondition], None] | None = None,
        inherited: Worker | None = None,
    ) -> None:
        if settings.realtime.api_key is None:
            raise ConfigError(NO_KEY)
        check_tracing(settings.tracing)
        self._settings = settings
        self._announce = announce
        self._phone = phone_format(settings.sip, settings.trunks)
        self._plan: LivePlan[PreparedPlan] = LivePlan(
            settings.dialplan,
            self._load,
            every_s=settings.dialplan_every_s,
            inherited=None if inherited is None else inherited._plan,
        )
        self.name = worker_name(os.getpid())
        self._on_condition = on_condition
        self._condition: WorkerCondition | None = None
        self._registrar: Registrar | None = None
        self._overloaded = self._paused = False
        self._redis = settings.redis  # with the private server's URL, once that runs
        self._stop_asked = asyncio.Event()
        self._drain_changed = asyncio.Event()
        self._drain_until = math.inf

    def _load(self, files: list[PlanFile], folder: Path) -> PreparedPlan:
        return load_plan(files, folder, self._settings, self._phone)

    def prepare(self) -> None:
        """Make what the workers that inherit this one, in processes forked from this one, would each make again."""
        self._plan.look()
        prepare_links(self._settings.realtime)
        prepare_minting(self._settings.realtime)

    async def run(self) -> None:
        """
        Take calls until SIGTERM or SIGINT.

        The first signal drains: no new calls, live ones may finish within the limit and get a BYE then. A second one
        ends them at once.

        Raises:
            SipError: the SIP stack could not start, or failed later.
            StoreError: Redis could not be reached at start.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._plan.ask)
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(self._store())
            self._plan.report(
                lambda state: store.note_dialplan(**state.fields()),
                ReloadRequests(self._settings.redis, store).newest,
            )
            await stack.enter_async_context(self._plan)
            self._watch_models(stack, store)
            sip, switchboard, commands = await self._open(stack, store)
            info = await sip.start()
            switchboard.capacity = info.capacity
            await self._open_registrar(stack, store, sip)
            await stack.enter_async_context(GarbageCollection(lambda: switchboard.is_busy))
            await stack.enter_async_context(CommandInbox(self._redis, self.name, commands.carry_out))
            self._tell_ready(info)
            if self._on_condition is None and self._settings.redis.url is not None:
                registry = await stack.enter_async_context(RegistryWriter(self._settings.redis))
                self._on_condition = partial(_register, registry, self._settings.sip)
            self._note(WorkerCondition(self.name, "ready", 0, info.capacity, f"{info.host}:{info.port}"))
            switchboard.on_calls = lambda calls: self._now(live_calls=calls)
            await self._until_stopped(sip, switchboard)
        self._now(state="ended")

    async def dial(self, order: DialOrder) -> Outcome:
        """
        Place one call, without taking any, and return how it ended; SIGTERM or SIGINT ends it.

        Raises:
            ConfigError: there is no such agent or trunk, or the target cannot be called.
            SipError: the SIP stack could not start, or failed later.
            StoreError: Redis could not be reached at start.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(self._store())
            sip, switchboard, commands = await self._open(stack, store, register=False)
            await sip.start()
            await stack.enter_async_context(GarbageCollection(lambda: switchboard.is_busy))
            await stack.enter_async_context(CommandInbox(self._redis, self.name, commands.carry_out))
            call = asyncio.ensure_future(switchboard.dial(order))
            asked = asyncio.ensure_future(self._stop_asked.wait())
            await asyncio.wait((call, asked, sip.ended), return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            await switchboard.stop("stopped by the operator")
            outcome = await call
            if sip.ended.done():
                sip.ended.result()
            return outcome

    async def _open(
        self, stack: AsyncExitStack, store: RedisCallStore, *, register: bool = True
    ) -> tuple[SipThread, Switchboard, WorkerCommands]:
        """Make what calls are made of; the SIP thread is not started yet, and is stopped by ``stack``."""
        settings = self._settings
        recordings = self._open_recordings(stack)
        sip = SipThread(
            settings.sip,
            lambda event: switchboard.on_event(event),
            trunks=settings.trunks,
            secrets=settings.secrets,
            on_trunk=partial(self._note_trunk, store) if register else None,
            register=register,
            privacy=settings.privacy.strictest,
            on_overload=self._note_overload,
        )
        gate = await stack.enter_async_context(RedisLimits(store, settings.redis))
        clock = LoopClock()
        losses = settings.realtime.breaker_losses
        listening = await self._open_listening(stack, clock)
        call_log, trace_headers = await self._open_log(stack, store, clock)
        builder = CallBuilder(
            settings,
            sip=sip,
            rounds=UplinkRounds(asyncio.get_running_loop(), settings.realtime.uplink_ms),
            webhooks=await stack.enter_async_context(WebhookClient()),
            minter=await stack.enter_async_context(SecretMinter(settings.realtime)),
            breakers=Breakers(clock.monotonic, losses, partial(_note_upstream, store)),
            recordings=recordings,
            gate=gate,
            store=call_log,
            phone=self._phone,
            trace_headers=trace_headers,
        )
        switchboard = Switchboard(
            plan=lambda: self._plan.plan,
            limits=settings.call,
            cost=settings.cost,
            builder=builder,
            gate=gate,
            refuse=sip.refuse,
            listeners=listening,
            store=call_log,
            clock=clock,
            worker=self.name,
            trunk_lines=_lines_of(settings) if register else {},
            privacy=settings.privacy,
            traced_trunks=settings.tracing.trusted_trunks if settings.tracing.endpoint is not None else (),
        )
        stack.push_async_callback(sip.stop)
        return sip, switchboard, WorkerCommands(switchboard, call_log, self._control_of(sip, switchboard, listening))

    def _control_of(self, sip: SipThread, switchboard: Switchboard, listening: Listening) -> Control:
        return Control(
            pause=partial(self._pause, sip, switchboard),
            leaves=self._stop_asked.is_set,
            reload=self._plan.reload,
            probe_trunk=sip.probe_trunk,
            listen=listening.listen,
        )

    def _open_recordings(self, stack: AsyncExitStack) -> RecordingWriter:
        """Return what writes recordings, and deletes old files."""
        sip = self._settings.sip
        old_traces = partial(delete_old_traces, sip.trace_folder.absolute(), sip.trace_keep_days)
        recordings = RecordingWriter(self._settings.recording, old_traces)
        recordings.start()
        stack.push_async_callback(recordings.stop)
        return recordings

    async def _open_listening(self, stack: AsyncExitStack, clock: Clock) -> Listening:
        """Return what publishes the sound of calls to whoever listens."""
        publisher = await stack.enter_async_context(AudioPublisher(self._redis))
        rounds = UplinkRounds(asyncio.get_running_loop(), BLOCK_MS)
        listening = Listening(self.name, publisher, clock, rounds, self._phone)
        stack.callback(listening.close)
        return listening

    async def _open_log(
        self, stack: AsyncExitStack, store: RedisCallStore, clock: Clock
    ) -> tuple[CallLog, TraceHeaders]:
        """Return where calls are written down, and what the requests of tools say of their traces."""
        tracing, traces = self._settings.tracing, None
        if tracing.endpoint is not None:
            of = {"service.name": SERVICE, "service.version": own_version(), "service.instance.id": self.name}
            exporter = await stack.enter_async_context(SpanExporter(tracing, of))
            traces = CallTraces(store, exporter.send, tracing.sample_ratio, clock)
        call_log = CallLog(store, clock, self._settings.privacy, traces)
        stack.callback(call_log.close)
        return call_log, no_headers if traces is None else traces.headers_of

    async def _open_registrar(self, stack: AsyncExitStack, store: RedisCallStore, sip: SipThread) -> None:
        """Behind an edge, be one of the workers of which one registers each trunk."""
        settings = self._settings
        if settings.sip.edge is not None and any(trunk.register_here for trunk in settings.trunks.values()):
            self._registrar = await stack.enter_async_context(Registrar(settings, store, sip, self.name))

    def _watch_models(self, stack: AsyncExitStack, store: RedisCallStore) -> None:
        """Be one of the workers of which one looks up until when the models are offered."""
        settings = self._settings
        watch = ModelWatch(
            store,
            settings.redis.prefix,
            self.name,
            plan=lambda: self._plan.plan.dialplan,
            ask=partial(list_models, settings.realtime),
        )
        stack.push_async_callback(end_task, asyncio.create_task(watch.run(), name="model watch"))

    def stop(self) -> None:
        """Ask for a drain; a second time, for the end."""
        if self._stop_asked.is_set():
            self.end()
        else:
            self.drain(self._settings.call.drain_limit_s)

    @runs_on("loop")
    def drain(self, limit_s: float) -> None:
        """Take no more calls, and end with the live ones or after ``limit_s``; the shortest limit holds."""
        self._drain_until = min(self._drain_until, time.monotonic() + limit_s)
        self._stop_asked.set()
        self._drain_changed.set()

    @runs_on("loop")
    def end(self) -> None:
        """End the live calls now."""
        self.drain(0)

    @runs_on("loop")
    def reload(self) -> None:
        """Read the dialplan again."""
        self._plan.ask()

    async def _until_stopped(self, sip: SipThread, switchboard: Switchboard) -> None:
        asked = asyncio.ensure_future(self._stop_asked.wait())
        await asyncio.wait((asked, sip.ended), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if self._stop_asked.is_set():
            self._now(state="draining", paused=False)
            sip.drain()
            leaving = asyncio.create_task(self._registrar.leave()) if self._registrar is not None else None
            if switchboard.live_calls:
                limit_s = max(0.0, self._drain_until - time.monotonic())
                self._announce(
                    f"stopping: no new calls; {switchboard.live_calls} live ones may continue for {limit_s:.0f} s "
                    "(a second signal ends them at once)"
                )
            await self._drained(switchboard)
            if leaving is not None:
                await leaving
        await switchboard.stop("the worker is shutting down")
        if sip.ended.done():
            sip.ended.result()

    async def _drained(self, switchboard: Switchboard) -> None:
        """Wait until no call is left or the limit has passed, which may be shortened meanwhile."""
        drained = asyncio.ensure_future(switchboard.drain())
        while not drained.done() and (left_s := self._drain_until - time.monotonic()) > 0:
            self._drain_changed.clear()
            changed = asyncio.ensure_future(self._drain_changed.wait())
            await asyncio.wait((drained, changed), timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        drained.cancel()

    def _note_overload(self, overloaded: bool) -> None:
        self._overloaded = overloaded
        self._note_state()

    def _pause(self, sip: SipThread, switchboard: Switchboard, paused: bool) -> None:
        """Take no new calls for the moment, or again: calls, SIP, registry and edges follow."""
        if self._stop_asked.is_set():
            return
        self._paused = switchboard.paused = paused
        (sip.drain if paused else sip.undrain)()
        self._note_state()

    def _note_state(self) -> None:
        if not self._stop_asked.is_set():
            taking: State = "overloaded" if self._overloaded else "ready"
            self._now(state="draining" if self._paused else taking, paused=self._paused)

    def _now(self, **changed: Any) -> None:
        """Tell what has changed of the condition; before the worker takes calls there is none."""
        if self._condition is not None:
            self._note(replace(self._condition, **changed))

    def _note(self, condition: WorkerCondition) -> None:
        if condition != self._condition:
            self._condition = condition
            if self._on_condition is not None:
                self._on_condition(condition)

    @asynccontextmanager
    async def _store(self) -> AsyncIterator[RedisCallStore]:
        settings = self._settings.redis
        async with AsyncExitStack() as stack:
            if settings.url is None:
                url = await stack.enter_async_context(EmbeddedRedis())
                settings = self._redis = RedisSettings.model_validate({**settings.model_dump(), "url": url})
                self._announce(f"no Redis is configured: using a private one that ends with the gateway ({url})")
            store = RedisCallStore(settings, self.name)
            await store.open()
            stack.push_async_callback(store.close, _STORE_CLOSE_S)
            yield store

    def _note_trunk(self, store: RedisCallStore, change: TrunkChanged) -> None:
        if self._registrar is not None and self._registrar.note(change):
            return
        fields = asdict(change)
        store.note_trunk(fields.pop("trunk"), **fields)

    def _tell_ready(self, info: SipInfo) -> None:
        self._announce(f"pjsua2 {info.version}: this build can hold {info.capacity} calls at once; more get 503")
        self._announce(
            f"ready: sip:{info.host}:{info.port} ({' and '.join(info.transports)}), worker {self.name}, "
            f"agents: {', '.join(self._plan.plan.dialplan.agents)}"
        )


def _note_upstream(store: RedisCallStore, told: UpstreamAway | UpstreamBack | HeldBack) -> None:
    """Write down that the model's service went away or came back, and count the attempts held back meanwhile."""
    match told:
        case HeldBack(model):
            store.count("outages", f"{model} held_back")
        case UpstreamAway(model, losses, detail):
            _log.warning("upstream_away", model=model, losses=losses, detail=detail)
            store.count("outages", f"{model} began")
            store.note_upstream(model, state="away", losses=losses, detail=detail)
        case UpstreamBack(model, lasted_s, held_back, probes):
            figures = {"lasted_s": round(lasted_s, 1), "held_back": held_back, "probes": probes}
            _log.warning("upstream_back", model=model, **figures)
            store.count("outages", f"{model} ended")
            store.note_upstream(model, state="back", **figures)


def _register(registry: RegistryWriter, sip: SipSettings, condition: WorkerCondition) -> None:
    """Write down how a worker without a fleet is, and where its edges reach it, if it stands behind any."""
    host, _, port = condition.sip.rpartition(":")
    if host == ANY and sip.edges:
        host = own_address_towards(sip.edges[0].partition("/")[0])
    registry.set_workers([replace(condition, sip=f"{host}:{port}" if sip.edges else "")])


def _lines_of(settings: Settings) -> dict[str, int]:
    """Return how many calls each trunk may have over all workers; without an edge each worker counts its own."""
    if not settings.sip.edges:
        return {}
    return {name: trunk.max_calls for name, trunk in settings.trunks.items() if trunk.max_calls is not None}
