"""
The voice model's side of a call: the socket to the Realtime API, its reader and its writer.

``protocol.py`` knows what messages mean; here they are carried, and audio goes its short way past the call's control::

    UplinkTap -> Upsampler -> input_audio_buffer.append           writer
    response.output_audio.delta -> Downsampler -> PlayoutBuffer   reader
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Coroutine
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from gateway.audio.pcm import PHONE
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.resample import Downsampler, Upsampler
from gateway.audio.uplink import UplinkTap
from gateway.call.events import AgentClosed, AgentFailed, AgentReady, CallEvent
from gateway.call.ports import EmitEvent
from gateway.dialplan.model import AgentProfile
from gateway.errors import AgentError, AgentLost, AgentRefused, WireError
from gateway.ids import CallId
from gateway.realtime.protocol import AgentAudio, AgentAudioDone, Fact, RealtimeProtocol, Send
from gateway.realtime.session_config import greeting_instructions, session_config
from gateway.realtime.wire import parse_http_refusal
from gateway.realtime.wire_objects import ErrorDetails
from gateway.settings import RealtimeSettings

_log = structlog.get_logger(__name__)

_socket_log = logging.getLogger("gateway.realtime.socket")
_socket_log.setLevel(logging.INFO)  # below that websockets writes every header, the key among them

REFUSING_STATUSES = frozenset({400, 401, 403, 404})

MAX_ORDERS = 64
"""Control messages that may wait to be sent; a call has a few per turn."""

STALL_LIMIT_S = 5.0
"""An upstream that takes no data for this long is lost. TCP alone would wait for ever."""


class _Socket(ClientConnection):
    """A connection that is over as soon as the server's CLOSE was answered."""

    def process_event(self, event: Any) -> None:
        """
        Take one frame.

        Waiting for the server to end TCP first, as RFC 6455 section 7.1.1 advises, would cost a round trip before the
        caller's BYE, and never end if the server does not. What came before the CLOSE is still read.
        """
        super().process_event(event)
        if isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
            self.transport.close()  # once our own CLOSE is written
            self.loop.call_later(self.close_timeout or 0, self.transport.abort)

    def start_keepalive(self) -> None:
        """Start the PINGs; not if the CLOSE came along with the 101, for then nothing would ever end their task."""
        if self.state is State.OPEN:
            super().start_keepalive()


class _Connect(connect):
    """A connection attempt that follows no redirect: the key goes to the configured service and nowhere else."""

    def process_redirect(self, exc: Exception) -> Exception:
        """Take a redirect for the refusal it is."""
        return exc


@cache
def _tls_context() -> ssl.SSLContext:
    # Loading the certificates of all authorities takes tens of milliseconds: once, not per call.
    return ssl.create_default_context()


class RealtimeAgent:
    """
    One session with the Realtime API for one call: the ``Agent`` of ``call/ports.py``. Thread: loop.

    Args:
        call_id: our id of the call.
        settings: where the service is and how long to wait for it.
        profile: how the agent behaves.
        uplink: the caller's voice, 8 kHz.
        playout: the agent's voice on its way to the caller, 8 kHz.
    """

    def __init__(
        self,
        *,
        call_id: CallId,
        settings: RealtimeSettings,
        profile: AgentProfile,
        uplink: UplinkTap,
        playout: PlayoutBuffer,
    ) -> None:
        self._call_id = call_id
        self._settings = settings
        self._profile = profile
        self._uplink = uplink
        self._playout = playout
        self._protocol = RealtimeProtocol(call_id, session_config(profile), redact=self._redact)
        self._upsampler = Upsampler()
        self._downsampler = Downsampler()
        self._speaking: str | None = None  # item whose audio is in the downsampler
        self._emit: EmitEvent | None = None
        self._over = False  # the last event is out, or close was called
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: asyncio.Task[None] | None = None
        self._socket: ClientConnection | None = None
        self._orders: deque[str] = deque()
        self._wake = asyncio.Event()

    # Orders

    def open(self, emit: EmitEvent) -> None:
        """Connect and configure in the background; ``AgentReady`` or ``AgentFailed`` follows through ``emit``."""
        if self._emit is not None or self._over:
            return
        self._emit = emit
        self._start(self._run(), "read")

    def greet(self) -> None:
        """Let the agent speak first, if its profile has a greeting."""
        if (instructions := greeting_instructions(self._profile)) is not None:
            self._send(self._protocol.greet(instructions))

    def truncate(self, item_id: str, played_ms: int) -> None:
        """Tell the upstream how much of an item was heard."""
        self._send(self._protocol.truncate(item_id, played_ms))

    async def close(self) -> None:
        """
        Close the socket with a CLOSE frame; safe in any state and more than once.

        Waits for the other side ``close_timeout_s`` at the longest, then cuts the connection. Nothing is emitted once
        this was called; on return no task or socket is left.
        """
        self._over = True
        if self._closing is None:
            self._closing = asyncio.create_task(self._shut_down(), name=f"agent close {self._call_id}")
        await asyncio.shield(self._closing)

    async def _shut_down(self) -> None:
        self._uplink.listen(None)
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._socket is not None:
            await self._disconnect(self._socket)

    async def _disconnect(self, socket: ClientConnection) -> None:
        try:
            async with asyncio.timeout(self._settings.close_timeout_s):
                await socket.close()
        except TimeoutError:
            _log.info("upstream did not answer CLOSE", call_id=self._call_id)
        finally:
            socket.transport.abort()
        await socket.wait_closed()

    # Reader

    async def _run(self) -> None:
        try:
            socket = self._socket = await self._connect()
        except AgentError as error:
            self._fail(error)
            return
        writer = self._start(self._write(socket), "write")
        self._send(self._protocol.configure())
        try:
            while not self._over:
                self._take(self._protocol.receive(await socket.recv(decode=False)))
        except ConnectionClosed:
            self._upstream_closed(socket)
        except WireError as error:
            self._fail(error)
        finally:
            writer.cancel()
        await self._disconnect(socket)

    async def _connect(self) -> ClientConnection:
        settings = self._settings
        try:
            return await _Connect(
                session_url(str(settings.url), self._profile.model),
                additional_headers=self._headers(),
                compression=None,
                proxy=None,
                open_timeout=settings.connect_timeout_s,
                close_timeout=settings.close_timeout_s,
                max_size=None,  # an item that is retrieved carries its whole recording
                logger=_socket_log,
                create_connection=_Socket,
                **self._tls(),
            )
        except InvalidStatus as refusal:
            raise self._judge_refusal(refusal) from None
        except (OSError, WebSocketException) as error:  # TimeoutError is an OSError
            raise AgentLost(self._redact(f"cannot reach the service: {error}")) from None

    def _tls(self) -> dict[str, Any]:
        if self._settings.url.scheme != "wss":
            return {}
        return {"ssl": _tls_context(), "ssl_shutdown_timeout": self._settings.close_timeout_s}

    def _headers(self) -> dict[str, str]:
        key = self._key()
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _judge_refusal(self, refusal: InvalidStatus) -> AgentError:
        """Turn an HTTP status that is not 101 into an error; the service itself refuses after the 101 instead."""
        status = refusal.response.status_code
        said = parse_http_refusal(refusal.response.body or b"") or ErrorDetails()
        words, code = self._redact(said.message or ""), self._redact(said.code or "")
        detail = f"the service answered HTTP {status}" + (f": {words or code}" if words or code else "")
        kind = AgentRefused if status in REFUSING_STATUSES else AgentLost
        return kind(detail, code=code or None, http_status=status)

    def _upstream_closed(self, socket: ClientConnection) -> None:
        # websockets has 1000 and 1001 for a normal end and 1006 for none at all: the code alone tells.
        code, reason = socket.close_code, socket.close_reason
        error = self._protocol.refused_or_lost(code, reason)
        if error is not None:
            self._fail(error)
        else:
            self._finish(AgentClosed(self._call_id, code or 1000, self._redact(reason or "")))

    def _take(self, facts: list[Fact]) -> None:
        for fact in facts:
            match fact:
                case AgentAudio(item_id, pcm):
                    self._play(item_id, pcm)
                case AgentAudioDone(item_id):
                    self._end_speech(item_id)
                case Send(text):
                    self._send((text,))
                case AgentFailed():
                    self._finish(fact)
                case AgentReady():
                    self._hear()
                    self._report(fact)
                case _:
                    self._report(fact)

    def _hear(self) -> None:
        """From now on the caller's voice goes to the model; what came before is too old to be answered."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(self._wake.set)

        self._uplink.read()
        self._uplink.listen(wake)

    def _play(self, item_id: str, pcm: bytes) -> None:
        if item_id != self._speaking:
            if self._speaking is not None:
                self._end_speech(self._speaking)
            self._speaking = item_id
        self._playout.write(item_id, self._downsampler.process(pcm))

    def _end_speech(self, item_id: str) -> None:
        if item_id == self._speaking:
            self._speaking = None
            self._playout.write(item_id, self._downsampler.tail())
        self._playout.complete(item_id)

    # Writer

    def _send(self, texts: tuple[str, ...]) -> None:
        if self._over:
            return
        for text in texts:
            if len(self._orders) >= MAX_ORDERS:
                _log.warning("upstream takes no orders", call_id=self._call_id, waiting=MAX_ORDERS)
                return
            self._orders.append(text)
        self._wake.set()

    async def _write(self, socket: ClientConnection) -> None:
        """Send what waits, orders before audio; the only place that writes to the socket, so order holds."""
        batch_bytes = PHONE.bytes_of(self._settings.uplink_ms)
        heard = b""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._orders:
                    await self._put(socket, self._orders.popleft())
                if not self._protocol.ready:
                    continue
                heard += self._uplink.read()
                if len(heard) >= batch_bytes:
                    for text in self._protocol.append(self._upsampler.process(heard)):
                        await self._put(socket, text)
                    heard = b""
        except ConnectionClosed:
            return  # the reader tells why
        except TimeoutError:
            self._fail(AgentLost(f"the service took no data for {STALL_LIMIT_S:g} s"))
            socket.transport.abort()

    async def _put(self, socket: ClientConnection, text: str) -> None:
        async with asyncio.timeout(STALL_LIMIT_S):
            await socket.send(text)

    # Endings

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=f"agent {name} {self._call_id}")
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (fault := task.exception()) is None:
            return
        # A fault of the gateway must not leave a caller in silence.
        _log.error("agent task failed", call_id=self._call_id, task=task.get_name(), fault=type(fault).__name__)
        self._fail(AgentError(f"fault in the gateway: {type(fault).__name__}"))
        if self._socket is not None:
            self._socket.transport.abort()

    def _report(self, event: CallEvent) -> None:
        if self._emit is not None and not self._over:
            self._emit(event)

    def _fail(self, error: AgentError) -> None:
        self._finish(AgentFailed(self._call_id, error))

    def _finish(self, event: CallEvent) -> None:
        """Report the last event, once."""
        self._report(event)
        self._over = True
        self._uplink.listen(None)

    def _key(self) -> str:
        key = self._settings.api_key
        return key.get_secret_value().strip() if key is not None else ""

    def _redact(self, text: str) -> str:
        key = self._key()
        return text.replace(key, "***") if key else text


def session_url(url: str, model: str) -> str:
    """Return the service's URL with ``model`` in its query; other parameters stay as they are."""
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "model"]
    return urlunsplit(parts._replace(query=urlencode([*query, ("model", model)])))
