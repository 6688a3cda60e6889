"""A peer on the level of WebSocket frames, and what may stand between it and the gateway."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from gateway.upstream.link import UpstreamLink
from tests.fakes.realtime_service import LIMIT_S, Call


class RawPeer:
    """
    One TCP connection that does the WebSocket handshake and then only what a test wants.

    Args:
        answers_http: whether the handshake is answered at all.
    """

    def __init__(self, *, answers_http: bool = True) -> None:
        self.answers_http = answers_http
        self.frames: list[Frame] = []
        self.changed = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()
        self.writer: asyncio.StreamWriter | None = None
        self.task: asyncio.Task[Any] | None = None
        self.protocol = ServerProtocol()

    @asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=4096, ssl=tls)
        try:
            yield f"{'ws' if tls is None else 'wss'}://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        finally:
            server.close()
            self.reading.set()
            if self.writer is not None and self.task is not None:
                self.writer.transport.abort()
                await asyncio.wait([self.task])
            await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer, self.task = writer, asyncio.current_task()
        try:
            while data := await reader.read(1024):
                await self.reading.wait()
                self.protocol.receive_data(data)
                for event in self.protocol.events_received():
                    if isinstance(event, Frame):
                        self.frames.append(event)
                    elif isinstance(event, Request) and self.answers_http:
                        self.protocol.send_response(self.protocol.accept(event))
                        writer.write(b"".join(self.protocol.data_to_send()))
                self.changed.set()
        except ConnectionResetError:
            pass
        finally:
            writer.close()
            self.changed.set()

    def write(self, opcode: Opcode, data: bytes) -> None:
        assert self.writer is not None
        self.writer.write(Frame(opcode, data).serialize(mask=False))

    async def frame(self, opcode: Opcode) -> Frame:
        """Wait for the first frame of this kind."""
        async with asyncio.timeout(LIMIT_S):
            while not (found := [frame for frame in self.frames if frame.opcode is opcode]):
                self.changed.clear()
                await self.changed.wait()
        return found[0]

    async def make_ready(self) -> None:
        update = json.loads(bytes((await self.frame(Opcode.TEXT)).data))
        echo = {"type": "session.updated", "session": update["session"] | {"id": "sess_1"}}
        self.write(Opcode.TEXT, json.dumps(echo).encode())


async def clogged(peer: RawPeer, call: Call) -> UpstreamLink:
    """Let a peer read no more and fill the kernel's buffers, then ours; return the session that takes no data now."""
    socket = call.agent._sessions.current
    assert socket is not None
    peer.reading.clear()
    async with asyncio.timeout(40):
        while socket.has_room:
            await call.speak(50)
            await asyncio.sleep(0)
    return socket


@asynccontextmanager
async def tunnelling(asked: list[bytes]) -> AsyncIterator[str]:
    """Run an HTTP proxy that notes the first line of every request; gives its URL."""

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.splitlines()[0])
        host, _, port = head.split()[1].decode().partition(":")
        there_reader, there = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(pipe(reader, there), pipe(there_reader, writer))

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(4096):
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await asyncio.sleep(0.05)
