"""
The signalling of many callers over one UDP socket: INVITE, ACK, BYE (RFC 3261), for calls that nobody dials by hand.

How it works. ``Signalling.invite`` sends an INVITE and gives a ``PlacedCall``, which the responses change:
``is_settled`` once there is a final answer, or none within 32 s; ``has_ended`` once it is over, whoever ended it.
Requests are repeated as UDP asks (section 17.1), 200s are acknowledged again when they come again, and the routes of a
200 are followed (section 12.1.2), so a proxy may stand in between. Requests from the far end get 200.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from gateway.errors import GatewayError
from gateway.lab.callers.datagrams import ANCILLARY_BYTES, SO_TIMESTAMPNS, arrival_ns
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.sip.core.message import Malformed, Message, parse_message

NO_ANSWER = 408
"""The code of a call without any final response: RFC 3261 section 8.1.3.1."""
_T1_S, _T2_S, _GIVE_UP_S = 0.5, 4.0, 32.0
_MEDIA = re.compile(r"^m=audio (\d+) ", re.MULTILINE)
_URI = re.compile(r"<([^>]+)>")
_HOST = re.compile(r"sips?:(?:[^@;>]*@)?([0-9.]+)(?::(\d+))?")


class CallsFailed(GatewayError):
    """Calls were not answered, not heard, or did not stay up; says how many and how they ended."""


@dataclass(eq=False)
class PlacedCall:
    """
    A call as its caller knows it.

    Attributes:
        number: of the caller, part of its address.
        called: the user part that it called.
        media_port: where it wants RTP.
        server: where its INVITE goes.
        code: of the final response; 0 before, ``NO_ANSWER`` when there was none.
        sent_ns: when the INVITE was first sent, since the epoch.
        answered_ns: when the kernel had the 200.
        heard_ns: when the kernel had its first packet with speech; ``Phones`` sets it.
        media: address and port that its RTP goes to.
        is_settled: set by the final response.
        has_ended: set by BYE, ours answered or theirs, and by a refusal.
        was_lost: no answer to the INVITE, or none to our BYE.
        ended_by_far: the far end sent BYE.
    """

    number: str
    called: str
    media_port: int
    server: tuple[str, int]
    code: int = 0
    sent_ns: int = 0
    answered_ns: int = 0
    media: tuple[str, int] | None = None
    is_settled: asyncio.Event = field(default_factory=asyncio.Event)
    has_ended: asyncio.Event = field(default_factory=asyncio.Event)
    was_lost: bool = False
    ended_by_far: bool = False
    call_id: str = field(default_factory=lambda: secrets.token_hex(12))
    tag: str = field(default_factory=lambda: secrets.token_hex(6))
    branch: str = field(default_factory=lambda: f"z9hG4bK{secrets.token_hex(8)}")
    to: str = ""
    target: str = ""
    routes: tuple[str, ...] = ()
    cseq: int = 1
    heard_ns: int = 0

    @property
    def setup_ms(self) -> float:
        """From the INVITE to its 200; of an answered call."""
        return (self.answered_ns - self.sent_ns) / 1e6


class Signalling:
    """
    Places calls, inside the ``async with`` block. Thread: loop.

    Args:
        host: our own IPv4 address.
        on_answer: called with each call that was answered, when its ACK has been sent.
        on_end: called with each call that ended, refused ones too.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        *,
        on_answer: Callable[[PlacedCall], None] = lambda _: None,
        on_end: Callable[[PlacedCall], None] = lambda _: None,
    ) -> None:
        self._host = host
        self._on_answer = on_answer
        self._on_end = on_end
        self._calls: dict[str, PlacedCall] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        self._socket.bind((host, 0))
        self.port: int = self._socket.getsockname()[1]

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._loop.remove_reader(self._socket)
        for timer in self._timers.values():
            timer.cancel()
        self._socket.close()

    def invite(self, server: tuple[str, int], number: str, media_port: int, called: str = "bench") -> PlacedCall:
        """
        Place a call.

        Args:
            server: IPv4 address and port that the INVITE goes to.
            number: of the caller.
            media_port: of our address, where media is wanted, as PCMU.
            called: user part of the address that is called.
        """
        call = PlacedCall(number, called, media_port, server)
        call.target = f"sip:{called}@{server[0]}:{server[1]}"
        call.to = f"<{call.target}>"
        self._calls[call.call_id] = call
        text = self._request(call, "INVITE", call.branch, self._sdp(media_port))
        call.sent_ns = time.time_ns()
        self._repeat(call, "INVITE", text, server)
        return call

    def hang_up(self, call: PlacedCall) -> None:
        """Send BYE for an answered call; ``has_ended`` follows."""
        if call.has_ended.is_set() or not call.answered_ns:
            return
        call.cseq += 1
        call.branch = f"z9hG4bK{secrets.token_hex(8)}"
        self._repeat(call, "BYE", self._request(call, "BYE", call.branch), self._next_hop(call))

    # Thread: loop, as all below

    def _repeat(
        self,
        call: PlacedCall,
        method: str,
        text: str,
        to: tuple[str, int],
        wait_s: float = _T1_S,
        waited_s: float = 0.0,
    ) -> None:
        """Send a request, again and again until ``_settle`` or until nobody answers."""
        if waited_s >= _GIVE_UP_S:
            call.was_lost = True
            call.code = call.code or NO_ANSWER
            self._end(call)
            return
        self._send(text, to)
        longest_s = _GIVE_UP_S if method == "INVITE" else _T2_S
        self._timers[call.call_id] = self._loop.call_later(
            wait_s, self._repeat, call, method, text, to, min(2 * wait_s, longest_s), waited_s + wait_s
        )

    def _quiet(self, call: PlacedCall) -> None:
        timer = self._timers.pop(call.call_id, None)
        if timer is not None:
            timer.cancel()

    def _read(self) -> None:
        with suppress(BlockingIOError, ConnectionRefusedError):
            while True:
                data, ancillary, _, source = self._socket.recvmsg(65535, ANCILLARY_BYTES)
                with suppress(Malformed):
                    self._take(parse_message(data.decode("utf-8", "surrogateescape")), arrival_ns(ancillary), source)

    def _take(self, message: Message, at_ns: int, source: tuple[str, int]) -> None:
        call = self._calls.get(message.call_id)
        if call is None:
            if message.is_request and message.method != "ACK":
                self._reply(message, 481, "Call/Transaction Does Not Exist", source)
        elif message.is_request:
            self._take_request(call, message, source)
        elif message.cseq_method == "INVITE":
            self._take_answer(call, message, at_ns)
        elif message.cseq_method == "BYE" and message.code >= 200:
            self._end(call)

    def _take_request(self, call: PlacedCall, request: Message, source: tuple[str, int]) -> None:
        if request.method == "ACK":
            return
        self._reply(request, 200, "OK", source, self._sdp(call.media_port) if request.method == "INVITE" else "")
        if request.method == "BYE":
            call.ended_by_far = not call.has_ended.is_set()
            self._end(call)

    def _take_answer(self, call: PlacedCall, answer: Message, at_ns: int) -> None:
        if answer.code < 200:
            if not call.is_settled.is_set():
                self._expect_final(call)
            return
        if answer.code < 300:
            call.to = answer.first("to")
            if not call.answered_ns:
                self._learn(call, answer, at_ns)
            self._send(self._request(call, "ACK", f"z9hG4bK{secrets.token_hex(8)}", cseq=1), self._next_hop(call))
            if not call.is_settled.is_set():
                call.is_settled.set()
                self._on_answer(call)
            return
        call.to = answer.first("to")
        self._send(self._request(call, "ACK", call.branch, cseq=1), call.server)  # section 17.1.1.3
        if not call.is_settled.is_set():
            call.code = answer.code
            self._end(call)

    def _expect_final(self, call: PlacedCall) -> None:
        """Stop repeating: the far end works on it; give up if nothing comes of that."""
        self._quiet(call)
        self._timers[call.call_id] = self._loop.call_later(
            _GIVE_UP_S, self._repeat, call, "INVITE", "", call.server, 0.0, _GIVE_UP_S
        )

    def _learn(self, call: PlacedCall, answer: Message, at_ns: int) -> None:
        self._quiet(call)
        call.code, call.answered_ns = answer.code, at_ns
        contact = _URI.search(answer.first("contact"))
        call.target = contact[1] if contact else call.target
        call.routes = tuple(reversed(answer.values("record-route")))
        media = _MEDIA.search(answer.body)
        host = re.search(r"^c=IN IP4 (\S+)", answer.body, re.MULTILINE)
        if media is not None:
            call.media = (host[1] if host else call.server[0], int(media[1]))

    def _end(self, call: PlacedCall) -> None:
        self._quiet(call)
        if call.has_ended.is_set():
            return
        call.is_settled.set()
        call.has_ended.set()
        self._on_end(call)
        # Kept for what is repeated, then forgotten.
        self._timers[call.call_id] = self._loop.call_later(_GIVE_UP_S, self._forget, call)

    def _forget(self, call: PlacedCall) -> None:
        self._timers.pop(call.call_id, None)
        self._calls.pop(call.call_id, None)

    def _next_hop(self, call: PlacedCall) -> tuple[str, int]:
        first = call.routes[0] if call.routes else call.target
        found = _HOST.search(first)
        return (found[1], int(found[2] or 5060)) if found else call.server

    def _request(self, call: PlacedCall, method: str, branch: str, body: str = "", *, cseq: int = 0) -> str:
        own = f"{self._host}:{self.port}"
        lines = [
            f"{method} {call.target} SIP/2.0",
            f"Via: SIP/2.0/UDP {own};rport;branch={branch}",
            *(f"Route: {route}" for route in call.routes),
            "Max-Forwards: 70",
            f'From: "bench" <sip:{call.number}@{own}>;tag={call.tag}',
            f"To: {call.to}",
            f"Call-ID: {call.call_id}",
            f"CSeq: {cseq or call.cseq} {method}",
            f"Contact: <sip:{call.number}@{own}>",
        ]
        return _with_body(lines, body)

    def _reply(self, request: Message, code: int, reason: str, to: tuple[str, int], body: str = "") -> None:
        lines = [f"SIP/2.0 {code} {reason}"]
        for name in ("via", "record-route", "from", "to", "call-id", "cseq"):
            lines += [f"{name}: {value}" for value in request.all(name)]
        lines.append(f"Contact: <sip:bench@{self._host}:{self.port}>")
        self._send(_with_body(lines, body), to)

    def _sdp(self, media_port: int) -> str:
        host = self._host
        lines = ("v=0", f"o=bench 1 1 IN IP4 {host}", "s=-", f"c=IN IP4 {host}", "t=0 0")
        audio = (f"m=audio {media_port} RTP/AVP 0", "a=rtpmap:0 PCMU/8000", "a=ptime:20", "a=sendrecv")
        return "".join(f"{line}\r\n" for line in (*lines, *audio))

    def _send(self, text: str, to: tuple[str, int]) -> None:
        with suppress(BlockingIOError, ConnectionRefusedError):  # lost, as in a network; repeated
            if text:
                self._socket.sendto(text.encode(), to)


async def place_call(signalling: Signalling, port: int, phone: RtpPeer, called: str = "bench") -> PlacedCall:
    """
    Place one call to a port of this machine for a phone with media of its own; return when the phone talks.

    Raises:
        CallsFailed: it was refused, or not answered in time.
    """
    call = signalling.invite(("127.0.0.1", port), "canary", phone.port, called)
    await call.is_settled.wait()
    if call.media is None:
        raise CallsFailed(f"a call to {called} was refused with {call.code}")
    phone.talk(call.media)
    return call


def _with_body(lines: list[str], body: str) -> str:
    kind = ["Content-Type: application/sdp"] if body else []
    return "\r\n".join([*lines, *kind, f"Content-Length: {len(body)}", "", body])
