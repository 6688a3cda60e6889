"""
One WebSocket to a voice model, from the handshake to its CLOSE: reading, writing, noticing how it ended.

The dialect knows what messages mean, ``sessions.py`` what becomes of a call whose connection ends; here they are
carried. Each way it is one step, without a task, a lock or a queue. A message is written at once: while the connection
takes no data, orders wait here and the caller's audio waits, bounded, in its tap. One that comes in goes to the dialect
within the callback that read it, so that the socket is read no faster than its messages are taken.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache, partial
from os import urandom
from typing import Any, cast

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.frames import DATA_OPCODES, CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.speedups import apply_mask

from gateway.call.events import AgentFailed, AgentReady
from gateway.errors import AgentError
from gateway.ids import CallId
from gateway.settings.sections import RealtimeSettings
from gateway.upstream.core.dialect import (
    ConnectionFault,
    Connector,
    Opening,
    Retry,
    SessionBegan,
    SessionEnding,
    UpstreamEvent,
)

_log = structlog.get_logger(__name__)

_socket_log = logging.getLogger("gateway.upstream.link")
_socket_log.setLevel(logging.INFO)  # below that websockets writes every header, the key among them

MAX_ORDERS = 512
"""Control messages that may wait to be sent; a call has a few per turn, a new session a few per turn of the past."""

MAX_FRAGMENTS = 4096
"""Of a message that comes in; the library's own limit."""

STALL_LIMIT_S = 5.0
"""An upstream that takes no data for this long is lost. TCP alone would wait for ever."""

LOOKS = 10
"""
A time limit on the other side is slept in so many parts, with a look after each. A loop that was blocked for seconds
loses one part only, and reads what came meanwhile before the next: our own delay is not mistaken for a loss.
"""


class _Socket(ClientConnection):
    """
    A connection that is over as soon as the server's CLOSE was answered, and that tells how it is.

    The library keeps the protocol; its queue and its ``recv`` stay unused.

    Attributes:
        flow: called with whether the connection takes data.
        fell_silent: called when the other side shows no sign of life any more.
    """

    flow: Callable[[bool], None] | None = None
    fell_silent: Callable[[], None] | None = None
    _heard = False
    _take: Callable[[bytes], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """
        Begin, with a limit on how long data may stay unacknowledged.

        Without that limit TCP retransmits for a quarter of an hour. PINGs alone would not do: what the service sends
        may still arrive when nothing reaches it. Nor would TCP alone: behind a proxy it knows nothing of the service.
        """
        super().connection_made(transport)
        self._fragments: list[bytes | bytearray | memoryview] = []
        self._early: list[bytes] = []
        connected = transport.get_extra_info("socket")
        if self.ping_timeout is not None and connected is not None and hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            milliseconds = max(1, round(self.ping_timeout * 1000))
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)  # RFC 5482

    def begin(self, take: Callable[[bytes], None]) -> None:
        """Give each message to ``take`` from now on, as it came; first those that came with the handshake's end."""
        self._take = take
        early, self._early = self._early, []
        for message in early:
            take(message)

    def write_text(self, text: str) -> None:
        """
        Write a message as one frame (RFC 6455 section 5.2); nothing once the closing handshake has begun.

        The library's own ways do it in a task with a lock, or in six calls, which counts for the caller's voice.
        """
        if self.protocol.state is State.OPEN and not self.transport.is_closing():
            data = text.encode()
            mask = urandom(4)  # RFC 6455 section 5.3: unpredictable
            self.transport.write(b"".join((_frame_head(len(data)), mask, apply_mask(data, mask))))

    def data_received(self, data: bytes) -> None:
        """Take what came, whatever it is, as a sign of life."""
        self._heard = True
        super().data_received(data)

    def process_event(self, event: Any) -> None:
        """
        Take one frame, or the answer to the handshake.

        Waiting for the server to end TCP first, as RFC 6455 section 7.1.1 advises, would cost a round trip before the
        caller's BYE, and never end if the server does not. What came before the CLOSE is still read.
        """
        if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
            self._take_data(event)
            return
        super().process_event(event)
        if isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
            self.transport.close()  # once our own CLOSE is written
            self.loop.call_later(self.close_timeout or 0, self.transport.abort)

    def _take_data(self, frame: Frame) -> None:
        """Pass a message on as soon as its last fragment is there (RFC 6455 section 5.4)."""
        self._fragments.append(frame.data)
        if not frame.fin:
            if len(self._fragments) > MAX_FRAGMENTS:
                self.protocol.fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
                self.send_data()
                self.loop.call_later(self.close_timeout or 0, self.transport.abort)
            return
        message = b"".join(self._fragments)
        self._fragments.clear()
        if self._take is not None:
            self._take(message)
        else:
            self._early.append(message)

    def start_keepalive(self) -> None:
        """Start the PINGs; not if the CLOSE came along with the 101, for then nothing would ever end their task."""
        if self.state is State.OPEN:
            super().start_keepalive()

    async def keepalive(self) -> None:
        """
        Send a PING now and then, and report the other side as silent when nothing at all follows it.

        The library's own version (websockets 15 to 17) insists on the PONG, which may queue behind seconds of audio;
        it fails when this process was blocked for the length of the time-out, though the PONG has arrived; and it waits
        for the closing handshake of a peer that is gone.
        """
        if self.ping_interval is None or self.ping_timeout is None:
            return
        while True:
            await asyncio.sleep(self.ping_interval)
            if self.state is not State.OPEN:
                return
            self._heard = False
            self.protocol.send_ping(b"")
            self.send_data()
            for _ in range(LOOKS):
                await asyncio.sleep(self.ping_timeout / LOOKS)
                if self._heard:
                    break
            else:
                if self.fell_silent is not None:
                    self.fell_silent()
                return

    def pause_writing(self) -> None:
        """The kernel takes no more data, and asyncio's buffer is full."""
        super().pause_writing()
        if self.flow is not None:
            self.flow(False)

    def resume_writing(self) -> None:
        """There is room again."""
        super().resume_writing()
        if self.flow is not None:
            self.flow(True)


@lru_cache
def _frame_head(size: int) -> bytes:
    """Return what a frame of text of ``size`` bytes begins with: final, masked (RFC 6455 section 5.2)."""
    final_text, masked = 0b1000_0000 | Opcode.TEXT, 0b1000_0000
    if size < 126:
        return struct.pack("!BB", final_text, masked | size)
    if size < 65536:
        return struct.pack("!BBH", final_text, masked | 126, size)
    return struct.pack("!BBQ", final_text, masked | 127, size)


class _Connect(connect):
    """A connection attempt that follows no redirect: the key goes to the configured service and nowhere else."""

    def process_redirect(self, exc: Exception) -> Exception:
        """Take a redirect for the refusal it is."""
        return exc


@cache
def _tls_context() -> ssl.SSLContext:
    # Loading the certificates of all authorities takes tens of milliseconds: once, not per call.
    return ssl.create_default_context()


def prepare_links(settings: RealtimeSettings) -> None:
    """Load once what all sessions need, so that processes forked from this one have it."""
    if str(settings.url).startswith("wss:"):
        _tls_context()


class UpstreamLink:
    """
    One session over one connection. Thread: loop.

    Args:
        call_id: our id of the call.
        settings: limits and proxy.
        opening: where to connect, and the session's dialect.
        connector: judges failures, and takes secrets out of text.
        take: receives every event, in order, but for ``AgentFailed``: that is the ``ended`` of this link.

    Attributes:
        dialect: the session's state.
        ready: done when the session is, or has ended before that.
        ended: how it ended; set once, as soon as that is known.
        session_id: the service's own id of the session; empty before ``session.created``.
        expires_at: end of the session, Unix seconds of the service's clock; None when it did not say.
        open_ms: from the attempt to the handshake's end.
        ready_ms: from the attempt to readiness.
        on_room: called when the connection takes data again.
        heard_at: monotonic seconds of the service's last message.
    """

    def __init__(
        self,
        *,
        call_id: CallId,
        settings: RealtimeSettings,
        opening: Opening,
        connector: Connector,
        take: Callable[[UpstreamLink, UpstreamEvent], None],
    ) -> None:
        self._call_id = call_id
        self._settings = settings
        self._opening = opening
        self.dialect = opening.dialect
        self._connector = connector
        self._judge = connector.judge
        self._take = take
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[SessionEnding] = loop.create_future()
        self.session_id = ""
        self.expires_at: float | None = None
        self.open_ms = 0
        self.ready_ms = 0
        self.heard_at = time.monotonic()
        self.on_room: Callable[[], None] | None = None
        self._began = time.monotonic()
        self._connection: _Socket | None = None
        self._orders: deque[str] = deque()
        self._paused = False
        self._stall: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = asyncio.create_task(self._run(), name=f"agent socket {call_id}")
        self._task.add_done_callback(self._task_ended)

    @property
    def has_room(self) -> bool:
        """Whether audio may be sent now."""
        return not self._paused and not self._orders

    def send(self, texts: tuple[str, ...]) -> None:
        """Send messages in order; they wait while the connection takes no data."""
        for text in texts:
            if self._connection is None or self.ended.done():
                return
            if self.has_room:
                self._connection.write_text(text)
            elif len(self._orders) < MAX_ORDERS:
                self._orders.append(text)
            else:
                _log.warning("upstream_takes_no_orders", call_id=self._call_id, waiting=MAX_ORDERS)
                return

    async def close(self) -> None:
        """
        End it with CLOSE 1000; safe in any state and more than once.

        Waits for the other side ``close_timeout_s`` at the longest, then cuts the connection. Nothing more is
        reported; on return no task and no TCP connection is left.
        """
        self._end(SessionEnding(AgentError("closed by the gateway"), Retry.NEVER))
        if (task := self._task) is not None:
            task.cancel()
            await asyncio.wait((task,))
        if self._connection is not None:
            await self._disconnect(self._connection)
            self._connection = None  # it refers to us

    # The connection's life

    async def _run(self) -> None:
        connection = await self._connect()
        if connection is None:
            return
        self.send(self.dialect.configure())
        connection.begin(self._receive)
        await asyncio.wait((self.ended, connection.connection_lost_waiter), return_when=asyncio.FIRST_COMPLETED)
        if not self.ended.done():
            self._end(self._ending_of(connection))
        await self._disconnect(connection)

    def _receive(self, message: bytes) -> None:
        if self.ended.done():
            return
        self.heard_at = time.monotonic()
        try:
            self.report(self.dialect.receive(message))
        except Exception as fault:
            self._break_down(fault)
            raise

    async def _connect(self) -> _Socket | None:
        settings = self._settings
        try:
            connection = cast(
                _Socket,
                await _Connect(
                    self._opening.url,
                    additional_headers=self._opening.headers,
                    compression=None,
                    proxy=str(settings.proxy) if settings.proxy is not None else None,
                    open_timeout=settings.connect_timeout_s,
                    close_timeout=settings.close_timeout_s,
                    ping_interval=settings.ping_interval_s or None,
                    ping_timeout=settings.ping_timeout_s,
                    max_size=None,  # an item that is retrieved carries its whole recording
                    logger=_socket_log,
                    create_connection=_Socket,
                    **self._tls(),
                ),
            )
        except InvalidStatus as refusal:
            self._end(self._ending_of_refusal(refusal))
            return None
        except (OSError, WebSocketException) as error:  # TimeoutError is an OSError
            fault = (
                ConnectionFault.CERTIFICATE
                if isinstance(error, ssl.SSLCertVerificationError)
                else ConnectionFault.UNREACHABLE
            )
            self.end(self._judge.connection_error(fault, f"cannot reach the service: {error}"))
            return None
        self._connection = connection
        self.open_ms = self._age_ms()
        connection.flow = self._flow
        silent = f"the service sent nothing for {settings.ping_timeout_s:g} s, not even an answer to a PING"
        connection.fell_silent = partial(self._stalled, silent)
        return connection

    def _tls(self) -> dict[str, Any]:
        if self._settings.url.scheme != "wss":
            return {}
        return {"ssl": _tls_context(), "ssl_shutdown_timeout": self._settings.close_timeout_s}

    async def _disconnect(self, connection: ClientConnection) -> None:
        try:
            async with asyncio.timeout(self._settings.close_timeout_s):
                await connection.close()
        except TimeoutError:
            _log.info("upstream_did_not_answer_close", call_id=self._call_id)
        finally:
            connection.transport.abort()
        await connection.wait_closed()

    def report(self, events: Iterable[UpstreamEvent]) -> None:
        """Report events of this session, as long as it has not ended."""
        for event in events:
            self._report(event)

    def end(self, error: AgentError) -> None:
        """Let it end with ``error``; ``sessions.py`` waits for that and closes it."""
        self._end(SessionEnding(error, self._judge.retry(error)))

    def _report(self, event: UpstreamEvent) -> None:
        if self.ended.done():
            return
        match event:
            case AgentFailed(error=error):
                self.end(error)
                return
            case SessionBegan(session_id=session_id, expires_at=expires_at):
                self.session_id, self.expires_at = session_id, expires_at
            case AgentReady(session_id=session_id):
                self.session_id = session_id
                self.ready_ms = self._age_ms()
        self._take(self, event)
        if isinstance(event, AgentReady) and not self.ready.done():
            self.ready.set_result(None)

    def _end(self, ending: SessionEnding) -> None:
        """Settle how it ended, once."""
        if self.ended.done():
            return
        self.ended.set_result(ending)
        if not self.ready.done():
            self.ready.set_result(None)
        if self._stall is not None:
            self._stall.cancel()
        if self.session_id or self.ready_ms:
            _log.info(
                "upstream_session_ended",
                call_id=self._call_id,
                session_id=self.session_id,
                close_code=ending.close_code,
                detail=ending.words,
                lasted_ms=self._age_ms(),
                odd_messages=self.dialect.odd_messages,
                unknown_events=self.dialect.unknown_events,
            )

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._task = None  # its exception refers to us
        if task.cancelled() or (fault := task.exception()) is None:
            self._end(SessionEnding(AgentError("closed by the gateway"), Retry.NEVER))
            return
        self._break_down(fault)

    def _break_down(self, fault: BaseException) -> None:
        """End it: a fault of the gateway must not leave a caller in silence."""
        _log.error("agent_link_failed", call_id=self._call_id, fault=type(fault).__name__)
        self.break_off(AgentError(f"fault in the gateway: {type(fault).__name__}"))

    def break_off(self, error: AgentError) -> None:
        """End it at once and for good, without a CLOSE: something is wrong on our side, or nothing goes through."""
        self.end(error)
        if self._connection is not None:
            self._connection.transport.abort()

    # Judging

    def _ending_of(self, connection: ClientConnection) -> SessionEnding:
        # websockets has 1000 and 1001 for a normal end and 1006 for none at all: the code alone tells.
        code, reason = connection.close_code, self._connector.redact(connection.close_reason or "")
        error = self.dialect.error_of_close(code, reason)
        return SessionEnding(error, Retry.ONCE if error is None else self._judge.retry(error), code, reason)

    def _ending_of_refusal(self, refusal: InvalidStatus) -> SessionEnding:
        response = refusal.response
        error = self._judge.http_error(response.status_code, bytes(response.body or b""))
        wait_s = retry_after_s(response.headers.get("Retry-After", ""), time.time())
        return SessionEnding(error, self._judge.retry(error), retry_after_s=wait_s)

    # Flow control

    def _flow(self, has_room: bool) -> None:
        self._paused = not has_room
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        if not has_room:
            self._await_room(LOOKS)
            return
        while self._orders and not self._paused and self._connection is not None:
            self._connection.write_text(self._orders.popleft())
        if self.has_room and self.on_room is not None:
            self.on_room()

    def _await_room(self, looks: int) -> None:
        if looks == 0:
            self._stalled(f"the service accepted no data for {STALL_LIMIT_S:g} s")
        else:
            loop = asyncio.get_running_loop()
            self._stall = loop.call_later(STALL_LIMIT_S / LOOKS, self._await_room, looks - 1)

    def _stalled(self, words: str) -> None:
        """Treat the service as lost: the connection is half-open, and nothing moves on it."""
        self.break_off(self._judge.connection_error(ConnectionFault.STALLED, words))

    def _age_ms(self) -> int:
        return round((time.monotonic() - self._began) * 1000)


def retry_after_s(text: str, now_s: float) -> float:
    """
    Return the seconds of a ``Retry-After`` header, given as seconds or as a date (RFC 9110 section 10.2.3).

    Args:
        text: the header; 0 is returned for one that is missing or makes no sense.
        now_s: Unix seconds.
    """
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except ValueError:
        return 0.0
