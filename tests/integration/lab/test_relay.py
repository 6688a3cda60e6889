"""The bad network: what it loses, delays and swaps."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from gateway.lab.callers.relay import Passed, Trouble, UdpRelay
from gateway.lab.callers.rtp_peer import RtpPeer

pytestmark = pytest.mark.integration

COUNT = 200  # a socket of the kernel holds about 270 of them


@contextmanager
def an_end() -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as end:
        end.bind(("127.0.0.1", 0))
        end.setblocking(False)
        yield end


async def received(end: socket.socket, quiet_s: float = 0.15) -> list[int]:
    """Return the numbers that come until nothing more does."""
    loop, numbers = asyncio.get_running_loop(), []
    while True:
        try:
            numbers.append(int(await asyncio.wait_for(loop.sock_recv(end, 100), quiet_s)))
        except TimeoutError:
            return numbers


async def sent_through(trouble: Trouble, seed: int = 3, apart_s: float = 0.0) -> tuple[list[int], Passed]:
    """Send numbers outward; return what arrives, and what the relay says it did."""
    with an_end() as near, an_end() as far:
        async with UdpRelay(near.getsockname()[1], outward=trouble, seed=seed) as relay:
            far.sendto(b"0", ("127.0.0.1", relay.far_port))  # shows where it is
            await received(near)
            for number in range(COUNT):
                near.sendto(str(number).encode(), ("127.0.0.1", relay.port))
                if number % 20 == 0 or apart_s:
                    await asyncio.sleep(apart_s)
            return await received(far), relay.outward


async def test_a_clean_network_changes_nothing_either_way() -> None:
    with an_end() as near, an_end() as far:
        async with UdpRelay(near.getsockname()[1]) as relay:
            assert relay.far_port % 2 == 0
            near.sendto(b"9", ("127.0.0.1", relay.port))  # nobody is known on the far side yet
            for number in range(5):
                far.sendto(str(number).encode(), ("127.0.0.1", relay.far_port))
            assert await received(near) == [0, 1, 2, 3, 4]
            near.sendto(b"7", ("127.0.0.1", relay.port))
            assert await received(far) == [7]


async def test_a_share_of_the_packets_is_lost_and_the_same_ones_with_the_same_dice() -> None:
    numbers, passed = await sent_through(Trouble(loss=0.1))
    again, _ = await sent_through(Trouble(loss=0.1))
    other, _ = await sent_through(Trouble(loss=0.1), seed=4)
    assert passed.came == COUNT
    assert len(numbers) == COUNT - passed.lost
    assert 0.04 < passed.lost / COUNT < 0.17
    assert numbers == sorted(numbers) == again != other


async def test_packets_change_places_with_the_next() -> None:
    numbers, passed = await sent_through(Trouble(swapped=0.1))
    moved = [place for place, number in enumerate(numbers) if number > place]
    assert passed.swapped > 8
    assert len(moved) == passed.swapped - (COUNT - len(numbers))
    assert all(numbers[place + 1] == numbers[place] - 1 for place in moved)


async def test_jitter_reorders_what_comes_closer_together_and_loses_nothing() -> None:
    numbers, _ = await sent_through(Trouble(jitter_ms=30), apart_s=0.001)
    assert sorted(numbers) == list(range(COUNT))
    assert numbers != sorted(numbers)


async def test_a_delay_makes_every_packet_late() -> None:
    with an_end() as near, an_end() as far:
        async with UdpRelay(near.getsockname()[1], inward=Trouble(delay_ms=120)) as relay:
            loop = asyncio.get_running_loop()
            began = loop.time()
            far.sendto(b"1", ("127.0.0.1", relay.far_port))
            assert await asyncio.wait_for(loop.sock_recv(near, 100), 30) == b"1"
            assert loop.time() - began > 0.115
            relay.worsen(inward=Trouble(loss=1))
            far.sendto(b"2", ("127.0.0.1", relay.far_port))
            assert await received(near) == []


async def test_rtp_passes_both_ways() -> None:
    async with RtpPeer(then_silence=True) as phone, RtpPeer(then_silence=True) as gateway:
        async with UdpRelay(phone.port) as relay:
            gateway.talk(("127.0.0.1", relay.far_port))
            phone.talk(("127.0.0.1", relay.port))
            async with asyncio.timeout(40):
                while len(phone.reception.packets) < 10 or len(gateway.reception.packets) < 10:
                    await asyncio.sleep(0.02)
        assert phone.reception.counts().lost == gateway.reception.counts().lost == 0
