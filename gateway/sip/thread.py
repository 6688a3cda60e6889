"""
The thread that owns pjsua2: it polls the library, takes orders and sends events.

Theory of operation. One thread, ``sip``, makes every call into the library. It creates the library, then loops in
``_poll``: wait inside ``libHandleEvents`` for sockets and timers, carry out the orders that have come, and once a
second do the housekeeping (``_TICK_S``; less often while there is nothing to keep). It does not poll: whatever else is
to be done ends the wait (``Waker``). The library has no worker threads of its own for SIP, so each of its callbacks
runs inside our wait, on this thread, one after another. Without a call the process rests: PJMEDIA closes the bridge's
clock a second after the last one, and its network thread sleeps (``native/media_thread.py``).

Two ways lead across the border to the loop, and no other:

* ``emit(event)`` carries a frozen event out (``call_soon_threadsafe``);
* ``submit(order)`` brings a callable in, to be called with the table of calls. ``Waker`` ends the wait at once.

What an INVITE passes, all on this thread: ``ParserGate`` shows it as text (``native/parser.py``); ``Screening`` decides
whether the library gets it, and with which body; the library parses it, finds the account by its source
(``Accounts.account_for``) and calls ``GatewayAccount.onIncomingCall``, which puts a ``PjCall`` into the table and emits
``IncomingInvite``. The loop answers by orders through a ``PjLeg``. The message is parsed once: the screen and the
callbacks share one ``MessageReader``.

Order matters to the library: it asserts when it ends before what was made of it. ``_live`` therefore puts the end of
each thing on a stack as soon as it exists, and the stack unwinds in reverse. A last poll of at most ``_GOODBYE_S``
waits for the answers to our BYEs and to our last REGISTERs. An exception that ends the thread reaches the loop through
``started`` or ``ended``, without its traceback, which would keep the endpoint alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import structlog
from pydantic import SecretStr

from gateway.audio.pcm import PcmFormat
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.uplink import UplinkTap
from gateway.call.events import CallEvent, LegClosed
from gateway.call.ports import Recorder
from gateway.errors import SipError
from gateway.ids import CallId
from gateway.privacy import PrivacyMode
from gateway.settings.sip import SipSettings, TrunkSettings
from gateway.sip.admission.access_list import AccessList
from gateway.sip.admission.screening import Occupancy, Screening
from gateway.sip.calls.accounts import Accounts, TrunkChanged
from gateway.sip.calls.calls import Calls, PjCall
from gateway.sip.calls.media_port import AgentMediaPort
from gateway.sip.calls.overload import ClockTicks, Overload
from gateway.sip.core.addressing import Caller, OutboundInvite, outbound_invite
from gateway.sip.core.message import MessageReader
from gateway.sip.leg import PjLeg
from gateway.sip.library.endpoint import GatewayEndpoint, SipInfo, call_capacity, quiet_start, start_endpoint
from gateway.sip.library.frame_bytes import choose_frame_access
from gateway.sip.library.pj import pj
from gateway.sip.library.stun import with_public_address
from gateway.sip.library.transports import check_tls_files
from gateway.sip.location.directory import ServerDirectory
from gateway.sip.location.locator import Locator
from gateway.sip.location.resolver import Resolver
from gateway.sip.location.servers import NextHop
from gateway.sip.native.handles import Handles
from gateway.sip.native.jitter_buffer import JitterBuffers
from gateway.sip.native.media_thread import MediaThread
from gateway.sip.native.port_frames import PortFrames
from gateway.sip.native.waker import Waker
from gateway.sip.screen.connections import AcceptGuard
from gateway.sip.screen.screen import Screen
from gateway.sip.screen.trace import Tracer
from gateway.threads import new_thread, run_in_pool, runs_on

Order = Callable[[Calls], None]

_log = structlog.get_logger(__name__)
_POLL_FOR_KEYS_S = 0.02  # where a key found by the thread of the media does not end the wait
_POLL_FOR_ORDERS_S = 0.01  # where nothing can end it
_TICK_S = 1.0  # housekeeping: registrations, RTP, connections
_IDLE_TICK_S = 5.0  # the same where there is none of these
_GRACE_S = 0.5  # for the library to say that it has waited long enough
_GOODBYE_S = 2.0  # for the answers to our BYEs at the end


class SipThread:
    """
    The SIP user agent of a worker.

    Args:
        settings: addresses, ports, limits.
        on_event: takes each fact, on the loop.
        trunks: the carriers and PBXs it lives among, by name.
        secrets: where their passwords are, by name.
        on_trunk: takes each change of a trunk's state, on the loop.
        register: register at the trunks that want it; a process for a single call need not.
        privacy: what of the people in a call a SIP trace keeps.
        on_overload: hears, on the loop, when new calls begin to be refused because audio is late, and when no more.
    """

    def __init__(
        self,
        settings: SipSettings,
        on_event: Callable[[CallEvent], None],
        *,
        trunks: Mapping[str, TrunkSettings] | None = None,
        secrets: Mapping[str, SecretStr] | None = None,
        on_trunk: Callable[[TrunkChanged], None] | None = None,
        register: bool = True,
        privacy: PrivacyMode = "full",
        on_overload: Callable[[bool], None] = lambda overloaded: None,
    ) -> None:
        self._settings = settings
        self._privacy = privacy
        self._on_overload = on_overload
        self._overload = Overload(settings, self._emit_overload)
        self._on_event = on_event
        self._trunks = dict(trunks or {})
        self._secrets = dict(secrets or {})
        self._on_trunk = on_trunk
        self._register = register
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._waker = Waker()
        self._media_thread: MediaThread | None = None
        self._draining = threading.Event()
        self._stopping = threading.Event()
        self._thread = new_thread("sip", self._run)
        self._accounts: Accounts | None = None  # thread: sip
        self._resolver = Resolver(settings, self._trunks)
        self._lookups: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._started: asyncio.Future[SipInfo]
        self.ended: asyncio.Future[None]
        self.trunk_states: dict[str, TrunkChanged] = {}
        """The newest state of each trunk. Thread: loop."""

    # --- from the loop ---

    async def start(self) -> SipInfo:
        """
        Start the thread and the library.

        Raises:
            SipError: no library, or an address or port that is not available.
        """
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.create_future()
        self.ended = self._loop.create_future()
        self._thread.start()
        return await self._started

    async def stop(self) -> None:
        """End every call with a BYE, destroy the library and end the thread."""
        self._draining.set()
        self._stopping.set()
        self._waker.wake()
        await run_in_pool(self._thread.join)
        for lookup in self._lookups:
            lookup.cancel()
        await asyncio.gather(*self._lookups, return_exceptions=True)

    def drain(self) -> None:
        """Take no more calls: from now on new ones get 503, and so does OPTIONS."""
        self._draining.set()

    def undrain(self) -> None:
        """Take calls again."""
        self._draining.clear()

    async def probe_trunk(self, trunk: str, limit_s: float) -> tuple[int, str]:
        """
        Send OPTIONS to a trunk's server; return the status and reason phrase of its answer.

        Without an answer within ``limit_s`` the status is 0, and the text says why.
        """
        answer: asyncio.Future[tuple[int, str]] = self._loop.create_future()

        def settle(code: int, reason: str) -> None:
            if not answer.done():
                answer.set_result((code, reason))

        def told(code: int, reason: str) -> None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(settle, code, reason)

        self._with_accounts(lambda accounts: accounts.probe(trunk, limit_s, told))
        try:
            async with asyncio.timeout(limit_s + _GRACE_S):
                return await answer
        except TimeoutError:
            return 0, f"no answer within {limit_s:g} s"

    def submit(self, order: Order) -> None:
        """Have ``order`` carried out on ``sip``, at once."""
        self._orders.put(order)
        self._waker.wake()

    def hold_trunk(self, trunk: str, until: float) -> None:
        """Register a trunk up to a moment of the monotonic clock; only behind an edge (``calls/accounts.py``)."""
        self._with_accounts(lambda accounts: accounts.hold(trunk, until))

    def let_go_trunk(self, trunk: str) -> None:
        """Leave a trunk to other workers."""
        self._with_accounts(lambda accounts: accounts.let_go(trunk))

    def take_off_trunk(self, trunk: str, until: float) -> None:
        """Remove a trunk's binding: no worker is left for it."""
        self._with_accounts(lambda accounts: accounts.take_off(trunk, until))

    def _with_accounts(self, do: Callable[[Accounts], None]) -> None:
        self.submit(lambda _table: do(self._accounts) if self._accounts is not None else None)

    def leg(
        self, call_id: CallId, uplink: UplinkTap, playout: PlayoutBuffer, recorder: Recorder | None = None
    ) -> PjLeg:
        """Return the leg of a call that came in."""
        return PjLeg(self, call_id, uplink, playout, recorder)

    def new_call(
        self,
        call_id: CallId,
        target: str,
        uplink: UplinkTap,
        playout: PlayoutBuffer,
        *,
        trunk: str = "",
        caller_id: str | None = None,
        recorder: Recorder | None = None,
    ) -> PjLeg:
        """
        Return the leg of a call of ours; its ``dial`` places it.

        Args:
            call_id: our id of the call.
            target: a SIP URI, a tel URI or a bare number; the last two need a trunk.
            uplink: takes the far end's voice.
            playout: gives the agent's speech.
            trunk: the trunk it goes through; empty for none.
            caller_id: number to call as; None takes the trunk's.
            recorder: what records the call, if anything.

        Raises:
            SipError: no such trunk, a number without one, or no target at all; the text names the cure.
        """
        where = self.outbound_invite(target, trunk=trunk, caller_id=caller_id)
        self.submit(lambda table: _make_room(table, call_id, where))
        return PjLeg(self, call_id, uplink, playout, recorder, where)

    def outbound_invite(self, target: str, *, trunk: str = "", caller_id: str | None = None) -> OutboundInvite:
        """Work out where a call goes and as whom; raises ``SipError`` as ``new_call`` does."""
        return outbound_invite(target, self._trunks, trunk=trunk, caller=Caller(caller_id or ""))

    def refuse(self, call_id: CallId, code: int, reason: str) -> None:
        """End a call that came in and gets no leg."""
        self.submit(lambda table: table.order(call_id, lambda call: call.end(code, reason)))

    # --- on the thread ---

    def emit(self, event: CallEvent) -> None:
        """Carry a fact to the loop: the only way out of this thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to hear it
            self._loop.call_soon_threadsafe(self._on_event, event)

    def emit_trunk(self, change: TrunkChanged) -> None:
        """Carry a trunk's new state to the loop."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._note_trunk, change)

    def _emit_overload(self, overloaded: bool) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._on_overload, overloaded)

    @runs_on("loop")
    def _note_trunk(self, change: TrunkChanged) -> None:
        self.trunk_states[change.trunk] = change
        if self._on_trunk is not None:
            self._on_trunk(change)

    def _later(self, do: Callable[[], None]) -> None:
        """Do something when the library is done with what it does now."""
        self.submit(lambda _table: do())

    def _ask(self, locator: Locator, target: NextHop) -> None:
        """Have the servers of a target found on the loop, and handed to the locator here."""

        async def look_up() -> None:
            located = await self._resolver.locate(target)
            self.submit(lambda _table: locator.take(target, located))

        def begin() -> None:
            lookup = asyncio.ensure_future(look_up())
            self._lookups.add(lookup)
            lookup.add_done_callback(self._lookups.discard)

        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(begin)

    def _run(self) -> None:
        failure: SipError | None = None
        try:
            self._live()
        except SipError as error:
            # Without its traceback, which holds the endpoint: while one lives, making another aborts the process.
            failure = SipError(str(error))
        except Exception as error:  # noqa: BLE001 - the border of a thread: what ends it must be told to the loop
            _log.exception("sip_thread_failed")
            failure = SipError(f"the SIP thread failed: {error}")
        gc.collect()  # an error that refers to itself holds its traceback, and with it the endpoint, as above
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._report_end, failure)

    @runs_on("loop")
    def _report_end(self, failure: SipError | None) -> None:
        for future in (self._started, self.ended):
            if future.done():
                continue
            if failure is None:
                future.set_result(None)  # type: ignore[arg-type]
            else:
                future.set_exception(failure)
                future.exception()  # seen: whoever waits gets it, and nobody else is told of it

    @runs_on("sip")
    def _live(self) -> None:
        settings = _checked(self._settings)
        # What is begun is ended in the reverse order: the library asserts when it ends before what was made of it.
        with contextlib.ExitStack() as ending:
            tracer = Tracer(settings, self._privacy)
            ending.callback(tracer.close)
            access_list = AccessList(settings, self._trunks)
            directory = ServerDirectory(settings, self._trunks, access_list, self._ask)
            ending.callback(directory.remove)
            endpoint = GatewayEndpoint()
            endpoint.libCreate()
            ending.callback(endpoint.libDestroy)
            accept_guard = AcceptGuard(access_list)
            occupied: list[Calls] = []  # the screen asks for it, and comes before it
            handles = ending.enter_context(Handles())
            reader = MessageReader()
            rules = self._rules(access_list, occupied, handles, reader)
            screen = Screen(rules, tracer, accept_guard, directory.failover, handles)
            ending.callback(screen.remove)
            jitter = JitterBuffers(settings.jitter_max_ms)
            ending.callback(jitter.remove)
            ready, followed = lambda: (screen.install(), directory.install()), jitter.install()
            start = partial(start_endpoint, before_listening=ready, jitter_followed=followed)
            info, writer = start(settings, endpoint, self._trunks)
            ending.callback(endpoint.ask_nobody)
            ending.enter_context(self._waker)
            self._media_thread = ending.enter_context(MediaThread(handles))
            accept_guard.tls_on(*filter(None, (info.tls_port,)))
            tracer.listens_on(info.port)
            ports = _Ports(info.pcm, self._overload.clock)
            ending.callback(ports.close)
            ending.callback(endpoint.audDevManager().setNoDev)  # no clock may be in a port that goes (see _Ports)
            failover, trunks = directory.failover, self._trunks
            accounts = Accounts(settings, trunks, self._secrets, self.emit_trunk, access_list, failover, self._later)
            ending.callback(self._keep(accounts))
            shared = (self.emit, ports.make, settings, failover, self._later, accounts.of, trunks)
            table = Calls(*shared, info.pcm, tracer, jitter, reader)
            ending.callback(table.clear)
            occupied.append(table)
            accounts.open(table, register=self._register)
            directory.open(accounts.located)
            endpoint.account_for = lambda hop, text: accounts.account_for(hop, text, reader.read(text))
            endpoint.connection_lost = accounts.connection_lost
            self._loop.call_soon_threadsafe(self._started.set_result, replace(info, frame_access=ports.way))
            parts = _Parts(
                endpoint, table, accounts, screen, directory, accept_guard, self._media_thread, self._overload
            )
            self._poll(parts, lambda: not self._stopping.is_set())
            self._say_goodbye(parts)
        del writer  # the library writes its last lines with it

    def _keep(self, accounts: Accounts) -> Callable[[], None]:
        """Let orders reach the accounts; return what closes them."""
        self._accounts = accounts

        def close() -> None:
            self._accounts = None
            accounts.close()

        return close

    def _rules(
        self, access_list: AccessList, occupied: list[Calls], handles: Handles, reader: MessageReader
    ) -> Screening:
        capacity = call_capacity(pj.EpConfig().uaConfig.maxCalls)

        occupancy = Occupancy(
            full=lambda: sum(len(table) for table in occupied) >= capacity,
            draining=self._draining.is_set,
            calls_of=lambda trunk: sum(table.calls_of(trunk) for table in occupied),
            scarce=lambda: handles.scarce,
            late=lambda: self._overload.overloaded,
        )
        return Screening(
            *(self._settings, access_list, self._trunks), secrets=self._secrets, occupancy=occupancy, reader=reader
        )

    def _poll(self, parts: _Parts, go_on: Callable[[], bool]) -> None:
        table, failover = parts.table, parts.directory.failover
        ticked_at = time.monotonic()
        while go_on():
            due_at = min(ticked_at + (_IDLE_TICK_S if parts.at_rest else _TICK_S), failover.due_at)
            parts.endpoint.libHandleEvents(self._wait_ms(table, due_at - time.monotonic()))
            while not self._orders.empty():
                _obey(self._orders.get_nowait(), table)
            now = time.monotonic()
            failover.tick(now)
            if now - ticked_at >= (_IDLE_TICK_S if parts.at_rest else _TICK_S):
                ticked_at = now
                parts.tick(now)

    def _wait_ms(self, table: Calls, until_due_s: float) -> int:
        if not self._waker.works:
            wait_s = min(until_due_s, _POLL_FOR_ORDERS_S)
        elif len(table) and not self._waker.hears_jobs:
            wait_s = min(until_due_s, _POLL_FOR_KEYS_S)
        else:
            wait_s = until_due_s
        return max(0, math.ceil(wait_s * 1000))

    def _say_goodbye(self, parts: _Parts) -> None:
        table, accounts = parts.table, parts.accounts
        parts.directory.close()
        table.end_all(pj.PJSIP_SC_SERVICE_UNAVAILABLE, "Shutting down")
        accounts.leave()
        limit = time.monotonic() + _GOODBYE_S

        def waiting() -> bool:
            return (len(table) > 0 or accounts.registered) and time.monotonic() < limit

        self._poll(parts, waiting)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the thread works with while it lives."""

    endpoint: GatewayEndpoint
    table: Calls
    accounts: Accounts
    screen: Screen
    directory: ServerDirectory
    accept_guard: AcceptGuard
    media_thread: MediaThread
    overload: Overload

    @property
    def at_rest(self) -> bool:
        """Whether there is nothing to look after every second."""
        busy = len(self.table) or self.accept_guard.open or self.accounts.waits or self.overload.overloaded
        return not busy and self.media_thread.is_quiet

    def tick(self, now: float) -> None:
        """Do the housekeeping; ``now``: monotonic seconds."""
        self.screen.tick(now)
        self.directory.tick(now)
        self.accounts.tick(now)
        self.table.watch(now)
        self.overload.tick(now)
        if not len(self.table):
            self.media_thread.rest(now)


class _Ports:
    """
    Makes media ports and keeps them: they live as long as the bridge's clock.

    When a port's last reference goes, Python frees it while C++ still waits for the clock to leave it. A clock that has
    just asked that port for a frame, and waits for the interpreter, would call what is freed, and it is freed twice.
    """

    def __init__(self, pcm: PcmFormat, clock: ClockTicks) -> None:
        self._access = choose_frame_access()
        self._pcm = pcm
        self._clock = clock
        self._frames = PortFrames()
        self.way = "in place" if self._frames.install() else self._access.name
        self._made: list[AgentMediaPort] = []

    def make(self) -> AgentMediaPort:
        self._made.append(AgentMediaPort(self._access, len(self._made), self._pcm, self._clock, self._frames))
        return self._made[-1]

    def close(self) -> None:
        for port in self._made:
            port.close()
        self._made.clear()
        self._frames.remove()


def _checked(settings: SipSettings) -> SipSettings:
    """Return the settings to start with: files that can be read, a public address where one was asked for."""
    quiet_start()
    check_tls_files(settings)
    return with_public_address(settings)


def _obey(order: Order, table: Calls) -> None:
    """Carry out an order; a fault in one call's must not end the others."""
    try:
        order(table)
    except Exception:  # noqa: BLE001 - the border of a thread, as above
        _log.exception("sip_order_failed")


def _make_room(table: Calls, call_id: CallId, where: OutboundInvite) -> None:
    if table.is_full(where.trunk):
        reason = "All lines of the trunk are busy"
        table.emit(LegClosed(call_id, by_caller=False, code=pj.PJSIP_SC_SERVICE_UNAVAILABLE, reason=reason))
        return
    PjCall(table.account_of(where.trunk), call_id, table, trunk=where.trunk)
