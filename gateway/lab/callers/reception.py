"""RTP packets (RFC 3550) as they came in, and the figures and audio derived from them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gateway.audio.g711 import alaw_to_pcm, ulaw_to_pcm
from gateway.audio.pcm import BYTES_PER_SAMPLE, PHONE
from gateway.lab.figures.measure import longest_gap_ms

HEADER = struct.Struct(">BBHII")
_DECODE = {0: ulaw_to_pcm, 8: alaw_to_pcm}  # RFC 3551 section 6
_RTCP_TYPES = range(200, 208)
_MAX_JUMP_S = 5.0  # a timestamp further off than this starts a new count


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """
    One received packet.

    Attributes:
        arrived_at: on the scale of ``time.monotonic``, in seconds.
        payload_type: 0 PCMU, 8 PCMA, anything else is not audio for us.
        marker: first packet of a talkspurt.
        sequence: 16 bits.
        timestamp: 32 bits, in samples.
        ssrc: whose stream.
        payload: without padding and header extension.
    """

    arrived_at: float
    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes

    @classmethod
    def parse(cls, data: bytes, arrived_at: float) -> RtpPacket | None:
        """Return the packet in a datagram, or None if it is something else (RTCP, keep-alives, garbage)."""
        if len(data) < HEADER.size or data[0] >> 6 != 2 or data[1] in _RTCP_TYPES:
            return None
        flags, kind, sequence, timestamp, ssrc = HEADER.unpack_from(data)
        start = HEADER.size + 4 * (flags & 0x0F)
        if flags & 0x10:  # header extension, RFC 3550 section 5.3.1
            if len(data) < start + 4:
                return None
            start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
        end = len(data) - (data[-1] if flags & 0x20 else 0)
        if end < start:
            return None
        return cls(arrived_at, kind & 0x7F, kind >= 0x80, sequence, timestamp, ssrc, data[start:end])


@dataclass(frozen=True, slots=True)
class Counts:
    """What the sequence numbers tell. A lost packet never came; a reordered one came after a later one."""

    received: int
    lost: int
    duplicated: int
    reordered: int


class Reception:
    """Everything that came, in order of arrival. Appending is cheap; figures are worked out when asked for."""

    def __init__(self, packets: Iterable[RtpPacket] = ()) -> None:
        self._packets = list(packets)
        self._raw: list[tuple[float, bytes]] = []

    def append(self, arrived_at: float, data: bytes) -> None:
        """Keep a datagram."""
        self._raw.append((arrived_at, data))

    def clear(self) -> None:
        """Forget what came so far, so that the figures are of what comes from now on."""
        self._packets.clear()
        self._raw.clear()

    @property
    def packets(self) -> list[RtpPacket]:
        """All RTP packets, duplicates too."""
        raw, self._raw = self._raw, []
        parsed = (RtpPacket.parse(data, arrived_at) for arrived_at, data in raw)
        self._packets.extend(packet for packet in parsed if packet is not None)
        return self._packets

    def intervals_ms(self) -> list[float]:
        """Return the times between packets that came one after the other."""
        arrivals = np.array([packet.arrived_at for packet in self.packets])
        return [float(each) for each in np.diff(arrivals) * 1000]

    def longest_gap_ms(self) -> float:
        """Return the longest of ``intervals_ms``; 0 for fewer than two packets."""
        return longest_gap_ms([packet.arrived_at for packet in self.packets])

    def counts(self) -> Counts:
        """Return what the sequence numbers of each stream tell, summed."""
        seen: dict[int, set[int]] = {}
        newest: dict[int, int] = {}
        duplicated = reordered = 0
        for packet in self.packets:
            known = seen.setdefault(packet.ssrc, set())
            last = newest.get(packet.ssrc)
            number = packet.sequence if last is None else last + _signed(packet.sequence - last, 16)
            if number in known:
                duplicated += 1
                continue
            known.add(number)
            reordered += last is not None and number < last
            newest[packet.ssrc] = number if last is None else max(last, number)
        lost = sum(max(numbers) - min(numbers) + 1 - len(numbers) for numbers in seen.values())
        return Counts(len(self.packets), lost, duplicated, reordered)

    def received_pcm(self) -> bytes:
        """
        Return the audio as PCM at 8 kHz, each packet at the place its timestamp names, silence where none came.

        Starts with the first packet. A new SSRC, or a timestamp that jumps by more than 5 s against the time of
        arrival, is placed by its arrival.
        """
        rate_hz = PHONE.rate_hz
        placed: list[tuple[int, bytes]] = []
        origin: tuple[int, int, int] | None = None  # SSRC, timestamp, place of the stream's reference packet
        begun_at = 0.0
        for packet in self.packets:
            decode = _DECODE.get(packet.payload_type)
            if decode is None:
                continue
            begun_at = begun_at if placed else packet.arrived_at
            by_arrival = round((packet.arrived_at - begun_at) * rate_hz)
            place = by_arrival
            if origin is not None and origin[0] == packet.ssrc:
                place = origin[2] + _signed(packet.timestamp - origin[1], 32)
            if origin is None or origin[0] != packet.ssrc or abs(place - by_arrival) > _MAX_JUMP_S * rate_hz:
                place = max(by_arrival, max((at + len(pcm) // BYTES_PER_SAMPLE for at, pcm in placed), default=0))
            origin = (packet.ssrc, packet.timestamp, place)
            placed.append((place, decode(packet.payload)))
        audio = bytearray(2 * max((at + len(pcm) // BYTES_PER_SAMPLE for at, pcm in placed), default=0))
        for at, pcm in placed:
            if at >= 0:
                audio[2 * at : 2 * at + len(pcm)] = pcm
        return bytes(audio)


def _signed(difference: int, bits: int) -> int:
    """Return a difference of two counters of ``bits`` bits as the nearest signed number."""
    half = 1 << (bits - 1)
    return (difference + half) % (1 << bits) - half
