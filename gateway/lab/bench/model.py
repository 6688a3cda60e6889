"""
``python -m gateway.lab.bench.model``: the simulator's sessions behind a server that costs little.

How it works. Sessions, turns, answers and their pace are the simulator's own (``simulator/session``), so the gateway
gets real frames at real times. The server around them is cheap instead of complete: no TLS, no HTTP, no keys, no
faults, no record of audio. A session is served at once until it is configured. From then on what its client sends is
read every 20 ms, that of all sessions together: reading each message when it comes costs ten times as much, most of it
for waking up. So the model hears a caller up to 20 ms later, as over a network; what it says leaves at once.

A session of the model ``echo`` sends back what it hears, and is always read at once.

Printed, a line each: ``ready: URL``; ``spoke CALLER NANOSECONDS``, when the first audio of a session goes out (the
caller as the instructions name it); ``ended CALLER VIOLATIONS`` with what a client did against the protocol.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import re
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import numpy as np
import uvloop

from gateway.lab.simulator.options import SimulatorOptions
from gateway.lab.simulator.session.session import SimulatedSession
from gateway.lab.simulator.transport.connection import Connection
from gateway.lab.simulator.transport.link import Link

ECHO = "echo"
_EVERY_S = 0.02
_READ_BYTES = 2**18
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_LARGEST_HEAD = 16_384
_CALLER = re.compile(r"caller\d+")


class ModelServer:
    """
    Sessions on a TCP port of 127.0.0.1, inside the ``async with`` block. Thread: loop.

    Args:
        options: how the agent speaks: think time, length of a delta, speed.

    Attributes:
        url: where clients connect.
    """

    def __init__(self, options: SimulatorOptions) -> None:
        self.options = options
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._listener.setblocking(False)
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/v1/realtime"
        self.together: set[_Client] = set()
        self._clients: set[_Client] = set()
        self._count = 0

    async def __aenter__(self) -> ModelServer:
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._listener, self._accept)
        self._due = self._loop.time()
        self._timer = self._loop.call_later(_EVERY_S, self._read_all)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for client in tuple(self._clients):
            client.end()
        await asyncio.sleep(0)

    def forget(self, client: _Client) -> None:
        """Let go of a client that has ended."""
        self._clients.discard(client)
        self.together.discard(client)

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            while True:
                stream, _ = self._listener.accept()
                stream.setblocking(False)
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._count += 1
                self._clients.add(_Client(self, stream, self._count))

    def _read_all(self) -> None:
        for client in tuple(self.together):
            client.read()
        self._due = max(self._due + _EVERY_S, self._loop.time())
        self._timer = self._loop.call_at(self._due, self._read_all)


class _Client:
    """One TCP connection: the handshake, then frames (RFC 6455)."""

    def __init__(self, server: ModelServer, stream: socket.socket, number: int) -> None:
        self._server = server
        self._stream = stream
        self._number = number
        self._loop = asyncio.get_running_loop()
        self._came = bytearray()
        self._waiting = bytearray()
        self._link: _DirectLink | None = None
        self._session: SimulatedSession | None = None
        self._is_echo = self._has_ended = False
        self._ending: asyncio.Task[None] | None = None
        self._loop.add_reader(stream, self.read)

    def read(self) -> None:
        """Take what came."""
        try:
            data = self._stream.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self.end()
            return
        self._came += data
        if self._session is None:
            self._shake_hands()
        if self._session is not None:
            self._take_frames(self._session)

    def send(self, kind: int, payload: bytes) -> None:
        """Send a frame."""
        length = len(payload)
        if length < 126:
            head = bytes((0x80 | kind, length))
        elif length < 65536:
            head = struct.pack(">BBH", 0x80 | kind, 126, length)
        else:
            head = struct.pack(">BBQ", 0x80 | kind, 127, length)
        self._write(head + payload)

    def end(self) -> None:
        """Close, and end the session."""
        if self._has_ended:
            return
        self._has_ended = True
        self._loop.remove_reader(self._stream)
        self._loop.remove_writer(self._stream)
        self._stream.close()
        self._server.forget(self)
        if self._session is not None and self._link is not None:
            self._ending = asyncio.create_task(self._session.close())
            seen = self._link.connection
            _tell(f"ended {self._link.caller} {'; '.join(dict.fromkeys(seen.violations))}".rstrip())

    def configured(self) -> None:
        """Read with all others from now on."""
        if not self._is_echo and not self._has_ended:
            self._loop.remove_reader(self._stream)
            self._server.together.add(self)

    def _shake_hands(self) -> None:
        head, end, rest = bytes(self._came).partition(b"\r\n\r\n")
        if not end:
            if len(head) > _LARGEST_HEAD:
                self.end()
            return
        text = head.decode("latin-1")
        key = re.search(r"(?im)^sec-websocket-key:[ \t]*(\S+)", text)
        path = re.match(r"GET (\S+) HTTP/1\.1", text)
        if key is None or path is None:
            self._write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            self.end()
            return
        accepted = base64.b64encode(hashlib.sha1((key[1] + _GUID).encode()).digest()).decode()
        self._write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accepted}\r\n\r\n".encode()
        )
        self._came = bytearray(rest)
        model = parse_qs(urlsplit(path[1]).query).get("model", [""])[0]
        self._is_echo = model == ECHO
        options = self._server.options
        if self._is_echo:
            options = SimulatorOptions(echo=True, keep_audio_s=0)
        self._link = _DirectLink(self, Connection(self._number, model, keep_audio_s=0))
        self._session = SimulatedSession(model, options, self._link)

    def _take_frames(self, session: SimulatedSession) -> None:
        start, came = 0, self._came
        while (frame := _frame(came, start)) is not None and not self._has_ended:
            kind, payload, start = frame
            if kind == _TEXT:
                session.receive(payload.decode())
            elif kind == _PING:
                self.send(_PONG, payload)
            elif kind == _CLOSE:
                self.send(_CLOSE, payload[:2])
                self.end()
        del came[:start]

    def _write(self, data: bytes) -> None:
        if self._has_ended:
            return
        if self._waiting:
            self._waiting += data
            return
        try:
            sent = self._stream.send(data)
        except BlockingIOError:
            sent = 0
        except ConnectionError:
            self._loop.call_soon(self.end)
            return
        if sent < len(data):
            self._waiting += data[sent:]
            self._loop.add_writer(self._stream, self._write_rest)

    def _write_rest(self) -> None:
        self._loop.remove_writer(self._stream)
        rest, self._waiting = bytes(self._waiting), bytearray()
        self._write(rest)


class _DirectLink(Link):
    """Sends each event as it is emitted, and notes what the bench asks for."""

    def __init__(self, client: _Client, connection: Connection) -> None:
        super().__init__(cast(Any, None), connection)  # no socket of the simulator's: what uses it is replaced below
        self._client = client
        self._has_spoken = False

    @property
    def caller(self) -> str:
        """The caller that the instructions name, or -."""
        session = self.connection.session
        found = _CALLER.search(session["instructions"]) if session is not None else None
        return found[0] if found else "-"

    def emit_text(self, event_type: str, fields: str) -> None:
        if not self._has_spoken:
            self._has_spoken = True
            _tell(f"spoke {self.caller} {time.time_ns()}")
        self._count += 1
        head = f'"type":"{event_type}","event_id":"event_{self._token}{self._count:06d}"'
        self._client.send(_TEXT, f"{{{head},{fields}}}".encode())

    def _put(self, event: dict[str, Any]) -> None:
        name = event["type"]
        self._client.send(_TEXT, json.dumps(event, separators=(",", ":")).encode())
        if name == "session.updated" and not self.connection.is_configured:
            self._client.configured()
        self.connection.note_sent(name)


def _frame(data: bytearray, start: int) -> tuple[int, bytes, int] | None:
    """Return the frame of a client that begins at ``start``: opcode, payload, where the next begins; None if cut."""
    if len(data) < start + 6:
        return None
    length, place = data[start + 1] & 0x7F, start + 2
    if length == 126:
        length, place = int.from_bytes(data[place : place + 2], "big"), place + 2
    elif length == 127:
        length, place = int.from_bytes(data[place : place + 8], "big"), place + 8
    end = place + 4 + length
    if len(data) < end:
        return None
    mask = np.frombuffer(bytes(data[place : place + 4]), np.uint8)
    masked = np.frombuffer(bytes(data[place + 4 : end]), np.uint8)
    return data[start] & 0x0F, (masked ^ np.tile(mask, length // 4 + 1)[:length]).tobytes(), end


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def _run(options: SimulatorOptions) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with ModelServer(options) as server:
        _tell(f"ready: {server.url}")
        await stop.wait()


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(prog="python -m gateway.lab.bench.model", description="A model for the bench.")
    parser.add_argument("--think-ms", type=int, default=150, help="from the start of a response to its first audio")
    options = parser.parse_args()
    uvloop.run(_run(SimulatorOptions(think_ms=options.think_ms, keep_audio_s=0)))


if __name__ == "__main__":
    main()
