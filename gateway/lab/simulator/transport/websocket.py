"""The server's side of one TCP connection: a WebSocket that can misbehave, or a plain HTTP request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response

from gateway.lab.simulator.faults.fault import CloseReply, Fault
from gateway.lab.simulator.transport.connection import Connection

HTTP_PATHS = (b"GET /control", b"GET /v1/models")
_HEAD_BYTES = max(map(len, HTTP_PATHS))


class Socket(ServerConnection):
    """
    A server connection that looks at the first bytes before it takes them.

    WebSocket handshakes are GET requests, and all that websockets reads; every other method, and the paths of
    ``HTTP_PATHS``, go to ``http``, on the same port.

    Args:
        http: makes the protocol for plain HTTP requests.
        waiting: holds the TCP connections that have sent nothing yet.

    Attributes:
        close_seen_at: when the client's CLOSE came, monotonic seconds.
        seen: where the end is recorded.
        faults: those of this connection.
        on_given_up: called once when TCP ends before there is a WebSocket; None once there is one.
        close_reply: what a client's CLOSE draws.
        frozen: what comes is thrown away, and nothing goes out.
        lost: TCP has ended.
    """

    close_seen_at: float | None = None
    seen: Connection | None = None
    faults: tuple[Fault, ...] = ()
    on_given_up: Callable[[], None] | None = None
    close_reply: CloseReply = "answer"
    frozen = False
    lost = False

    def __init__(
        self, *args: Any, http: Callable[[], asyncio.Protocol], waiting: set[asyncio.Transport], **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._http = http
        self._waiting = waiting
        self._first: asyncio.Transport | None = None
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first bytes."""
        self._first = cast(asyncio.Transport, transport)
        self._waiting.add(self._first)

    def data_received(self, data: bytes) -> None:
        """Decide on the first bytes; go on as usual with all others."""
        if self._first is None:
            if not self.frozen:
                super().data_received(data)
            return
        self._head += data
        if len(self._head) < _HEAD_BYTES:
            return
        transport, self._first = self._first, None
        self._waiting.discard(transport)
        if self._head.startswith(b"GET ") and not self._head.startswith(HTTP_PATHS):
            super().connection_made(transport)
            super().data_received(self._head)
            return
        other = self._http()
        transport.set_protocol(other)
        other.connection_made(transport)
        other.data_received(self._head)

    def eof_received(self) -> None:
        """Let a connection that never said anything end."""
        if self._first is None:
            super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection that never said anything; tell of one that never became a WebSocket."""
        self.lost = True
        if self._first is not None:
            self._waiting.discard(self._first)
            return
        super().connection_lost(exc)
        if self.on_given_up is not None:
            self.on_given_up()

    def send_data(self) -> None:
        """Send what is due, unless this connection has gone silent."""
        replies = self.close_reply == "answer" or self.protocol.close_rcvd is None
        if replies and not self.frozen:
            super().send_data()
            return
        self.protocol.data_to_send()  # thrown away
        if self.close_reply == "drop":
            self.transport.abort()

    async def close_bare(self) -> None:
        """Send a CLOSE without a status, which the other side reads as 1005, and wait for its own within the limit."""
        with suppress(InvalidState):  # closed already
            self.protocol.send_close()
            self.send_data()
        try:
            async with asyncio.timeout(self.close_timeout):
                await self.wait_closed()
        except TimeoutError:
            self.transport.abort()

    def process_event(self, event: Frame | Request | Response) -> None:
        """Note the time of a CLOSE, and whether it came first, then go on as usual."""
        if isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
            self.close_seen_at = time.monotonic()
            if self.seen is not None and self.seen.closed_by is None:
                self.seen.closed_by = "client"
        super().process_event(event)
