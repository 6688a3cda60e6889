"""A caller who speaks over the agent's goodbye is heard."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.simulator import Script, SimulatorOptions
from gateway.lab.speech import caller_speech
from tests.rigs.house import MakeHouse
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import ANSWERED, EXPECT_BYE, invite
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e

SCRIPT = {
    "answers": [
        {"output": [{"say": "Thank you for calling, goodbye.", "for_s": 3}, {"call": "hang_up"}]},
        {"output": [{"say": "Of course.", "for_s": 0.8}]},
        {"output": [{"say": "Goodbye.", "for_s": 0.6}, {"call": "hang_up"}]},
    ]
}


async def test_a_caller_who_interrupts_the_goodbye_is_answered_and_the_agent_hangs_up_later(
    house: MakeHouse, tmp_path: Path
) -> None:
    options = SimulatorOptions(script=Script.model_validate(SCRIPT))
    async with house(simulator=options) as here, RtpPeer() as phone:
        async with Sipp(here.port, (invite(phone.port), ANSWERED, EXPECT_BYE), tmp_path / "sipp") as sipp:
            phone.talk()
            connection = await here.simulator.connection(1)
            await until(lambda: connection.spoken, what="the goodbye")
            await asyncio.sleep(0.6)
            phone.say(caller_speech(1.2))  # one more question
            await until(lambda: len(connection.spoken) > 1, what="the answer")
            await asyncio.sleep(1)
            phone.say(caller_speech(0.8))  # thank you
            assert await sipp.finish() == 0, sipp.output
        assert not connection.violations
        end = await here.ended_record()
        assert (end["end_reason"], end["ended_by"]) == ("agent_hung_up", "agent")
        events = await here.store.events()
        heard = [(event["text"], event["cut"]) for event in events if event["event"] == "agent_heard"]
        assert heard[0][1] == "true", heard
        assert heard[1:] == [("Of course.", "false"), ("Goodbye.", "false")]
        names = [event["event"] for event in events]
        assert names.count("hang_up_given_up") == 1
        assert names.count("hang_up_asked") == 2


async def test_a_caller_who_interrupts_the_goodbye_of_a_call_that_got_too_long_is_answered_before_its_end(
    house: MakeHouse, tmp_path: Path
) -> None:
    said = (("Hello.", 0.5), ("The time is over.", 3), ("I am sorry, goodbye.", 0.8))
    answers = [{"output": [{"say": words, "for_s": seconds}]} for words, seconds in said]
    options = SimulatorOptions(script=Script.model_validate({"answers": answers}))
    async with house(simulator=options, GATEWAY_CALL__MAX_LENGTH_S="2") as here, RtpPeer() as phone:
        async with Sipp(here.port, (invite(phone.port), ANSWERED, EXPECT_BYE), tmp_path / "sipp") as sipp:
            phone.talk()
            connection = await here.simulator.connection(1)
            await until(lambda: len(connection.spoken) > 1, what="the goodbye")
            await asyncio.sleep(0.6)
            phone.say(caller_speech(1.2))
            assert await sipp.finish() == 0, sipp.output
        assert not connection.violations
        assert (await here.ended_record())["end_reason"] == "max_length"
        events = await here.store.events()
        heard = [(event["text"], event["cut"]) for event in events if event["event"] == "agent_heard"]
        assert [text for text, cut in heard if cut == "false"] == ["Hello.", "I am sorry, goodbye."]
        assert [cut for _, cut in heard] == ["false", "true", "false"]
