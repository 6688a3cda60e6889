"""A telephone over UDP, cheap enough for thousands of calls: its signalling alone, the media is an ``RtpPeer``'s."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from tests.fuzz.material import request

ANSWER_S = 40.0
_SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {} RTP/AVP 0 101\r\n"
    "a=rtpmap:101 telephone-event/8000\r\n"
)
_ECHOED = ("via:", "from:", "to:", "call-id:", "cseq:")


class Telephone(asyncio.DatagramProtocol):
    """
    Calls a gateway on this machine, one call after the other.

    Args:
        port: the gateway's.

    Attributes:
        hung_up_at: when the gateway ended the call, monotonic seconds; None while it has not.
    """

    def __init__(self, port: int) -> None:
        self.hung_up_at: float | None = None
        self._gateway = ("127.0.0.1", port)
        self._answers: asyncio.Queue[str] = asyncio.Queue()
        self._transport: asyncio.DatagramTransport
        self._numbers = itertools.count(1)

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
        """
        call_id, self.hung_up_at = f"{id(self)}.{time.monotonic_ns()}", None
        answer = await self._ask("INVITE", 1, call_id, user, body=_SDP.format(rtp_port))
        status = answer[8:11]
        tag = next((line.partition(";tag=")[2] for line in answer.split("\r\n") if line.startswith("To:")), "")
        self._send("ACK", 1, call_id, user, tag)
        try:
            yield status
        finally:
            if status == "200" and self.hung_up_at is None:
                await self._ask("BYE", 2, call_id, user, tag)

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        """Keep the socket."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Take a final response, or the gateway's BYE."""
        text = data.decode(errors="replace")  # whoever had the port before may still be sent RTCP
        if text.startswith("SIP/2.0 ") and text[8] != "1":
            self._answers.put_nowait(text)
        elif text.startswith("BYE "):
            self.hung_up_at = self.hung_up_at or time.monotonic()
            echoed = [line for line in text.split("\r\n") if line.lower().startswith(_ECHOED)]
            self._transport.sendto("\r\n".join(["SIP/2.0 200 OK", *echoed, "Content-Length: 0", "", ""]).encode(), addr)

    async def _ask(self, method: str, cseq: int, call_id: str, user: str, tag: str = "", body: str = "") -> str:
        self._send(method, cseq, call_id, user, tag, body)
        async with asyncio.timeout(ANSWER_S):
            while call_id not in (answer := await self._answers.get()) or f"{cseq} {method}" not in answer:
                pass
        return answer

    def _send(self, method: str, cseq: int, call_id: str, user: str, tag: str = "", body: str = "") -> None:
        text = request(method, user=user, cseq=cseq, inside=True, body=body)
        for name, value in (
            ("%port%", str(self._gateway[1])),
            ("%sip%", str(self._transport.get_extra_info("sockname")[1])),
            ("%new%", str(next(self._numbers)) + call_id),
            ("%id%", call_id),
            ("%tag%", f";tag={tag}" if tag else ""),
            ("%length%", str(len(body))),
        ):
            text = text.replace(name, value)
        self._transport.sendto(text.encode(), self._gateway)
