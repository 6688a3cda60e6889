"""What the agent does beside talking: hang up, transfer, digits, a webhook."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiohttp import web

from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.simulator import Script, SimulatorOptions
from gateway.lab.speech import agent_sentences
from tests.rigs.house import House, MakeHouse
from tests.rigs.sipp import play
from tests.rigs.sipp_steps import ANSWERED, BYE, EXPECT_BYE, expect_refer, invite, pause

pytestmark = pytest.mark.e2e

GREETING = agent_sentences()[0].text


def scripted(*outputs: list[dict[str, object]]) -> SimulatorOptions:
    return SimulatorOptions(script=Script.model_validate({"answers": [{"output": output} for output in outputs]}))


async def heard(house: House) -> list[str]:
    return [event["text"] for event in await house.store.events() if event["event"] == "agent_heard"]


async def test_a_goodbye_is_heard_before_the_agent_hangs_up(house: MakeHouse, tmp_path: Path) -> None:
    options = scripted([{"sentence": 0}, {"call": "hang_up", "arguments": {"reason": "all is said"}}])
    async with house(simulator=options) as here, RtpPeer() as phone:
        phone.talk()
        sipp = await play(here.port, tmp_path / "sipp", invite(phone.port), ANSWERED, EXPECT_BYE)
        end = await here.ended_record()
        assert (end["end_reason"], end["ended_by"]) == ("agent_hung_up", "agent")
        assert await heard(here) == [GREETING]
        assert not here.simulator.connections[0].violations
        spoken_s = len(agent_sentences()[0].pcm24k) / 48_000
        assert sipp.first("BYE").at - sipp.first("ACK").at > spoken_s


async def test_a_transfer_follows_the_last_words(house: MakeHouse, tmp_path: Path) -> None:
    profile = "tools: {builtin: [transfer_call], transfer_targets: {reception: 'sip:reception@127.0.0.1:9'}}"
    options = scripted([{"sentence": 1}, {"call": "transfer_call", "arguments": {"target": "reception"}}])
    async with house(simulator=options, profile=profile) as here, RtpPeer() as phone:
        phone.talk()
        steps = (invite(phone.port), ANSWERED, expect_refer("200 OK"), EXPECT_BYE)
        sipp = await play(here.port, tmp_path / "sipp", *steps)
        assert "sip:reception@127.0.0.1:9" in sipp.first("REFER").text
        assert (await here.ended_record())["end_reason"] == "transferred"
        assert await heard(here) == [agent_sentences()[1].text]


async def test_a_failed_transfer_leaves_the_caller_with_the_agent(house: MakeHouse, tmp_path: Path) -> None:
    profile = "tools: {builtin: [transfer_call], transfer_targets: {reception: 'sip:reception@127.0.0.1:9'}}"
    options = scripted([{"call": "transfer_call", "arguments": {"target": "reception"}}], [{"sentence": 2}])
    async with house(simulator=options, profile=profile) as here, RtpPeer() as phone:
        phone.talk()
        steps = (invite(phone.port), ANSWERED, expect_refer("486 Busy Here"), pause(4000), BYE)
        await play(here.port, tmp_path / "sipp", *steps)
        outputs = [event for event in here.simulator.connections[0].items() if event["type"] == "function_call_output"]
        assert "486" in outputs[0]["output"]
        assert (await here.ended_record())["end_reason"] == "caller_hung_up"
        assert await heard(here) == [agent_sentences()[2].text]


async def test_a_webhook_answers_the_model(house: MakeHouse, tmp_path: Path) -> None:
    asked: list[dict[str, object]] = []

    async def hours(request: web.Request) -> web.Response:
        asked.append(await request.json())
        return web.json_response({"open": "9 to 5"})

    app = web.Application()
    app.router.add_post("/hours", hours)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        profile = (
            "tools: {webhooks: [{name: opening_hours, description: When we are open, "
            f"url: 'http://127.0.0.1:{port}/hours', "
            "parameters: {type: object, properties: {day: {type: string}, week: {enum: [1, 2], default: 1}}, "
            "required: [day], additionalProperties: false}}]}"
        )
        options = scripted([{"call": "opening_hours", "arguments": {"day": "monday", "week": 2}}], [{"sentence": 3}])
        async with house(simulator=options, profile=profile) as here, RtpPeer() as phone:
            phone.talk()
            await play(here.port, tmp_path / "sipp", invite(phone.port), ANSWERED, pause(3500), BYE)
            connection = here.simulator.connections[0]
            outputs = [item for item in connection.items() if item["type"] == "function_call_output"]
            assert json.loads(outputs[0]["output"]) == {"open": "9 to 5"}
            assert await heard(here) == [agent_sentences()[3].text]
            assert not connection.violations
            update = next(event for event in connection.received if event["type"] == "session.update")
            (offered,) = (tool for tool in update["session"]["tools"] if tool["name"] == "opening_hours")
            assert json.dumps(offered["parameters"]["properties"]["week"]) == '{"enum": [1, 2], "default": 1}'
    finally:
        await runner.cleanup()
    assert asked[0]["arguments"] == {"day": "monday", "week": 2}
    assert asked[0]["call"]["from"].startswith("sip:caller@")  # type: ignore[index]
