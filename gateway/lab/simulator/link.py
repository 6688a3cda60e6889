"""The way out of a connection: events in one order, past the faults, onto the socket."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response

from gateway.lab.simulator.connection import Connection
from gateway.lab.simulator.faults import Fault


class Socket(ServerConnection):
    """A server's side of a WebSocket that knows when the other side's CLOSE came."""

    close_seen_at: float | None = None
    seen: Connection | None = None

    def process_event(self, event: Frame | Request | Response) -> None:
        """Note the time of a CLOSE, and whether it came first, then go on as usual."""
        if isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
            self.close_seen_at = time.monotonic()
            if self.seen is not None and self.seen.closed_by is None:
                self.seen.closed_by = "client"
        super().process_event(event)


class Link:
    """
    Sends events, each with an id of its own.

    ``emit`` may be called from anywhere on the loop and never waits; ``pump`` does the sending.

    Args:
        socket: an open WebSocket.
        connection: where the events sent are recorded.
        faults: asked about every event.
    """

    def __init__(self, socket: ServerConnection, connection: Connection, faults: tuple[Fault, ...] = ()) -> None:
        self.connection = connection
        self._socket = socket
        self._faults = faults
        self._waiting: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._token = secrets.token_hex(6)
        self._count = 0

    def emit(self, event: dict[str, Any]) -> None:
        """Send an event; it is put into text now, so what it shows may change afterwards."""
        self._count += 1
        text = json.dumps({"event_id": f"event_{self._token}{self._count:06d}", **event}, separators=(",", ":"))
        self._waiting.put_nowait((event["type"], text))

    def emit_text(self, event_type: str, fields: str) -> None:
        """Send an event whose fields are JSON text already, without the braces."""
        self._count += 1
        head = f'"type":"{event_type}","event_id":"event_{self._token}{self._count:06d}"'
        self._waiting.put_nowait((event_type, f"{{{head},{fields}}}"))

    async def pump(self) -> None:
        """Send what waits and what comes, until the socket closes."""
        while True:
            event_type, text = await self._waiting.get()
            try:
                if await self._passes(event_type):
                    self.connection.note_sent(event_type)
                    await self._socket.send(text)
            except ConnectionClosed:
                return
            finally:
                self._waiting.task_done()

    async def close(self, code: int, reason: str) -> None:
        """Send what waits, then CLOSE, and wait for the other side's within the socket's limit."""
        await self._waiting.join()
        self._mark()
        await self._socket.close(code, reason)

    def abort(self) -> None:
        """Drop the TCP connection without a word."""
        self._mark()
        self._socket.transport.abort()

    def _mark(self) -> None:
        if self.connection.closed_by is None:
            self.connection.closed_by = "simulator"

    async def _passes(self, event_type: str) -> bool:
        for fault in self._faults:
            delay_s = fault.delay_s(event_type)
            if delay_s is None:
                return False
            if delay_s:
                await asyncio.sleep(delay_s)
        return True
