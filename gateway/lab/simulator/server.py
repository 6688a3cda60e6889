"""The simulator itself: a WebSocket server on a TCP port."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from gateway.errors import ConfigError
from gateway.lab.simulator.connection import Connection
from gateway.lab.simulator.faults import Fault, parse_fault
from gateway.lab.simulator.link import Link, Socket
from gateway.lab.simulator.options import SimulatorOptions
from gateway.lab.simulator.refusals import Refusal, judge
from gateway.lab.simulator.session import Session

PATH = "/v1/realtime"
LARGEST_MESSAGE_BYTES = 24 * 1024 * 1024  # 15 MiB of audio are 20 MiB of base64
PING_S = 20.0
CLOSE_TIMEOUT_S = 1.0
BETA_HEADER = "OpenAI-Beta header"

Notice = Callable[[Connection], None]


class Simulator:
    """
    A Realtime API on this machine: ``async with Simulator(options) as simulator: ... simulator.url``.

    Args:
        options: where it listens and how it behaves.
        on_opened: told of each session that begins.
        on_closed: told of each connection that ended, refused ones too.

    Attributes:
        connections: every connection so far, in the order of the handshakes; old ended ones go (``keep_connections``).

    Raises:
        OSError: (when entered) the port cannot be had.

    Thread: loop.
    """

    def __init__(
        self,
        options: SimulatorOptions | None = None,
        *,
        on_opened: Notice | None = None,
        on_closed: Notice | None = None,
    ) -> None:
        self.options = options or SimulatorOptions()
        self.connections: list[Connection] = []
        self._on_opened = on_opened
        self._on_closed = on_closed
        self._count = 0
        self._server: Server | None = None

    async def __aenter__(self) -> Self:
        options = self.options
        self._server = await serve(
            self._serve,
            options.host,
            options.port,
            process_request=self._refuse_upgrade,
            select_subprotocol=_select_subprotocol,
            compression=None,
            max_size=LARGEST_MESSAGE_BYTES,
            ping_interval=PING_S,
            ping_timeout=PING_S,
            close_timeout=CLOSE_TIMEOUT_S,
            create_connection=Socket,
            server_header=None,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is None:
            return
        for connection in self.connections:
            if connection.open and connection.closed_by is None:
                connection.closed_by = "simulator"
        self._server.close()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        """The TCP port in use."""
        if self._server is None:
            raise RuntimeError("the simulator is not running")
        return int(next(iter(self._server.sockets)).getsockname()[1])

    @property
    def url(self) -> str:
        """Where clients connect; they add ``?model=``."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.options.host, self.options.host)
        return f"ws://[{host}]:{self.port}{PATH}" if ":" in host else f"ws://{host}:{self.port}{PATH}"

    async def connection(self, number: int = 1, *, limit_s: float = 5.0) -> Connection:
        """
        Wait for the connection of that number (from 1) and return it.

        Raises:
            TimeoutError: it has not come within ``limit_s``.
        """
        async with asyncio.timeout(limit_s):
            while True:
                for connection in self.connections:
                    if connection.number == number:
                        return connection
                await asyncio.sleep(0.005)

    def _refuse_upgrade(self, socket: ServerConnection, request: Request) -> Response | None:
        """Answer with an HTTP status where no upgrade is to be had."""
        url = urlsplit(request.path)
        query = parse_qs(url.query)
        if url.path != PATH:
            return _http_error(socket, HTTPStatus.NOT_FOUND, "not_found", f"Only {PATH} is served here.")
        if "call_id" in query:
            return _http_error(socket, HTTPStatus.NOT_FOUND, "call_id_not_found", "No such call.")
        try:
            faults = self._faults(request)
        except ConfigError as error:
            return _http_error(socket, HTTPStatus.BAD_REQUEST, "invalid_fault", str(error))
        for fault in faults:
            status = fault.http_status()
            if status is not None:
                connection = self._note(request)
                connection.refused = f"http {status.value}"
                connection.closed_by = "simulator"
                self._end(connection, time.monotonic(), 1006)
                return _http_error(socket, status, status.name.lower(), status.phrase)
        return None

    def _faults(self, request: Request) -> tuple[Fault, ...]:
        wanted = parse_qs(urlsplit(request.path).query).get("fault", [])
        return tuple(parse_fault(each) for each in (*self.options.faults, *wanted))

    def _note(self, request: Request) -> Connection:
        self._count += 1
        connection = Connection(
            self._count,
            model=parse_qs(urlsplit(request.path).query).get("model", [""])[0],
            keep_audio_s=self.options.keep_audio_s,
            safety_identifier=request.headers.get("OpenAI-Safety-Identifier"),
        )
        if "OpenAI-Beta" in request.headers:
            connection.note_violation(BETA_HEADER)
        self.connections.append(connection)
        excess = len(self.connections) - self.options.keep_connections
        if excess > 0:
            for ended in [each for each in self.connections if not each.open][:excess]:
                self.connections.remove(ended)
        return connection

    async def _serve(self, socket: ServerConnection) -> None:
        """Take one upgraded connection to its end."""
        request = socket.request
        if request is None:
            raise RuntimeError("an upgrade without a request")
        connection = self._note(request)
        if isinstance(socket, Socket):
            socket.seen = connection
        faults = self._faults(request)
        link = Link(socket, connection, faults)
        pump = asyncio.create_task(link.pump())
        try:
            refusal = self._verdict(request, faults)
            if refusal is not None:
                connection.refused = refusal.code or "no_authorization"
                link.emit(refusal.event())
                await link.close(refusal.close_code, refusal.reason)
            else:
                await self._converse(socket, connection, link, faults)
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
            at = socket.close_seen_at if isinstance(socket, Socket) else None
            code = 1006 if socket.close_code is None else socket.close_code
            self._end(connection, at or time.monotonic(), code)

    async def _converse(
        self, socket: ServerConnection, connection: Connection, link: Link, faults: tuple[Fault, ...]
    ) -> None:
        session = Session(connection.model, self.options, link)
        connection.session_id = session.id
        if self._on_opened is not None:
            self._on_opened(connection)
        running = [asyncio.create_task(fault.run(link)) for fault in faults]
        try:
            with suppress(ConnectionClosed):
                async for message in socket:
                    session.receive(message)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await session.close()

    def _verdict(self, request: Request, faults: tuple[Fault, ...]) -> Refusal | None:
        for fault in faults:
            refusal = fault.refusal()
            if refusal is not None:
                return refusal
        return judge(request.headers, parse_qs(urlsplit(request.path).query), self.options.key)

    def _end(self, connection: Connection, at: float, code: int) -> None:
        connection.note_closed(at, code)
        if self.options.record_dir is not None and connection.session_id is not None:
            connection.write_wavs(self.options.record_dir)
        if self._on_closed is not None:
            self._on_closed(connection)


def _select_subprotocol(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Take ``realtime`` where it is offered, as browsers do that cannot set headers."""
    return Subprotocol("realtime") if "realtime" in offered else None


def _http_error(socket: ServerConnection, status: HTTPStatus, code: str, message: str) -> Response:
    error = {"type": "invalid_request_error", "code": code, "message": message, "param": None}
    response = socket.respond(status, json.dumps({"error": error}) + "\n")
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = "application/json"
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        response.headers["Retry-After"] = "1"
    return response
