"""Both sides hear each other, whole and in time; run with ``-s`` to see the figures."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.audio.pcm import MODEL, PHONE
from gateway.audio.resample import Downsampler, Upsampler
from gateway.audio.wav import read_wav
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.figures.measure import correlation, segment_correlation
from gateway.lab.simulator import SimulatorOptions
from gateway.lab.speech import agent_sentences, caller_wav
from tests.rigs.house import MakeHouse
from tests.rigs.rounds import best_of
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("timing")]

LONGEST_GAP_MS = 60
"""One packet may be late by two on a shared machine; a stall of the gateway would be far longer."""


def caller_speech(seconds: int) -> bytes:
    _, pcm = read_wav(caller_wav())
    wanted = PHONE.bytes_of(seconds * 1000)
    return (pcm * (wanted // len(pcm) + 1))[:wanted]


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
@best_of(3)
async def test_ten_seconds_of_speech_arrive_both_ways(house: MakeHouse, tmp_path: Path, codec: str) -> None:
    said = caller_speech(10)
    payloads = {"PCMU": "0", "PCMA": "8"}[codec]
    options = SimulatorOptions(echo=True)
    async with house(simulator=options) as here, RtpPeer(said, codec=codec) as phone:  # type: ignore[arg-type]
        steps = (invite(phone.port, payloads=payloads), ANSWERED, pause(11_500), BYE)
        async with Sipp(here.port, steps, tmp_path / "sipp") as sipp:
            phone.talk()
            assert await sipp.finish() == 0, sipp.output
        connection = here.simulator.connections[0]
        assert not connection.violations
        heard_by_model = segment_correlation(Upsampler().process(said), connection.heard, MODEL.rate_hz, 2000)
        heard_by_caller = segment_correlation(said, phone.reception.received_pcm(), PHONE.rate_hz, 2000)
        whole = correlation(said, phone.reception.received_pcm(), PHONE.rate_hz, 2000)
        print(
            f"\n{codec}: heard by the model {heard_by_model.peak:.4f} at {heard_by_model.lag_ms:.0f} ms, heard back by "
            f"the caller {heard_by_caller.peak:.4f} at {heard_by_caller.lag_ms:.0f} ms (in one piece {whole.peak:.4f})"
            f", longest gap {phone.reception.longest_gap_ms():.1f} ms"
        )
        assert heard_by_model.peak > 0.95
        assert heard_by_caller.peak > 0.95
        assert phone.reception.counts().lost == 0
        assert phone.reception.longest_gap_ms() < LONGEST_GAP_MS


@best_of(3)
async def test_a_burst_of_agent_speech_is_played_in_order_at_its_pace(house: MakeHouse, tmp_path: Path) -> None:
    # The whole greeting comes in a few milliseconds.
    async with house(simulator=SimulatorOptions(speed=1000, think_ms=0)) as here, RtpPeer() as phone:
        async with Sipp(here.port, (invite(phone.port), ANSWERED, pause(5500), BYE), tmp_path / "sipp") as sipp:
            phone.talk()
            assert await sipp.finish() == 0, sipp.output
        greeting = Downsampler().process(agent_sentences()[0].pcm24k)
        received = phone.reception.received_pcm()
        assert correlation(greeting, received, PHONE.rate_hz, 3000).peak > 0.9
        assert segment_correlation(greeting, received, PHONE.rate_hz, 3000).peak > 0.9
        assert phone.reception.longest_gap_ms() < LONGEST_GAP_MS


@best_of(3)
async def test_the_agent_stops_when_the_caller_speaks(house: MakeHouse, tmp_path: Path) -> None:
    _, speech = read_wav(caller_wav())
    async with house() as here, RtpPeer(speech) as phone:
        async with Sipp(here.port, (invite(phone.port), ANSWERED, pause(3500), BYE), tmp_path / "sipp") as sipp:
            await asyncio.sleep(1)
            phone.talk()
            assert await sipp.finish() == 0, sipp.output
        connection = here.simulator.connections[0]
        assert "conversation.item.truncate" in [event.type for event in connection.events]
        assert not connection.violations
        events = [event for event in await here.store.events() if event["event"] == "speech_started"]
        played_ms = int(events[0]["played_ms"])
        greeting_ms = MODEL.ms(len(agent_sentences()[0].pcm24k))
        assert 500 < played_ms < greeting_ms
