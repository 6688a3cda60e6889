"""
The simulator itself: a WebSocket server, and plain HTTP beside it, on one TCP port.

One client on its way through:

1. ``transport/websocket.py`` looks at the first bytes of a TCP connection. A WebSocket handshake stays; anything else
   goes to ``http_side.py``, which mints client secrets and controls the simulator.
2. ``Simulator._receive_upgrade`` answers the handshake: it makes the connection's faults, begins its record
   (``transport/connection.py``), and refuses with an HTTP status where a fault says so.
3. ``Simulator._serve`` runs the upgraded connection to its end, in a task of websockets' own. ``admission.py`` judges
   key and model; as with the real service, a client that is refused gets an ``error`` event and CLOSE after the
   upgrade.
4. A client that is let in has a ``SimulatedSession`` (``session/session.py``), which takes each message and never
   waits. What it sends goes through its ``Link`` (``transport/link.py``): one queue, past the faults, onto the socket.
5. ``Simulator._end`` closes the record, when the client's CLOSE or the end of TCP was seen.

Folders, each above the next: ``server``, ``session``, ``agent`` (what the model says in a response),
``conversation``, ``transport``, ``options`` and ``script``, ``faults``, ``answer`` (the vocabulary of scripts),
``wire``. A fault is a class with hooks (``faults/fault.py``); the code that may go wrong asks the hook.
``wire`` is the simulator's own reading of the protocol and shares nothing with the client's: a mistake in one is not
hidden by the same in the other.

Everything runs on the loop. Kept between connections: the records, the client secrets, the faults for connections to
come, and the place in a script that goes on over connections.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self, cast
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from gateway.errors import ConfigError
from gateway.lab.simulator.faults.fault import Fault
from gateway.lab.simulator.faults.faults import faults_for
from gateway.lab.simulator.options import SimulatorOptions
from gateway.lab.simulator.script import Script, ScriptCursor, load_script
from gateway.lab.simulator.server.admission import Admitted, judge
from gateway.lab.simulator.server.client_secrets import ClientSecrets, ServedSecret
from gateway.lab.simulator.server.http_side import CONTROL_PATH, SECRETS_PATH, HttpSide
from gateway.lab.simulator.session.session import SimulatedSession
from gateway.lab.simulator.transport.connection import Connection
from gateway.lab.simulator.transport.link import Link
from gateway.lab.simulator.transport.websocket import Socket
from gateway.lab.simulator.wire.errors import SessionRefusal

PATH = "/v1/realtime"
LARGEST_MESSAGE_BYTES = 24 * 1024 * 1024  # 15 MiB of audio are 20 MiB of base64
PING_S = 20.0
CLOSE_TIMEOUT_S = 1.0
BETA_HEADER = "OpenAI-Beta header"
NO_SAFETY_IDENTIFIER = "no OpenAI-Safety-Identifier"

Notice = Callable[[Connection], None]


class Simulator:
    """
    A Realtime API on this machine: ``async with Simulator(options) as simulator: ... simulator.url``.

    Args:
        options: where it listens and how it behaves.
        on_opened: called with each session that begins.
        on_closed: called with each connection that ended, refused ones too.

    Attributes:
        connections: every connection so far, in the order of the handshakes; old ended ones go (``keep_connections``).
        secrets: the client secrets given out.
        faults: for the connections to come, as in the options; may be changed while it runs.

    Raises:
        ConfigError: the script, or the certificate (when entered), cannot be used.
        OSError: (when entered) the port is not available.

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
        self.secrets = ClientSecrets()
        self._on_opened = on_opened
        self._on_closed = on_closed
        self._count = 0
        self._models = Counter[str]()
        self._server: Server | None = None
        self._links: dict[int, Link] = {}
        self._waiting: set[asyncio.Transport] = set()
        script = self.options.script
        self._script: Script | None = load_script(script) if isinstance(script, Path) else script
        self._cursor = ScriptCursor(self._script) if self._script is not None else None
        self.faults = [*self.options.faults, *(self._script.faults if self._script is not None else ())]
        self._http = HttpSide(
            key=self.options.key,
            secrets=self.secrets,
            faults=self.faults,
            connections=self.connections,
            shutdown=self.options.shutdown,
            add_fault=self.add_fault,
        )

    async def __aenter__(self) -> Self:
        options = self.options
        tls = _tls(options.tls_cert, options.tls_key)
        await self._http.start()
        try:
            self._server = await serve(
                self._serve,
                options.host,
                options.port,
                process_request=self._receive_upgrade,
                select_subprotocol=_select_subprotocol,
                compression=None,
                max_size=LARGEST_MESSAGE_BYTES,
                ping_interval=PING_S,
                ping_timeout=PING_S,
                close_timeout=CLOSE_TIMEOUT_S,
                create_connection=cast(
                    type[ServerConnection], partial(Socket, http=self._http.protocol, waiting=self._waiting)
                ),
                server_header=None,
                ssl=tls,
            )
        except OSError:
            await self._http.stop()
            raise
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
        for transport in tuple(self._waiting):
            transport.abort()
        for link in self._links.values():
            link.abort_if_silent()
        await self._http.stop()
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
        return self._url("ws", PATH)

    @property
    def secrets_url(self) -> str:
        """Where client secrets are minted (POST)."""
        return self._url("http", SECRETS_PATH)

    @property
    def control_url(self) -> str:
        """Where the simulator is controlled: ``/connections`` and ``/faults`` under it."""
        return self._url("http", CONTROL_PATH)

    def _url(self, scheme: str, path: str) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.options.host, self.options.host)
        scheme = scheme if self.options.tls_cert is None else f"{scheme}s"
        return f"{scheme}://[{host}]:{self.port}{path}" if ":" in host else f"{scheme}://{host}:{self.port}{path}"

    async def connection(self, number: int = 1, *, limit_s: float = 40.0) -> Connection:
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

    def add_fault(self, number: int, fault: Fault) -> bool:
        """Let a fault begin on the connection of that number; return False where it has no session (any more)."""
        link = self._links.get(number)
        if link is not None:
            link.add_fault(fault)
        return link is not None

    async def _receive_upgrade(self, socket: ServerConnection, request: Request) -> Response | None:
        """Let the upgrade pass, or answer with an HTTP status instead."""
        if not isinstance(socket, Socket):
            raise TypeError("not a connection of the simulator's")
        url = urlsplit(request.path)
        query = parse_qs(url.query)
        if url.path != PATH:
            return _http_error(socket, HTTPStatus.NOT_FOUND, "not_found", f"Only {PATH} is served here.")
        if "call_id" in query:
            return _http_error(socket, HTTPStatus.NOT_FOUND, "call_id_not_found", "No such call.")
        number = self._count + 1
        try:
            told = (*self.faults, *query.get("fault", ()))
            model = query.get("model", [""])[0]
            faults = faults_for(told, number, model, self._models[model] + 1)
        except ConfigError as error:
            return _http_error(socket, HTTPStatus.BAD_REQUEST, "invalid_fault", str(error))
        connection = self._note(request, query)
        socket.seen, socket.faults = connection, faults
        if socket.lost:  # the client hung up before its request was read
            self._give_up(connection)
        else:
            socket.on_given_up = partial(self._give_up, connection)
        delay_s = sum(fault.handshake_delay_s() for fault in faults)
        if delay_s:
            await asyncio.sleep(delay_s)
        if self._is_full(connection.model):
            connection.refused = "too many sessions"
            many = f"No more than {self.options.sessions} sessions of {model} at once."
            return _http_error(socket, HTTPStatus.TOO_MANY_REQUESTS, "session_limit_exceeded", many)
        for fault in faults:
            status = fault.http_status()
            if status is not None:
                connection.refused = f"http {status.value}"
                return _http_error(
                    socket, status, status.name.lower(), status.phrase, retry_after_s=fault.retry_after_s()
                )
        return None

    def _is_full(self, model: str) -> bool:
        """Return whether a connection that is noted already is one too many of its model's."""
        going = sum(each.open and each.refused is None and each.model == model for each in self.connections)
        return self.options.sessions is not None and going > self.options.sessions

    def _give_up(self, connection: Connection) -> None:
        """End a connection that never became a WebSocket."""
        connection.closed_by = "client" if connection.refused is None else "simulator"
        connection.refused = connection.refused or "no upgrade"
        self._end(connection, time.monotonic(), 1006)

    def _note(self, request: Request, query: dict[str, list[str]]) -> Connection:
        self._count += 1
        model = query.get("model", [""])[0]
        self._models[model] += 1
        connection = Connection(
            number=self._count,
            model=model,
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
        if request is None or not isinstance(socket, Socket) or socket.seen is None:
            raise RuntimeError("an upgrade without a request")
        connection, socket.on_given_up = socket.seen, None
        link = Link(socket, connection, socket.faults)
        pump = asyncio.create_task(link.pump())
        try:
            verdict = self._verdict(request, socket.faults)
            if isinstance(verdict, SessionRefusal):
                connection.refused = verdict.code or "no_authorization"
                link.emit(verdict.event())
                await link.close(verdict.close_code, verdict.reason)
            else:
                await self._converse(socket, link, verdict)
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
            code = 1006 if socket.close_code is None else socket.close_code
            self._end(connection, socket.close_seen_at or time.monotonic(), code)

    async def _converse(self, socket: Socket, link: Link, admission: Admitted) -> None:
        connection = link.connection
        connection.model = admission.model
        if admission.secret is not None:
            connection.with_secret = True
            connection.safety_identifier = connection.safety_identifier or admission.secret.safety_identifier
        if self.options.require_safety_identifier and connection.safety_identifier is None:
            connection.note_violation(NO_SAFETY_IDENTIFIER)
        cursor = self._cursor
        if self._script is not None and self._script.over == "connection":
            cursor = ScriptCursor(self._script)
        link.start()
        start = None if admission.secret is None else admission.secret.session
        session = SimulatedSession(admission.model, self.options, link, start=start, cursor=cursor)
        connection.session_id = session.id
        self._links[connection.number] = link
        if self._on_opened is not None:
            self._on_opened(connection)
        try:
            with suppress(ConnectionClosed):
                async for message in socket:
                    session.receive(message)
        finally:
            del self._links[connection.number]
            await link.stop()
            await session.close()

    def _verdict(self, request: Request, faults: tuple[Fault, ...]) -> SessionRefusal | Admitted:
        for fault in faults:
            refusal = fault.refusal()
            if refusal is not None:
                return refusal
        query = parse_qs(urlsplit(request.path).query)
        return judge(request.headers, query, self.options.key, self._find_secret)

    def _find_secret(self, value: str) -> ServedSecret | None:
        return self.secrets.find(value, time.time())

    def _end(self, connection: Connection, at: float, code: int) -> None:
        connection.note_closed(at, code)
        if self.options.record_dir is not None and connection.session_id is not None:
            connection.write_wavs(self.options.record_dir)
        if self._on_closed is not None:
            self._on_closed(connection)


def _tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if cert is None or key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"tls_cert {cert}, tls_key {key}: cannot be used: {error}") from None
    return context


def _select_subprotocol(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Take ``realtime`` where it is offered, as browsers do that cannot set headers."""
    return Subprotocol("realtime") if "realtime" in offered else None


def _http_error(
    socket: ServerConnection, status: HTTPStatus, code: str, message: str, *, retry_after_s: int | None = None
) -> Response:
    error = {"type": "invalid_request_error", "code": code, "message": message, "param": None}
    response = socket.respond(status, json.dumps({"error": error}) + "\n")
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = "application/json"
    if retry_after_s is None and status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        retry_after_s = 1
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    return response
