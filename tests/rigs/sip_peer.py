"""A SIP peer made of bare messages: what it sends is written by the test, what it gets is kept as it came."""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self

from tests.rigs.waiting import LIMIT_S

SDP = (
    "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 6000 RTP/AVP 0 101\r\n"
    "a=rtpmap:101 telephone-event/8000\r\n"
)
Headers = Iterable[tuple[str, str]]
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Packet:
    """One message, and where it came from."""

    text: str
    source: tuple[str, int] = ("", 0)

    @property
    def first_line(self) -> str:
        return self.text.partition("\r\n")[0]

    @property
    def method(self) -> str:
        return "" if self.text.startswith("SIP/") else self.text.partition(" ")[0]

    @property
    def code(self) -> int:
        return int(self.text.split(" ", 2)[1]) if self.text.startswith("SIP/") else 0

    @property
    def uri(self) -> str:
        return self.text.split(" ", 2)[1]

    @property
    def body(self) -> str:
        return self.text.partition("\r\n\r\n")[2]

    def all(self, name: str) -> list[str]:
        head = self.text.partition("\r\n\r\n")[0]
        lines = re.findall(rf"^{re.escape(name)}[ \t]*:[ \t]*([^\r\n]*)", head, re.IGNORECASE | re.MULTILINE)
        return [each.strip() for each in lines]

    def first(self, name: str) -> str:
        return next(iter(self.all(name)), "")

    @property
    def cseq_method(self) -> str:
        return self.first("CSeq").rpartition(" ")[2]


def uri_of(name_addr: str) -> str:
    """Return the URI of ``"name" <uri>;parameters``."""
    found = re.search(r"<([^>]*)>", name_addr)
    return found[1] if found else name_addr.partition(";")[0].strip()


def message(first_line: str, headers: Headers, body: str = "") -> str:
    lines = [first_line, *(f"{name}: {value}" for name, value in headers), f"Content-Length: {len(body.encode())}"]
    return "\r\n".join([*lines, "", body])


@dataclass
class Dialog:
    """One side of a dialog: what its requests are made of."""

    peer: SipPeer
    call_id: str
    own: str
    other: str
    target: str
    routes: list[str]
    to: tuple[str, int]
    cseq: int = 1

    def request(self, method: str, *, cseq: int = 0, headers: Headers = (), body: str = "") -> str:
        """Send a request inside the dialog; return its Via branch."""
        if not cseq:
            self.cseq += 1
        made = [
            ("Max-Forwards", "70"),
            *(("Route", route) for route in self.routes),
            *(("From", self.own), ("To", self.other), ("Call-ID", self.call_id)),
            ("CSeq", f"{cseq or self.cseq} {method}"),
            *([] if method in ("BYE", "ACK") else [("Contact", self.peer.contact)]),
            *headers,
            *([("Content-Type", "application/sdp")] if body else []),
        ]
        return self.peer.send_request(method, self.target, made, self.to, body=body)


@dataclass
class SipPeer:
    """
    A peer with one socket.

    Attributes:
        host, port: its own address.
        via_host: what it takes for its own address, as one behind NAT does.
        contact_once: its Contact in place of that.
        on_packet: told each message at once.
        probed: what it answers to OPTIONS outside a dialog, by itself; 0 is no answer.
        transport: ``UDP``, ``TCP`` or ``TLS``, as Via has it.
        packets: everything it got, in order.
    """

    host: str
    port: int
    transport: str = "UDP"
    packets: list[Packet] = field(default_factory=list)
    via_host: str = ""
    contact_once: str = ""
    probed: int = 200
    on_packet: Callable[[Packet], None] = lambda packet: None
    _send: Any = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _taken: set[int] = field(default_factory=set)

    # --- where it is ---

    @classmethod
    @asynccontextmanager
    async def udp(cls, host: str = "127.0.0.1") -> AsyncIterator[Self]:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made: list[SipPeer] = []

        class Protocol(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, address: Any) -> None:
                made[0].got(Packet(data.decode(errors="replace"), (address[0], address[1])))

        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Protocol, local_addr=(host, 0), family=family)
        peer = cls(host, transport.get_extra_info("sockname")[1])
        made.append(peer)
        peer._send = lambda text, to: transport.sendto(text.encode(), to)
        try:
            yield peer
        finally:
            transport.close()

    @classmethod
    @asynccontextmanager
    async def stream(
        cls, host: str, port: int, *, tls: ssl.SSLContext | None = None, own_host: str = ""
    ) -> AsyncIterator[Self]:
        """Connect over TCP, or TLS."""
        local = (own_host, 0) if own_host else None
        reader, writer = await asyncio.open_connection(host, port, ssl=tls, local_addr=local)
        address = writer.get_extra_info("sockname")
        peer = cls(address[0], address[1], "TLS" if tls else "TCP")
        peer._send = lambda text, _to: writer.write(text.encode())
        task = asyncio.create_task(peer.read(reader))
        try:
            yield peer
        finally:
            task.cancel()
            await asyncio.wait([task])
            await _gone(writer)

    @classmethod
    @asynccontextmanager
    async def listening(cls, host: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        """Listen for one connection over TCP, or TLS."""
        tasks: list[asyncio.Task[None]] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer._send = lambda text, _to: writer.write(text.encode())
            tasks.append(asyncio.current_task())  # type: ignore[arg-type] # we are in one
            try:
                await peer.read(reader)
            finally:
                await _gone(writer)

        server = await asyncio.start_server(serve, host, 0, ssl=tls)
        peer = cls(host, server.sockets[0].getsockname()[1], "TLS" if tls else "TCP")
        try:
            yield peer
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def read(self, reader: asyncio.StreamReader) -> None:
        """Read messages off a stream until it ends."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode(errors="replace").lstrip("\r\n")
                if not head:
                    continue
                length = re.search(r"^(?:Content-Length|l)[ \t]*:[ \t]*(\d+)", head, re.IGNORECASE | re.MULTILINE)
                body = await reader.readexactly(int(length[1])) if length else b""
                self.got(Packet(head + body.decode(errors="replace")))
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            return

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def contact(self) -> str:
        if self.contact_once:
            return self.contact_once
        more = "" if self.transport == "UDP" else f";transport={self.transport.lower()}"
        return f"<sip:peer@{self.via_host or self.address}{more}>"

    # --- what comes ---

    def got(self, packet: Packet) -> None:
        self.packets.append(packet)
        if self.probed and packet.method == "OPTIONS" and ";tag=" not in packet.first("To"):
            self.answer(packet, self.probed)
        self.on_packet(packet)
        self._news.set()

    async def take(self, start: str, limit_s: float = LIMIT_S, *, method: str = "", call_id: str = "") -> Packet:
        """Wait for the first message that was not taken yet whose first line starts so (``SIP/2.0 200``, ``BYE``)."""
        async with asyncio.timeout(limit_s):
            while True:
                self._news.clear()
                for number, packet in enumerate(self.packets):
                    fits = packet.first_line.startswith(start) and method in ("", packet.cseq_method)
                    if number not in self._taken and fits and call_id in packet.text:
                        self._taken.add(number)
                        return packet
                await self._news.wait()

    def seen(self, start: str) -> list[Packet]:
        return [packet for packet in self.packets if packet.first_line.startswith(start)]

    # --- what goes ---

    def send(self, text: str, to: tuple[str, int]) -> None:
        self._send(text, to)

    def send_request(
        self, method: str, uri: str, headers: Headers, to: tuple[str, int], *, body: str = "", branch: str = ""
    ) -> str:
        """Send a request with a Via of our own; return its branch."""
        branch = branch or f"z9hG4bK{secrets.token_hex(8)}"
        via = f"SIP/2.0/{self.transport} {self.via_host or self.address};branch={branch};rport"
        self.send(message(f"{method} {uri} SIP/2.0", [("Via", via), *headers], body), to)
        return branch

    def invite(
        self,
        to: tuple[str, int],
        user: str = "1000",
        *,
        headers: Headers = (),
        body: str = SDP,
        uri: str = "",
        **more: Any,
    ) -> Invite:
        """Send an INVITE; what it returns makes its CANCEL, its ACK and its dialog."""
        target = uri or (f"sip:{user}@[{to[0]}]:{to[1]}" if ":" in to[0] else f"sip:{user}@{to[0]}:{to[1]}")
        call_id = f"{next(_numbers)}-{secrets.token_hex(6)}"
        own = f'"caller" <sip:caller@example.com>;tag={secrets.token_hex(4)}'
        made = Invite(self, target, own, f"<{target}>", call_id, to)
        kept = [("Max-Forwards", "70"), ("From", own), ("To", made.other), ("Call-ID", call_id), ("CSeq", "1 INVITE")]
        kept += [("Contact", self.contact), *headers, *([("Content-Type", "application/sdp")] if body else [])]
        made.branch = self.send_request("INVITE", target, kept, to, body=body, **more)
        return made

    def answer(
        self,
        request: Packet,
        code: int,
        reason: str = "Whatever",
        *,
        headers: Headers = (),
        body: str = "",
        tag: str = "",
    ) -> Dialog:
        """Answer a request to where it came from; the dialog is ours where it made one."""
        tag = tag or f"t{secrets.token_hex(4)}" if code > 100 else ""
        to = request.first("To") + (f";tag={tag}" if tag and ";tag=" not in request.first("To") else "")
        copied = [("Via", via) for via in request.all("Via")]
        copied += [("Record-Route", each) for each in request.all("Record-Route")]
        copied += [("From", request.first("From")), ("To", to), ("Call-ID", request.first("Call-ID"))]
        copied += [("CSeq", request.first("CSeq")), ("Contact", self.contact)]
        copied += [*headers, *([("Content-Type", "application/sdp")] if body else [])]
        self.send(message(f"SIP/2.0 {code} {reason}", copied, body), request.source)
        return Dialog(
            self,
            request.first("Call-ID"),
            own=to,
            other=request.first("From"),
            target=uri_of(request.first("Contact")),
            routes=request.all("Record-Route"),
            to=request.source,
            cseq=100,
        )


async def _gone(writer: asyncio.StreamWriter) -> None:
    """Close a connection without waiting for the other side."""
    writer.transport.abort()
    with suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


@dataclass
class Invite:
    """An INVITE that was sent."""

    peer: SipPeer
    uri: str
    own: str
    other: str
    call_id: str
    to: tuple[str, int]
    branch: str = ""

    def _again(self, method: str, to_header: str) -> None:
        headers = [("Max-Forwards", "70"), ("From", self.own), ("To", to_header), ("Call-ID", self.call_id)]
        self.peer.send_request(method, self.uri, [*headers, ("CSeq", f"1 {method}")], self.to, branch=self.branch)

    def cancel(self) -> None:
        self._again("CANCEL", self.other)

    def acknowledge_refusal(self, response: Packet) -> None:
        self._again("ACK", response.first("To"))

    def dialog(self, response: Packet) -> Dialog:
        """Return the dialog that a response made, as the caller has it."""
        routes = list(reversed(response.all("Record-Route")))
        target = uri_of(response.first("Contact"))
        return Dialog(self.peer, self.call_id, self.own, response.first("To"), target, routes, self.to)

    async def answered(self, code: int = 200) -> Packet:
        """Wait for the final response to it."""
        return await self.peer.take(f"SIP/2.0 {code}", method="INVITE", call_id=self.call_id)
