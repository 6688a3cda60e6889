"""Calls are recorded as their agent's profile says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from gateway.audio.pcm import PHONE
from gateway.audio.resample import Downsampler
from gateway.audio.wav import read_stereo_wav
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.figures.measure import correlation
from gateway.lab.simulator import SimulatorOptions
from gateway.lab.simulator.script import Script
from gateway.lab.simulator.transport.connection import Connection
from gateway.lab.speech import caller_speech
from gateway.store.record import CallRecord
from tests.rigs.house import House, MakeHouse
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import ANSWERED, BYE, info, invite, pause
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e


async def recorded(house: House) -> tuple[CallRecord, bytes, bytes]:
    """Return the record of the call that ended, and the caller's and the agent's side of its recording."""
    record = await house.store.call((await house.ended_record())["call_id"])
    assert record is not None
    assert record.recording is not None
    rate_hz, left, right = read_stereo_wav(Path(record.recording))
    assert rate_hz == PHONE.rate_hz
    return record, left, right


def loudest(pcm: bytes) -> int:
    return int(np.abs(np.frombuffer(pcm, "<i2").astype(np.int32)).max(initial=0))


def outputs(connection: Connection) -> list[str]:
    """Return what the tools answered."""
    items = (event.get("item", {}) for event in connection.received)
    return [item["output"] for item in items if item.get("type") == "function_call_output"]


async def test_a_recorded_call_has_the_caller_left_and_the_agent_right(house: MakeHouse, tmp_path: Path) -> None:
    profile = "recording: {mode: on, announcement: 'This call is recorded.'}"
    folder = tmp_path / "recordings"
    said = caller_speech(1.6)
    words = (("This call is recorded.", 3), ("Hello.", 1))
    answers = [{"output": [{"say": say, "sentence": number, "for_s": 1}]} for say, number in words]
    options = SimulatorOptions(script=Script.model_validate({"answers": answers}))
    given = {"GATEWAY_RECORDING__FOLDER": str(folder)}
    async with house(profile=profile, simulator=options, **given) as here, RtpPeer() as phone:
        async with Sipp(here.port, (invite(phone.port), ANSWERED, pause(6000), BYE), tmp_path / "sipp") as sipp:
            phone.talk()
            connection = await here.simulator.connection(1)
            await until(lambda: len(connection.spoken) == 2, what="the greeting")
            await asyncio.sleep(1.3)  # it has been heard
            phone.say(said)
            assert await sipp.finish() == 0, sipp.output
        record, left, right = await recorded(here)
        assert Path(record.recording or "").parent == folder
        assert [path.suffix for path in folder.iterdir()] == [".wav"]
        assert len(left) == len(right)
        assert 2.5 < len(left) / PHONE.bytes_of(1000) < 5.5
        assert record.announcement == "heard"
        announcement, greeting = (Downsampler().process(spoken.pcm24k) for spoken in connection.spoken[:2])
        assert correlation(announcement, right, PHONE.rate_hz, 8000).peak < 0.5
        assert correlation(said, left, PHONE.rate_hz, 8000).peak > 0.9
        assert correlation(greeting, right, PHONE.rate_hz, 8000).peak > 0.9
        first, second = (event["response"] for event in connection.received if event["type"] == "response.create")
        assert first["instructions"].endswith("This call is recorded.")
        assert first["tool_choice"] == "none"
        assert "recorded" not in second["instructions"]


async def test_nothing_is_recorded_before_a_caller_who_spoke_over_the_announcement_has_heard_it(
    house: MakeHouse, tmp_path: Path
) -> None:
    profile = "recording: {mode: on, announcement: 'This call is recorded.'}"
    said = (("This call is recorded.", 2.5), ("Yes?", 0.5), ("This call is recorded.", 1), ("How can I help?", 1))
    script = {"answers": [{"output": [{"say": words, "for_s": seconds}]} for words, seconds in said]}
    options = SimulatorOptions(script=Script.model_validate(script))
    given = {"GATEWAY_RECORDING__FOLDER": str(tmp_path / "recordings")}
    async with house(profile=profile, simulator=options, **given) as here, RtpPeer() as phone:
        async with Sipp(here.port, (invite(phone.port), ANSWERED, pause(9000), BYE), tmp_path / "sipp") as sipp:
            phone.talk()
            connection = await here.simulator.connection(1)
            await until(lambda: connection.spoken, what="the announcement")
            await asyncio.sleep(0.5)
            phone.say(caller_speech(1.2))
            assert await sipp.finish() == 0, sipp.output
        record, left, right = await recorded(here)
        assert record.announcement == "heard"
        assert loudest(left) < 200, "what the caller said before is not in it"
        assert loudest(right) > 2000
        events = await here.store.events()
        assert [event["announcement"] for event in events if event["event"] == "announcing"] == ["not_heard"] * 2
        heard = [(event["text"], event["cut"]) for event in events if event["event"] == "agent_heard"]
        assert heard[0][1] == "true"
        assert heard[1:] == [(words, "false") for words, _ in said[1:]]
        assert not connection.violations


async def test_the_agent_starts_and_pauses_a_recording(house: MakeHouse, tmp_path: Path) -> None:
    script = {
        "answers": [
            {"output": [{"say": "Hello.", "for_s": 0.4}, {"call": "start_recording"}]},
            {"output": [{"say": "It runs.", "for_s": 0.6}]},
            {"output": [{"call": "pause_recording"}]},
            {"output": [{"say": "Tell me the number of your card.", "for_s": 1}]},
        ]
    }
    profile = "recording: {mode: by_tool}\n    tools: {builtin: [start_recording, pause_recording]}"
    options = SimulatorOptions(script=Script.model_validate(script))
    key = info("application/dtmf-relay", "Signal=#\nDuration=160\n")  # makes the agent go on
    folder = tmp_path / "recordings"
    async with (
        house(profile=profile, simulator=options, GATEWAY_RECORDING__FOLDER=str(folder)) as here,
        RtpPeer() as phone,
    ):
        steps = (invite(phone.port), ANSWERED, pause(1500), key, pause(1800), BYE)
        async with Sipp(here.port, steps, tmp_path / "sipp") as sipp:
            phone.talk()
            connection = await here.simulator.connection(1)
            await until(lambda: len(outputs(connection)) == 2, what="two calls of tools")
            await asyncio.sleep(0.2)
            phone.say(caller_speech(2))
            assert await sipp.finish() == 0, sipp.output
        assert outputs(connection) == ["The recording runs.", "The recording is paused."]
        _, left, right = await recorded(here)
        assert loudest(left) < 200  # the number was not recorded
        assert loudest(right) > 2000
        assert 0.5 < len(right) / PHONE.bytes_of(1000) < 3
