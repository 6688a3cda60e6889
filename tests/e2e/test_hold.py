"""A caller puts the gateway on hold: the agent hears no music, says nothing into it, and is not asked back by it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from gateway.audio.pcm import PHONE
from gateway.audio.resample import Downsampler
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.figures.measure import correlation
from gateway.lab.simulator import SimulatorOptions
from gateway.lab.simulator.script import Script
from gateway.lab.speech import caller_speech
from tests.rigs.house import MakeHouse
from tests.rigs.sipp import play, read_messages
from tests.rigs.sipp_steps import ANSWERED, BYE, EXPECT_BYE, first_invite, invite, pause, reinvite, sdp
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e

IDLE_S = 5
HOLD_MS = 6500
"""With the two seconds of the greeting, long enough for the model's service to ask whether somebody is there."""
PLAN = f"""
agents:
  patient:
    instructions: Be kind.
    greeting: Say hello.
    turn_detection: {{idle_timeout_ms: {IDLE_S * 1000}}}
  listening:
    instructions: Be kind.
    greeting: Say hello.
    on_hold: silence
    turn_detection: {{idle_timeout_ms: {IDLE_S * 1000}}}
routes:
  - {{name: silence, match: {{to: '1001'}}, agent: listening}}
  - {{name: pause, agent: patient}}
"""


def held(phone: RtpPeer) -> str:
    return reinvite(sdp(phone.port, direction="sendonly", version=2))


def resumed(phone: RtpPeer) -> str:
    return reinvite(sdp(phone.port, version=3), cseq=4)


def on_hold(trace: Path) -> bool:
    """Return whether the gateway has accepted the hold."""
    return any("CSeq: 3 INVITE" in each.text and "SIP/2.0 200" in each.first_line for each in read_messages(trace))


def loudest(pcm: bytes) -> int:
    return int(np.abs(np.frombuffer(pcm, "<i2").astype(np.int32)).max(initial=0))


async def test_an_agent_on_hold_hears_no_music_waits_with_its_words_and_is_not_asked_back(
    house: MakeHouse, tmp_path: Path
) -> None:
    """Three callers hold: one agent is sent nothing meanwhile, one silence, and the third caller never returns."""
    options = SimulatorOptions(script=Script.model_validate({"answers": [{"output": [{"say": "Hello.", "for_s": 2}]}]}))
    limit = {"GATEWAY_CALL__HOLD_LIMIT_S": "7.5"}
    async with house(dialplan=PLAN, simulator=options, **limit) as here:
        async with RtpPeer() as one, RtpPeer() as two, RtpPeer() as three:

            def holds(phone: RtpPeer) -> tuple[str, ...]:
                return (invite(phone.port), ANSWERED, pause(1000), held(phone))

            def returns(phone: RtpPeer) -> tuple[str, ...]:
                return (*holds(phone), pause(HOLD_MS), resumed(phone), pause(1800), BYE)

            for phone in (one, two, three):
                phone.talk()
            calls = asyncio.gather(
                play(here.port, tmp_path / "paused", *returns(one)),
                play(here.port, tmp_path / "silence", *returns(two), service="1001"),
                play(here.port, tmp_path / "endless", *holds(three), EXPECT_BYE),
            )
            traces = [tmp_path / name / "messages.log" for name in ("paused", "silence", "endless")]
            await until(lambda: all(map(on_hold, traces)), what="three calls on hold")
            for phone in (one, two, three):
                phone.say(caller_speech(3))  # music
            await calls
        assert await here.end_reasons(3) == ["caller_hung_up", "caller_hung_up", "held_too_long"]
        for connection in here.simulator.connections:
            assert not connection.violations
            assert loudest(connection.heard) < 300
            assert sum(event.type == "response.created" for event in connection.sent) == 1
            assert "conversation.item.truncate" not in [event.type for event in connection.events]
        heard_ms = sorted(each.heard_ms for each in here.simulator.connections)
        assert heard_ms[1] < 4500  # what came before and after the hold
        assert heard_ms[2] > HOLD_MS  # one agent heard silence meanwhile
        said = Downsampler().process(here.simulator.connections[0].spoken[0].pcm24k)
        for phone in (one, two):
            heard = phone.reception.received_pcm()
            rest = correlation(said[PHONE.bytes_of(1200) :], heard, PHONE.rate_hz, 12_000)
            assert rest.peak > 0.9
            assert rest.lag_ms > HOLD_MS
            assert correlation(said, heard, PHONE.rate_hz, 12_000).peak < 0.9  # not in one piece


async def test_a_call_that_begins_on_hold_hears_the_whole_greeting_after_it(house: MakeHouse, tmp_path: Path) -> None:
    options = SimulatorOptions(script=Script.model_validate({"answers": [{"output": [{"say": "Hello.", "for_s": 2}]}]}))
    async with house(dialplan=PLAN, simulator=options) as here, RtpPeer() as phone:
        phone.talk()
        on_hold = first_invite(sdp(phone.port, direction="inactive"))
        taken_off = reinvite(sdp(phone.port, version=2))
        await play(here.port, tmp_path, on_hold, ANSWERED, pause(2500), taken_off, pause(3500), BYE)
        assert await here.end_reasons(1) == ["caller_hung_up"]
        said = Downsampler().process(here.simulator.connections[0].spoken[0].pcm24k)
        assert correlation(said, phone.reception.received_pcm(), PHONE.rate_hz, 12_000).peak > 0.9
