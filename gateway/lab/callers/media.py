"""
The media of many callers in one place: G.711 in RTP (RFC 3550), from one socket, by one timer.

How it works. All callers share a socket, so what comes is told apart by the port it comes from; a far end that sends
from another port than it names would be missed, which the gateway and the loopback do not do. A timer of 5 ms sends
for a quarter of the callers each time: 20 ms per caller, and no two quarters at once, as calls that began whenever
they did. Ten times a second what has come is read, in batches; when it came the kernel says, so reading late changes
no figure. Of each packet only what figures need is kept.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gateway.audio.g711 import pcm_to_ulaw, ulaw_to_pcm
from gateway.audio.pcm import PHONE
from gateway.lab.callers.datagrams import Bytes, Datagrams, Receiver, Sender, drops, media_socket
from gateway.lab.callers.streams import PACKET, Packets, Rows

SPEECH_RMS = 200.0
"""A frame louder than this is speech, not line noise."""
_QUARTERS = 4
_STEP_S = PHONE.ptime_ms / 1000 / _QUARTERS
_HEADER_BYTES, _FRAME = 12, PHONE.frame_samples
_RTP = np.dtype(
    [
        *(("version", "u1"), ("kind", "u1"), ("sequence", ">u2"), ("timestamp", ">u4"), ("ssrc", ">u4")),
        ("payload", "u1", (_FRAME,)),
    ]
)
_STEPS_PER_READ = 20
_LATEST = 10  # steps that are made up for; a longer pause is a pause


@dataclass(eq=False)
class Voice:
    """
    One caller's side of the media.

    Attributes:
        target: where it sends.
        frame: of the speech, which it says next.
        is_speaking: whether it speaks or is silent.
    """

    target: tuple[str, int]
    frame: int = 0
    is_speaking: bool = False
    sequence: int = field(default_factory=lambda: secrets.randbits(15))
    timestamp: int = field(default_factory=lambda: secrets.randbits(31))
    ssrc: int = field(default_factory=lambda: secrets.randbits(32))


class Media:
    """
    The callers' media, running inside the ``async with`` block. Thread: loop.

    Args:
        speech: what speaking callers say in a loop: 16-bit mono PCM at 8 kHz.
        host: IPv4 address.

    Attributes:
        port: where all callers want RTP.
        heard_from: far ports that speech has come from, of calls that go on -> when the first came.
    """

    def __init__(self, speech: bytes, host: str = "127.0.0.1") -> None:
        self._frames = _frames(speech)
        self._rtp, self._rtcp = _pair(host)
        self._receiver = Receiver(self._rtp)
        self._quarters = tuple(_Quarter(self._rtp, self._frames) for _ in range(_QUARTERS))
        self._squares = np.frombuffer(ulaw_to_pcm(bytes(range(256))), "<i2").astype(np.float32) ** 2
        self._kept: list[Rows] = []
        self._timer: asyncio.TimerHandle | None = None
        self._step = 0
        self._due = 0.0
        self.port: int = self._rtp.getsockname()[1]
        self.heard_from: dict[int, int] = {}

    @property
    def frames(self) -> int:
        """Frames of the speech."""
        return len(self._frames) - 1

    @property
    def dropped(self) -> int:
        """Packets that came and that we were too slow to read."""
        return drops(self._rtp)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._due = loop.time()
        self._timer = loop.call_later(_STEP_S, self._run, loop)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rtp.close()
        self._rtcp.close()

    def add(self, voice: Voice) -> None:
        """Send for a caller from now on; the quarter with the fewest takes it."""
        self.heard_from.pop(voice.target[1], None)
        min(self._quarters, key=len).add(voice)

    def remove(self, voice: Voice) -> None:
        """Send no more; without effect for one that is not there."""
        for quarter in self._quarters:
            quarter.remove(voice)

    def speak(self, voice: Voice) -> None:
        """Let a caller speak."""
        for quarter in self._quarters:
            quarter.speak(voice)

    def packets(self, since_ns: int = 0) -> Packets:
        """Return what came, since a time; what is older is forgotten."""
        self._receive()
        rows = np.concatenate([np.zeros(0, PACKET), *self._kept])
        rows = rows[rows["at_ns"] >= since_ns]
        self._kept = [rows]
        return Packets(rows)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = max(self._due, loop.time() - _LATEST * _STEP_S)
        while self._due <= loop.time():
            self._quarters[self._step % _QUARTERS].send()
            if not self._step % _STEPS_PER_READ:
                self._receive()
            self._step += 1
            self._due += _STEP_S
        self._timer = loop.call_at(self._due, self._run, loop)

    def _receive(self) -> None:
        while len((came := self._receiver.receive()).lengths):
            rows = self._kept_of(came)
            self._kept.append(rows)
            loud = rows[rows["is_speech"]]
            ports, first = np.unique(loud["port"], return_index=True)
            for port, row in zip(ports.tolist(), first.tolist(), strict=True):
                self.heard_from.setdefault(port, int(loud["at_ns"][row]))

    def _kept_of(self, came: Datagrams) -> Rows:
        """Return a row for each packet of RTP."""
        header = came.data[:, :_HEADER_BYTES]
        kind = header[:, 1] & 0x7F
        is_rtp = (header[:, 0] >> 6 == 2) & (came.lengths >= _HEADER_BYTES) & ~((header[:, 1] >= 200) & (kind >= 72))
        is_frame = is_rtp & (kind == 0) & (came.lengths == _HEADER_BYTES + _FRAME)
        power = self._squares[came.data[:, _HEADER_BYTES : _HEADER_BYTES + _FRAME]].mean(axis=1)
        rows = np.zeros(len(came.lengths), PACKET)
        rows["at_ns"], rows["port"] = came.at_ns, came.ports
        rows["sequence"] = header[:, 2:4].copy().view(">u2").reshape(-1)
        rows["ssrc"] = header[:, 8:12].copy().view(">u4").reshape(-1)
        rows["is_speech"] = is_frame & (power > SPEECH_RMS**2)
        kept: Rows = rows[is_rtp]
        return kept


class _Quarter:
    """Callers that send at the same moment."""

    def __init__(self, outlet: socket.socket, frames: Bytes) -> None:
        self._outlet = outlet
        self._frames = frames
        self._silence = len(frames) - 1
        self._next = np.arange(1, len(frames) + 1)  # frame -> the next one; speech is looped, and so is silence
        self._next[self._silence - 1], self._next[self._silence] = 0, self._silence
        self._voices: list[Voice] = []
        self._at: NDArray[np.int64] = np.zeros(0, np.int64)  # frame that each says next
        self._lay_out()

    def __len__(self) -> int:
        return len(self._voices)

    def add(self, voice: Voice) -> None:
        self._keep()
        self._voices.append(voice)
        self._lay_out()

    def remove(self, voice: Voice) -> None:
        if voice in self._voices:
            self._keep()
            self._voices.remove(voice)
            self._lay_out()

    def speak(self, voice: Voice) -> None:
        if voice in self._voices:
            self._keep()
            voice.is_speaking = True
            self._lay_out()

    def send(self) -> None:
        if not self._voices:
            return
        packets = self._packets
        packets["payload"] = self._frames[self._at]
        self._sender.send()
        packets["sequence"] += 1
        packets["timestamp"] += _FRAME
        self._at = self._next[self._at]

    def _lay_out(self) -> None:
        """Make the arrays that ``send`` works on."""
        voices = self._voices
        self._sender = Sender(self._outlet, [each.target for each in voices], _RTP.itemsize)
        self._packets = self._sender.data.view(_RTP).reshape(-1)
        self._packets["version"] = 0x80  # version 2; payload type 0 is PCMU
        for name in ("sequence", "timestamp", "ssrc"):
            self._packets[name] = [getattr(each, name) for each in voices]
        self._at = np.array([each.frame if each.is_speaking else self._silence for each in voices], np.int64)

    def _keep(self) -> None:
        """Write the numbers back to the callers."""
        for row, voice in enumerate(self._voices):
            voice.sequence, voice.timestamp = (int(self._packets[name][row]) for name in ("sequence", "timestamp"))
            voice.frame = int(self._at[row]) if voice.is_speaking else voice.frame


def _frames(speech: bytes) -> Bytes:
    """Return speech as frames of mu-law, one of silence behind them."""
    padded = speech + bytes(-len(speech) % PHONE.frame_bytes + PHONE.frame_bytes)
    return np.frombuffer(pcm_to_ulaw(padded), np.uint8).reshape(-1, _FRAME)


def _pair(host: str) -> Sequence[socket.socket]:
    """Return sockets for RTP and, at the next port, RTCP, which is not read: an open port draws no ICMP."""
    for _ in range(50):
        rtp = media_socket(host)
        rtcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        port = rtp.getsockname()[1]
        try:
            if port % 2 == 0:
                rtcp.bind((host, port + 1))
                return rtp, rtcp
        except OSError:
            pass
        rtp.close()
        rtcp.close()
    raise OSError(f"no pair of ports is free on {host}")
