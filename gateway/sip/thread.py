"""The thread that owns pjsua2: it polls the library, takes orders and sends facts."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from gateway.audio.playout import PlayoutBuffer
from gateway.audio.uplink import UplinkTap
from gateway.call.events import CallEvent
from gateway.errors import SipError
from gateway.ids import CallId
from gateway.settings import SipSettings
from gateway.sip.account import GatewayAccount
from gateway.sip.binding import pj
from gateway.sip.call import CallTable, PjCall, PjLeg
from gateway.sip.endpoint import SipInfo, account_config, quiet_start, start_endpoint
from gateway.sip.frame_bytes import choose_frame_access
from gateway.sip.media_port import AgentMediaPort
from gateway.threads import enter_role, runs_on

Order = Callable[[CallTable], None]

_log = structlog.get_logger(__name__)
_POLL_BUSY_MS = 10  # the longest an order waits while calls are up
_POLL_IDLE_MS = 50
_WATCH_S = 1.0
_GOODBYE_S = 2.0  # for the answers to our BYEs at the end


class SipThread:
    """
    The SIP user agent of a worker.

    Args:
        settings: addresses, ports, limits.
        on_event: takes each fact, on the loop.
    """

    def __init__(self, settings: SipSettings, on_event: Callable[[CallEvent], None]) -> None:
        self._settings = settings
        self._on_event = on_event
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sip", daemon=True)
        self._account: Any = None
        self._loop: asyncio.AbstractEventLoop
        self._started: asyncio.Future[SipInfo]
        self.ended: asyncio.Future[None]

    # --- from the loop ---

    async def start(self) -> SipInfo:
        """
        Start the thread and the library.

        Raises:
            SipError: no library, or an address or port that cannot be had.
        """
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.create_future()
        self.ended = self._loop.create_future()
        self._thread.start()
        return await self._started

    async def stop(self) -> None:
        """End every call with a BYE, destroy the library and end the thread."""
        self._stopping.set()
        await asyncio.to_thread(self._thread.join)

    def submit(self, order: Order) -> None:
        """Have ``order`` carried out on ``sip``, within 10 ms while calls are up."""
        self._orders.put(order)

    def leg(self, call_id: CallId, uplink: UplinkTap, playout: PlayoutBuffer) -> PjLeg:
        """Return the leg of a call that came in."""
        return PjLeg(self, call_id, uplink, playout)

    def new_call(self, call_id: CallId, uplink: UplinkTap, playout: PlayoutBuffer) -> PjLeg:
        """Return the leg of a call to be placed with ``dial``."""
        self.submit(lambda table: _make_room(table, self._account, call_id))
        return self.leg(call_id, uplink, playout)

    def refuse(self, call_id: CallId, code: int, reason: str) -> None:
        """End a call that came in and gets no leg."""
        self.submit(lambda table: table.order(call_id, lambda call: call.end(code, reason)))

    # --- on the thread ---

    def emit(self, event: CallEvent) -> None:
        """Carry a fact to the loop: the only way out of this thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to hear it
            self._loop.call_soon_threadsafe(self._on_event, event)

    def _run(self) -> None:
        enter_role("sip")
        failure: SipError | None = None
        try:
            self._live()
        except SipError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - the border of a thread: what ends it must be told to the loop
            _log.exception("sip_thread_failed")
            failure = SipError(f"the SIP thread failed: {error}")
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
        quiet_start()
        endpoint = pj.Endpoint()
        endpoint.libCreate()
        writer = table = None
        try:
            info, writer = start_endpoint(self._settings, endpoint)
            access = choose_frame_access()
            made: list[AgentMediaPort] = []

            def make_port() -> AgentMediaPort:
                made.append(AgentMediaPort(access, len(made)))
                return made[-1]

            table = CallTable(self.emit, make_port, self._settings.retry_after_s)
            self._account = GatewayAccount(table)
            self._account.create(account_config(self._settings), True)
            info = replace(info, frame_access=access.name)
            self._loop.call_soon_threadsafe(self._started.set_result, info)
            self._poll(endpoint, table, lambda: not self._stopping.is_set())
            self._say_goodbye(endpoint, table)
            table.idle_ports.clear()
            made.clear()
        finally:
            if table is not None and table.calls:
                table.calls.clear()
            if self._account is not None:
                self._account.shutdown()
                self._account = None
            endpoint.libDestroy()
            del writer

    def _poll(self, endpoint: Any, table: CallTable, go_on: Callable[[], bool]) -> None:
        watch_at = time.monotonic() + _WATCH_S
        while go_on():
            endpoint.libHandleEvents(_POLL_BUSY_MS if table.calls else _POLL_IDLE_MS)
            while not self._orders.empty():
                self._orders.get_nowait()(table)
            now = time.monotonic()
            if now >= watch_at:
                watch_at = now + _WATCH_S
                watch = partial(PjCall.watch_rtp, now=now, limit_s=self._settings.no_rtp_timeout_s)
                for call_id in tuple(table.calls):
                    table.order(call_id, watch)

    def _say_goodbye(self, endpoint: Any, table: CallTable) -> None:
        for call_id in tuple(table.calls):
            table.order(call_id, lambda call: call.end(pj.PJSIP_SC_SERVICE_UNAVAILABLE, "Shutting down"))
        limit = time.monotonic() + _GOODBYE_S
        self._poll(endpoint, table, lambda: bool(table.calls) and time.monotonic() < limit)


def _make_room(table: CallTable, account: Any, call_id: CallId) -> None:
    PjCall(account, call_id, table)
