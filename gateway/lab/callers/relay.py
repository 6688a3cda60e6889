"""
A bad network between two RTP endpoints on this machine: a relay that loses, delays and reorders packets.

The kernel could do it where it has netem; this needs no privilege, and says exactly what it did.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

Address = tuple[str, int]

_PAIR_ATTEMPTS = 50
_MAX_PACKET = 2048


@dataclass(frozen=True, slots=True)
class Trouble:
    """
    What happens to packets on one way.

    Attributes:
        loss: share of packets that never arrive.
        delay_ms: by which every packet is late.
        jitter_ms: each packet is late by up to this much more, evenly spread. More than the time between two packets
            reorders them.
        swapped: share of packets that are let through only behind the next one.
    """

    loss: float = 0.0
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    swapped: float = 0.0


CLEAN = Trouble()


@dataclass
class Passed:
    """What a way did so far: packets that came, were lost, were swapped with the next one."""

    came: int = 0
    lost: int = 0
    swapped: int = 0


class _Way:
    """One direction: decides for each packet and sends it when it is due."""

    def __init__(self, trouble: Trouble, dice: random.Random, send: Callable[[bytes], None]) -> None:
        self.trouble = trouble
        self.passed = Passed()
        self._dice = dice
        self._send = send
        self._behind_next: bytes | None = None

    def take(self, packet: bytes) -> None:
        trouble, dice = self.trouble, self._dice
        self.passed.came += 1
        if dice.random() < trouble.loss:
            self.passed.lost += 1
            return
        if self._behind_next is None and dice.random() < trouble.swapped:
            self.passed.swapped += 1
            self._behind_next = packet
            return
        late_s = (trouble.delay_ms + dice.random() * trouble.jitter_ms) / 1000
        packets = [packet] if self._behind_next is None else [packet, self._behind_next]
        self._behind_next = None
        for each in packets:
            if late_s:
                asyncio.get_running_loop().call_later(late_s, self._send, each)
            else:
                self._send(each)


class UdpRelay:
    """
    Two UDP ports with a bad network between: what comes to one leaves from the other. Thread: the loop it runs on.

    The near end serves one program whose port is known, the far end the first that sends to it, as a phone behind NAT
    would. Runs inside the ``async with`` block.

    Args:
        near_port: of the program on the near side, at ``host``.
        outward: from the near side to the far one.
        inward: the other way.
        seed: of the dice; the same seed and packets give the same losses.
        host: IPv4 address of both.

    Attributes:
        port: where the near side sends to.
        far_port: an even port, where the far side sends to: what an SDP names.
    """

    def __init__(
        self,
        near_port: int,
        *,
        outward: Trouble = CLEAN,
        inward: Trouble = CLEAN,
        seed: int = 1,
        host: str = "127.0.0.1",
    ) -> None:
        self._near_peer: Address = (host, near_port)
        self._far_peer: Address | None = None
        self._near, self._far = _bound(host), _bound(host, even=True)
        self.port: int = self._near.getsockname()[1]
        self.far_port: int = self._far.getsockname()[1]
        self._outward = _Way(outward, random.Random(seed), self._send_far)
        self._inward = _Way(inward, random.Random(seed + 1), self._send_near)

    @property
    def outward(self) -> Passed:
        """What happened from the near side to the far one."""
        return self._outward.passed

    @property
    def inward(self) -> Passed:
        """What happened the other way."""
        return self._inward.passed

    def worsen(self, *, outward: Trouble | None = None, inward: Trouble | None = None) -> None:
        """From the next packet on, another trouble; None leaves a way as it is."""
        self._outward.trouble = outward or self._outward.trouble
        self._inward.trouble = inward or self._inward.trouble

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._near, self._read, self._near, self._outward)
        loop.add_reader(self._far, self._read, self._far, self._inward)
        return self

    async def __aexit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for each in (self._near, self._far):
            loop.remove_reader(each)
            each.close()

    def _read(self, end: socket.socket, way: _Way) -> None:
        # A peer that is gone shows itself as ECONNREFUSED: a network loses such packets.
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            while True:
                packet, source = end.recvfrom(_MAX_PACKET)
                if end is self._far:
                    self._far_peer = source
                way.take(packet)

    def _send_far(self, packet: bytes) -> None:
        self._send(self._far, packet, self._far_peer)

    def _send_near(self, packet: bytes) -> None:
        self._send(self._near, packet, self._near_peer)

    @staticmethod
    def _send(end: socket.socket, packet: bytes, to: Address | None) -> None:
        if to is None or end.fileno() < 0:  # no far end yet, or closed while the packet was on its way
            return
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            end.sendto(packet, to)


def _bound(host: str, *, even: bool = False) -> socket.socket:
    """Return a UDP socket on a free port, an even one for RTP (RFC 3550 section 11)."""
    for _ in range(_PAIR_ATTEMPTS):
        end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        end.bind((host, 0))
        if not even or end.getsockname()[1] % 2 == 0:
            end.setblocking(False)
            return end
        end.close()
    raise OSError(f"no free even port on {host}")
