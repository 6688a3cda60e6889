"""A registrar with digest, on UDP, that remembers every REGISTER; it is the edge that leads to it, too."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from gateway.sip.core.message import Message, parse_message


@dataclass(frozen=True, slots=True)
class Register:
    """A REGISTER that had its digest: ``at`` in monotonic seconds, and the port that it came from."""

    at: float
    port: int
    message: Message

    @property
    def expires(self) -> int:
        return int(self.message.first("expires"))

    @property
    def contact(self) -> str:
        return self.message.first("contact")


@dataclass
class Registrar(asyncio.DatagramProtocol):
    """
    Grants every REGISTER that brings credentials, whatever they are.

    Attributes:
        granted_s: for how long.
        seen: those that were granted.
    """

    granted_s: int = 60
    port: int = 0
    seen: list[Register] = field(default_factory=list)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        text = data.decode("utf-8", "replace")
        if not text.startswith("REGISTER "):
            return
        message = parse_message(text)
        if not message.first("authorization"):
            self._answer(message, addr, "401 Unauthorized", 'WWW-Authenticate: Digest realm="r", nonce="n"')
            return
        self.seen.append(Register(time.monotonic(), addr[1], message))
        asked = self.seen[-1].expires
        contact = re.sub(r";expires=\d+", "", self.seen[-1].contact)
        more = (f"Contact: {contact};expires={min(asked, self.granted_s)}",) if asked else ()
        self._answer(message, addr, "200 OK", *more)

    def _answer(self, message: Message, to: tuple[str, int], status: str, *more: str) -> None:
        lines = [f"SIP/2.0 {status}", *(f"Via: {via}" for via in message.values("via"))]
        lines += [f"From: {message.first('from')}", f"To: {message.first('to')};tag=registrar"]
        lines += [f"Call-ID: {message.call_id}", f"CSeq: {message.first('cseq')}", *more, "Content-Length: 0", "", ""]
        self._transport.sendto("\r\n".join(lines).encode(), to)


@asynccontextmanager
async def registrar(granted_s: int = 60) -> AsyncIterator[Registrar]:
    """Run one on a free port of 127.0.0.1."""
    loop = asyncio.get_running_loop()
    transport, here = await loop.create_datagram_endpoint(lambda: Registrar(granted_s), local_addr=("127.0.0.1", 0))
    try:
        yield here
    finally:
        transport.close()
