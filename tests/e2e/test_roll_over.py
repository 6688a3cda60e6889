"""A session that nears its end is replaced in a pause; run with ``-s`` to see the figures."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gateway.audio.wav import read_wav
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.simulator import SimulatorOptions
from gateway.lab.speech import agent_sentences, caller_wav
from tests.rigs.house import MakeHouse
from tests.rigs.rounds import best_of, slowness
from tests.rigs.sipp import Sipp, play
from tests.rigs.sipp_steps import ANSWERED, BYE, EXPECT_BYE, invite, pause

pytestmark = pytest.mark.e2e

LONGEST_GAP_MS = 100
LIFE = {"GATEWAY_REALTIME__ROLL_OVER_BEFORE_S": "12", "GATEWAY_REALTIME__EXPIRY_GOODBYE_S": "4"}


@best_of(2)
async def test_a_session_of_twenty_seconds_is_replaced_unheard(house: MakeHouse, tmp_path: Path) -> None:
    _, speech = read_wav(caller_wav())
    options = SimulatorOptions(faults=("expire=20,first=1",))
    async with house(simulator=options, **LIFE) as here, RtpPeer() as phone:
        steps = (invite(phone.port), ANSWERED, pause(27_000), BYE)
        async with Sipp(here.port, steps, tmp_path / "sipp") as sipp:
            phone.talk()
            await asyncio.sleep(5)
            phone.say(speech)
            await asyncio.sleep(16)
            phone.say(speech)  # to the second session
            assert await sipp.finish() == 0, sipp.output
        first, second = here.simulator.connections
        known = json.dumps(second.items())
        assert (await here.ended_record())["end_reason"] == "caller_hung_up"
        gap_ms = phone.reception.longest_gap_ms()
    print(f"\nroll-over: longest gap in the caller's RTP {gap_ms:.1f} ms, lost {phone.reception.counts().lost}")
    assert first.close_code == 1000
    assert not first.violations
    assert not second.violations
    assert gap_ms < LONGEST_GAP_MS * slowness()
    # What was said in the first session stands in the second one's conversation, both sides of it.
    assert agent_sentences()[0].text in known
    assert "caller spoke for" in known
    # The second session heard the caller and answered.
    assert "response.output_audio.delta" in [event.type for event in second.sent]


async def test_a_session_that_may_not_be_replaced_ends_with_a_goodbye(house: MakeHouse, tmp_path: Path) -> None:
    options = SimulatorOptions(faults=("expire=10",))
    async with house(simulator=options, profile="roll_over: false", **LIFE) as here, RtpPeer() as phone:
        phone.talk()
        await play(here.port, tmp_path / "sipp", invite(phone.port), ANSWERED, EXPECT_BYE)
        assert (await here.ended_record())["end_reason"] == "session_expired"
        heard = [event["text"] for event in await here.store.events() if event["event"] == "agent_heard"]
    assert len(heard) == 2  # the greeting and the goodbye
