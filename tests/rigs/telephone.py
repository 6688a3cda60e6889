"""A telephone over UDP, cheap enough for thousands of calls: its signalling alone, the media is an ``RtpPeer``'s."""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Self

ANSWER_S = 40.0
T1_S, T2_S = 0.5, 4.0  # RFC 3261 section 17.1.1.1
_SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {} RTP/AVP 0 101\r\n"
    "a=rtpmap:101 telephone-event/8000\r\n"
)
_ECHOED = ("via:", "from:", "to:", "call-id:", "cseq:", "record-route:")


@dataclass
class _Dialog:
    """What a request inside a call needs: the ids, and what the answer said of the way (RFC 3261 section 12.1.2)."""

    call_id: str
    user: str
    target: str
    to_tag: str = ""
    routes: tuple[str, ...] = ()

    def learn(self, answer: str) -> None:
        self.to_tag = next(iter(re.findall(r"^To:.*;tag=([^;\r\n]+)", answer, re.MULTILINE)), "")
        if contact := re.search(r"^Contact:[^<\r\n]*<([^>]+)>", answer, re.MULTILINE):
            self.target = contact[1]
        routes = [
            route
            for line in re.findall(r"^Record-Route: *([^\r\n]*)", answer, re.MULTILINE)
            for route in line.split(",")
        ]
        self.routes = tuple(route.strip() for route in reversed(routes))


class Telephone(asyncio.DatagramProtocol):
    """
    Calls a gateway on this machine, one call after the other.

    Args:
        port: the gateway's.

    Attributes:
        hung_up_at: when the gateway ended the call, monotonic seconds; None while it has not.
        retransmissions: how often a request had to be sent again.
    """

    def __init__(self, port: int) -> None:
        self.hung_up_at: float | None = None
        self.retransmissions = 0
        self._gateway = ("127.0.0.1", port)
        self._answers: asyncio.Queue[str] = asyncio.Queue()
        self._transport: asyncio.DatagramTransport
        self._numbers = itertools.count(1)
        self._ack = ""  # of the call's 200, sent again with each one that comes again
        self._proceeding = asyncio.Event()  # a provisional response ends the retransmissions

    @classmethod
    @asynccontextmanager
    async def towards(cls, port: int) -> AsyncIterator[Self]:
        """Have a telephone, on a port of its own."""
        transport, phone = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: cls(port), local_addr=("127.0.0.1", 0), family=socket.AF_INET
        )
        try:
            yield phone
        finally:
            transport.close()

    @asynccontextmanager
    async def call(self, rtp_port: int, user: str = "1000") -> AsyncIterator[str]:
        """
        Be in a call; hang up at its end, where the gateway has not.

        Args:
            rtp_port: where audio is taken.
            user: who is called.

        Returns:
            The final status of the INVITE, as ``200``.

        Raises:
            TimeoutError: the INVITE, or the BYE at the end, got no answer.
        """
        call_id, self.hung_up_at = f"{id(self)}.{time.monotonic_ns()}", None
        dialog = _Dialog(call_id, user, f"sip:{user}@127.0.0.1:{self._gateway[1]}")
        branch = self._branch(call_id)
        answer = await self._ask(self._request("INVITE", 1, dialog, branch, _SDP.format(rtp_port)), call_id, "1 INVITE")
        status = answer[8:11]
        dialog.learn(answer)
        if status == "200":
            self._ack = self._request("ACK", 1, dialog, self._branch(call_id))
            self._send(self._ack)
        else:  # RFC 3261 section 17.1.1.3: of the transaction itself, without the route
            dialog.target, dialog.routes = f"sip:{user}@127.0.0.1:{self._gateway[1]}", ()
            self._send(self._request("ACK", 1, dialog, branch))
        try:
            yield status
        finally:
            if status == "200" and self.hung_up_at is None:
                await self._ask(self._request("BYE", 2, dialog, self._branch(call_id)), call_id, "2 BYE")
            self._ack = ""

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        """Keep the socket."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Take a final response, or the gateway's BYE."""
        text = data.decode(errors="replace")  # whoever had the port before may still be sent RTCP
        if text.startswith("SIP/2.0 1"):
            self._proceeding.set()
        elif text.startswith("SIP/2.0 "):
            if self._ack and "INVITE" in text and self._ack.partition("Call-ID: ")[2].partition("\r")[0] in text:
                self._send(self._ack)
                return
            self._answers.put_nowait(text)
        elif text.startswith("BYE "):
            self.hung_up_at = self.hung_up_at or time.monotonic()
            echoed = [line for line in text.split("\r\n") if line.lower().startswith(_ECHOED)]
            self._transport.sendto("\r\n".join(["SIP/2.0 200 OK", *echoed, "Content-Length: 0", "", ""]).encode(), addr)

    async def _ask(self, text: str, call_id: str, cseq: str) -> str:
        """Send a request until its final response is there (RFC 3261 section 17.1)."""
        wait_s = T1_S
        self._proceeding.clear()
        async with asyncio.timeout(ANSWER_S):
            while True:
                if not self._proceeding.is_set():
                    self._send(text)
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        while call_id not in (answer := await self._answers.get()) or cseq not in answer:
                            pass
                        return answer
                wait_s = min(2 * wait_s, T2_S)
                self.retransmissions += not self._proceeding.is_set()

    def _branch(self, call_id: str) -> str:
        return f"z9hG4bK{next(self._numbers)}{call_id}"

    def _request(self, method: str, cseq: int, dialog: _Dialog, branch: str, body: str = "") -> str:
        port = self._transport.get_extra_info("sockname")[1]
        to_tag = f";tag={dialog.to_tag}" if dialog.to_tag else ""
        return "\r\n".join(
            (
                f"{method} {dialog.target} SIP/2.0",
                f"Via: SIP/2.0/UDP 127.0.0.1:{port};branch={branch};rport",
                *(f"Route: {route}" for route in dialog.routes),
                "Max-Forwards: 70",
                f'From: "Caller" <sip:caller@127.0.0.1>;tag=f{dialog.call_id}',
                f"To: <sip:{dialog.user}@127.0.0.1>{to_tag}",
                f"Call-ID: {dialog.call_id}",
                f"CSeq: {cseq} {method}",
                f"Contact: <sip:caller@127.0.0.1:{port}>",
                *(("Content-Type: application/sdp",) if body else ()),
                f"Content-Length: {len(body)}",
                "",
                body,
            )
        )

    def _send(self, text: str) -> None:
        self._transport.sendto(text.encode(), self._gateway)
