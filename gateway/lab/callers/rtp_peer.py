"""
The media half of a test caller: sends G.711 in RTP (RFC 3550) and writes down every packet that comes back.

SIPp does the signalling and writes this peer's port into its SDP.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import struct
import time
from collections import deque
from typing import Literal, NamedTuple, Self

from gateway.audio.g711 import pcm_to_alaw, pcm_to_ulaw
from gateway.audio.pcm import PHONE
from gateway.errors import ConfigError
from gateway.lab.callers.datagrams import ANCILLARY_BYTES, SO_TIMESTAMPNS, arrival_ns
from gateway.lab.callers.reception import HEADER, Reception

Codec = Literal["PCMU", "PCMA"]
Address = tuple[str, int]

PAYLOAD_TYPES: dict[Codec, int] = {"PCMU": 0, "PCMA": 8}  # RFC 3551 section 6
_EVENTS = 101  # the payload type that offers here give to telephone-event
_EVENT = struct.Struct(">BBH")
_EVENT_CODES = {key: code for code, key in enumerate("0123456789*#ABCD")}  # RFC 4733 section 3.2
_EVENT_END, _EVENT_VOLUME = 0x80, 10
_END_PACKETS = 3  # RFC 4733 section 2.5.1.4: the end is sent three times
_COMFORT_NOISE, _NOISE_LEVEL = 13, bytes((60,))  # RFC 3389: -60 dBov
_ENCODE = {"PCMU": pcm_to_ulaw, "PCMA": pcm_to_alaw}
_FRAME_S = PHONE.ptime_ms / 1000
_PAIR_ATTEMPTS = 50


class _EventPacket(NamedTuple):
    """A packet of an RFC 4733 event and how many samples before it the event began: that is its timestamp."""

    payload: bytes
    age: int


class RtpPeer:
    """
    A pair of ports (RTP and RTCP) that talks and listens. Thread: the loop it was opened on.

    Args:
        pcm: what to say: signed 16-bit little-endian mono at 8 kHz.
        codec: how to send it; what is received is taken either way.
        looped: start again at its end.
        then_silence: when not looped, go on with silence instead of sending nothing.
        host: IPv4 address to bind.
        port: even port to bind, the next one too; 0 takes a free pair.

    Attributes:
        sent_at: when each packet was sent, on the scale of ``time.monotonic``.
    """

    def __init__(
        self,
        pcm: bytes = b"",
        *,
        codec: Codec = "PCMU",
        looped: bool = False,
        then_silence: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._codec: Codec = codec
        self._payloads: list[bytes] = []
        self._turn = 0
        self._silence = _ENCODE[codec](bytes(PHONE.frame_bytes))
        self._looped = looped
        self._then_silence = then_silence
        self.say(pcm)
        self._rtp, self._rtcp = _bind_pair(host, port)
        self._rtp.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._epoch = time.monotonic() - time.time()
        self._target: Address | None = None
        self._learned: Address | None = None
        self._sender: asyncio.Task[None] | None = None
        self._listening_on: asyncio.AbstractEventLoop | None = None
        self.port: int = self._rtp.getsockname()[1]
        self.reception = Reception()
        self.sent_packets = 0
        self.sent_at: list[float] = []
        self.first_sent_at: float | None = None
        # RFC 3550 section 5.1: random starts
        self._sequence, self._timestamp, self._ssrc = secrets.randbits(15), secrets.randbits(31), secrets.randbits(32)
        self._marker = 0x80
        self._resting = self._noise_due = False
        self._events: deque[_EventPacket | None] = deque()

    def say(self, pcm: bytes) -> None:
        """From the next packet on, say this from its start; the stream and its numbers go on."""
        self._payloads = self._cut(pcm)
        self._turn = 0

    def rest(self, *, comfort_noise: bool = False) -> None:
        """
        Send nothing for a while: the timestamps go on, the numbers do not (silence suppression, RFC 3551 section 4.1).

        Args:
            comfort_noise: one packet tells first how loud the line's noise is (RFC 3389).
        """
        self._resting, self._noise_due = True, comfort_noise

    def go_on(self) -> None:
        """Send again after ``rest``; the first packet has the marker."""
        if self._resting:
            self._resting, self._noise_due, self._marker = False, False, 0x80

    def press(self, keys: str, *, for_ms: int = 100) -> None:
        """
        Press keys one after the other, as events in place of the audio (RFC 4733).

        Args:
            keys: of ``0123456789*#ABCD``.
            for_ms: how long each is held; 60 ms of audio follow.
        """
        for key in keys:
            code, steps = _EVENT_CODES[key], max(1, for_ms // PHONE.ptime_ms)
            for step in range(steps + _END_PACKETS):
                samples = min(step + 1, steps) * PHONE.frame_samples
                flags = _EVENT_VOLUME | (_EVENT_END if step >= steps else 0)
                self._events.append(_EventPacket(_EVENT.pack(code, flags, samples), step * PHONE.frame_samples))
            self._events.extend([None] * 3)

    def renumber(self, *, sequence: int | None = None, timestamp: int | None = None, ssrc: int | None = None) -> None:
        """From the next packet on, count from other numbers: what a wrap, a restart or a new source looks like."""
        self._sequence = self._sequence if sequence is None else sequence
        self._timestamp = self._timestamp if timestamp is None else timestamp
        self._ssrc = self._ssrc if ssrc is None else ssrc

    def _cut(self, pcm: bytes) -> list[bytes]:
        frame = PHONE.frame_bytes
        padded = pcm + bytes(-len(pcm) % frame)
        return [_ENCODE[self._codec](padded[at : at + frame]) for at in range(0, len(padded), frame)]

    async def __aenter__(self) -> Self:
        self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def listen(self) -> None:
        """Begin to write down what comes."""
        self._listening_on = asyncio.get_running_loop()
        self._listening_on.add_reader(self._rtp, self._receive)

    def talk(self, to: Address | None = None) -> None:
        """
        Begin to send at 20 ms pace.

        Args:
            to: the destination; None sends to the last sender, and nothing before the first packet (symmetric RTP).
        """
        self._target = to
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_all(), name=f"rtp peer {self.port}")

    async def hush(self) -> None:
        """Stop sending."""
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.cancel()
            await asyncio.wait((sender,))
            if not sender.cancelled():
                sender.result()

    async def finished(self) -> None:
        """Wait until everything was said; for ever when looped or followed by silence."""
        if self._sender is not None:
            await asyncio.shield(self._sender)

    async def close(self) -> None:
        """Stop both ways and free the ports; what was received stays readable. Safe more than once."""
        await self.hush()
        if self._listening_on is not None:
            self._listening_on.remove_reader(self._rtp)
            self._listening_on = None
        self._rtp.close()
        self._rtcp.close()

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            while True:
                data, ancillary, _, source = self._rtp.recvmsg(2048, ANCILLARY_BYTES)
                self._learned = source
                self.reception.append(arrival_ns(ancillary) / 1e9 + self._epoch, data)

    async def _send_all(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            payload = self._payload()
            if payload is None:
                return
            target = self._target or self._learned
            event = self._events.popleft() if target is not None and self._events else None
            if target is not None and event is not None:
                self._send_packet(_EVENTS | (0 if event.age else 0x80), event.payload, target, age=event.age)
            elif target is not None and self._noise_due:
                self._noise_due = False
                self._send_packet(_COMFORT_NOISE, _NOISE_LEVEL, target)
            elif target is not None and not self._resting:
                self._send_packet(PAYLOAD_TYPES[self._codec] | self._marker, payload, target)
                self._marker = 0
                self._turn += 1
            self._timestamp += PHONE.frame_samples
            due += _FRAME_S  # the next deadline, not the next sleep: lateness does not add up
            await asyncio.sleep(max(0.0, due - loop.time()))

    def _payload(self) -> bytes | None:
        if self._payloads and (self._looped or self._turn < len(self._payloads)):
            return self._payloads[self._turn % len(self._payloads)]
        return self._silence if self._then_silence else None

    def _send_packet(self, kind: int, payload: bytes, target: Address, *, age: int = 0) -> None:
        numbers = (self._sequence & 0xFFFF, (self._timestamp - age) & 0xFFFFFFFF, self._ssrc)
        self._send(HEADER.pack(0x80, kind, *numbers) + payload, target)
        self._sequence += 1

    def _send(self, packet: bytes, target: Address) -> None:
        if self.first_sent_at is None:
            self.first_sent_at = time.monotonic()
        # A full buffer or a peer that is gone loses a packet, as a network does.
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            self._rtp.sendto(packet, target)
            self.sent_packets += 1
            self.sent_at.append(time.monotonic())


def _bind_pair(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """Return sockets bound to an even port and the one after it (RFC 3550 section 11)."""
    if port % 2:
        raise ConfigError(f"RTP port {port} is odd; give an even one, or 0 for any free pair")
    for _ in range(1 if port else _PAIR_ATTEMPTS):
        with contextlib.ExitStack() as stack:
            rtp, rtcp = (stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in ("rtp", "rtcp"))
            with contextlib.suppress(OSError):
                rtp.bind((host, port))
                bound: int = rtp.getsockname()[1]
                if bound % 2 == 0:
                    rtcp.bind((host, bound + 1))
                    rtp.setblocking(False)
                    rtcp.setblocking(False)
                    stack.pop_all()
                    return rtp, rtcp
    wanted = f"ports {port} and {port + 1} are" if port else "no free pair of ports is"
    raise ConfigError(f"{wanted} to be had on {host} for RTP; free them or give others")
