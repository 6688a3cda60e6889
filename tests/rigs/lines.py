"""Calls whose media is ours: SIPp signals, an RTP peer speaks, a bad network may lie between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.lab.callers.relay import CLEAN, Trouble, UdpRelay
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.simulator.transport.connection import Connection
from tests.rigs.house import House
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause
from tests.rigs.waiting import until

Speak = Callable[[RtpPeer], Awaitable[None]]
_SETTLE_S = 0.5  # the echo's response has begun by then
_DRAIN_S = 0.7


@dataclass
class Line:
    """
    One finished call.

    Attributes:
        phone: what was sent and what came back.
        relay: what was lost on the way.
        connection: the simulator's side.
    """

    phone: RtpPeer
    relay: UdpRelay
    connection: Connection


async def call(
    house: House,
    folder: Path,
    pcm: bytes,
    *,
    seconds: float,
    trouble: Trouble = CLEAN,
    seed: int = 1,
    then_silence: bool = False,
    speak: Speak | None = None,
) -> Line:
    """
    Place a call through a relay, speak, and hang up.

    Args:
        house: the gateway; its simulator echoes.
        folder: for SIPp's files.
        pcm: what is said, from a moment after the first packet came.
        seconds: how long that takes.
        trouble: on both ways.
        seed: of the relay's dice.
        then_silence: go on with silence when it is said.
        speak: what is done meanwhile; None waits.
    """
    number = len(house.simulator.connections)
    talk_ms = round((seconds + _SETTLE_S + _DRAIN_S) * 1000)
    async with (
        RtpPeer(pcm, then_silence=then_silence) as phone,
        UdpRelay(phone.port, outward=trouble, inward=trouble, seed=seed) as relay,
    ):
        steps = (invite(relay.far_port, payloads="0"), ANSWERED, pause(talk_ms + 1000), BYE)
        async with Sipp(house.port, steps, folder) as sipp:
            await until(lambda: phone.reception.packets, what="the gateway's first packet")
            await asyncio.sleep(_SETTLE_S)
            phone.talk(("127.0.0.1", relay.port))
            if speak is not None:
                await speak(phone)
            assert await sipp.finish() == 0, sipp.output
        return Line(phone, relay, house.simulator.connections[number])


async def calls(*starts: Callable[[], Awaitable[Line]], house: House) -> list[Line]:
    """Run calls side by side, each begun when the one before is at the simulator, so that they keep their order."""
    tasks: list[asyncio.Task[Line]] = []
    before = len(house.simulator.connections)
    for start in starts:
        tasks.append(asyncio.ensure_future(start()))
        await until(
            lambda: len(house.simulator.connections) >= before + len(tasks) or any(task.done() for task in tasks),
            what="a session for each call",
        )
    return list(await asyncio.gather(*tasks))
