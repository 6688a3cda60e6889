"""The jitter buffer of a real call follows a line that loses packets."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.lab.callers.relay import Trouble, UdpRelay
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.sip.calls.calls import Calls
from tests.rigs.sip_agent import NOISE, SipAgent, ring_and_answer, sip_agent
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


def prefetches(here: SipAgent, seen: list[int]) -> list[int]:
    """Ask the library for the least prefetch of the call in frames of 10 ms; the answers come into ``seen``."""

    def ask(table: Calls) -> None:
        for call in table.calls.values():
            statistics = call.getStreamStat(0)
            buffer = statistics.jbuf
            seen.append(buffer.minPrefetch)

    here.sip.submit(ask)
    return seen


async def test_a_line_that_loses_packets_gets_a_longer_prefetch_and_a_sound_one_keeps_it(tmp_path: Path) -> None:
    bad, seen = Trouble(loss=0.1), []  # type: tuple[Trouble, list[int]]
    async with (
        sip_agent(ring_and_answer) as here,
        RtpPeer(NOISE, looped=True) as peer,
        UdpRelay(peer.port) as relay,
        Sipp(here.port, (invite(relay.far_port), ANSWERED, pause(20_000), BYE), tmp_path),
    ):
        peer.talk(("127.0.0.1", relay.port))
        await until(lambda: here.uplink.read() and 2 in prefetches(here, seen))
        relay.worsen(outward=bad)
        await until(lambda: 8 in prefetches(here, seen), limit_s=30)
