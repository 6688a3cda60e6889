"""One call as a trace: from an INVITE that names one, through set-up, turns and a tool, to an OTLP receiver."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web

from gateway.audio.pcm import PHONE
from gateway.audio.wav import read_wav
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.simulator import Script, SimulatorOptions
from gateway.lab.speech import caller_wav
from tests.rigs.house import MakeHouse
from tests.rigs.otlp_receiver import OtlpReceiver
from tests.rigs.sipp import Sipp, play
from tests.rigs.sipp_steps import ANSWERED, BYE, expect_refer, invite, pause
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e

TRACE, CALLER_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{CALLER_SPAN}-01"


def traced_invite(port: int) -> str:
    return invite(port).replace("Content-Type:", f"traceparent: {HEADER}\n      Content-Type:")


async def test_a_call_from_a_trusted_trunk_is_one_trace_with_its_set_up_turns_and_tools(
    house: MakeHouse, tmp_path: Path
) -> None:
    asked: list[str] = []

    async def hours(request: web.Request) -> web.Response:
        asked.append(request.headers["traceparent"])
        return web.json_response({"open": "9 to 5"})

    app = web.Application()
    app.router.add_post("/hours", hours)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    profile = (
        "tools: {webhooks: [{name: opening_hours, description: When we are open, "
        f"url: 'http://127.0.0.1:{runner.addresses[0][1]}/hours', parameters: {{type: object}}}}]}}"
    )
    answers = [{"output": [{"call": "opening_hours", "arguments": {}}]}, {"output": [{"sentence": 3}]}]
    options = SimulatorOptions(script=Script.model_validate({"answers": answers}))
    trunks = {"GATEWAY_TRUNKS": json.dumps({"pbx": {"host": "127.0.0.1"}})}
    async with OtlpReceiver() as receiver:
        tracing = {"GATEWAY_TRACING__ENDPOINT": receiver.url, "GATEWAY_TRACING__TRUSTED_TRUNKS": "pbx"}
        async with house(simulator=options, profile=profile, **trunks, **tracing) as here, RtpPeer() as phone:
            phone.talk()
            await play(here.port, tmp_path / "sipp", traced_invite(phone.port), ANSWERED, pause(3500), BYE)
            end = await here.ended_record()
            await until(lambda: any(span.name == "call inbound" for span in receiver.spans))
            record = await here.store.call(end["call_id"])
    await runner.cleanup()
    spans = {span.name: span for span in receiver.spans}
    assert spans.keys() >= {"call inbound", "setup", "turn", "execute_tool opening_hours"}, receiver.tree()
    call, tool = spans["call inbound"], spans["execute_tool opening_hours"]
    assert {span.trace_id.hex() for span in receiver.spans} == {TRACE}
    assert call.parent_span_id.hex() == CALLER_SPAN
    assert spans["setup"].parent_span_id == call.span_id
    turns = {span.span_id for span in receiver.spans if span.name == "turn"}
    assert turns
    assert tool.parent_span_id in turns
    assert asked == [f"00-{TRACE}-{tool.span_id.hex()}-01"]
    assert record is not None
    assert record.traceparent == end["traceparent"] == f"00-{TRACE}-{call.span_id.hex()}-01"
    known = receiver.attributes_of(call)
    assert known["gateway.call.id"] == end["call_id"]
    assert (known["gateway.route"], known["gateway.trunk"]) == ("everyone", "pbx")
    assert (known["gateway.end_reason"], known["gateway.fault"]) == ("caller_hung_up", "nobody")
    assert call.start_time_unix_nano <= spans["setup"].start_time_unix_nano <= spans["setup"].end_time_unix_nano
    assert receiver.resource["service.name"] == "sip-voice-gateway"
    text = repr([receiver.attributes_of(span) for span in receiver.spans])
    assert "sip:" not in text


async def test_an_invite_of_a_stranger_begins_a_trace_of_its_own(house: MakeHouse, tmp_path: Path) -> None:
    async with OtlpReceiver() as receiver:
        async with house(GATEWAY_TRACING__ENDPOINT=receiver.url) as here, RtpPeer() as phone:
            phone.talk()
            await play(here.port, tmp_path / "sipp", traced_invite(phone.port), ANSWERED, pause(500), BYE)
            await here.ended_record()
        assert {span.name for span in receiver.spans} >= {"call inbound", "setup"}  # sent at the worker's end
    (trace_id,) = {span.trace_id.hex() for span in receiver.spans}
    assert trace_id != TRACE
    (call,) = (span for span in receiver.spans if span.name == "call inbound")
    assert call.parent_span_id == b""


async def test_a_receiver_that_is_away_is_no_matter_to_a_call(house: MakeHouse, tmp_path: Path) -> None:
    async with house(GATEWAY_TRACING__ENDPOINT="http://127.0.0.1:9") as here, RtpPeer() as phone:
        phone.talk()
        await play(here.port, tmp_path / "sipp", invite(phone.port), ANSWERED, pause(1500), BYE)
        assert (await here.ended_record())["end_reason"] == "caller_hung_up"
        await until(lambda: "trace_receiver_away" in here.gateway.output)


async def test_turns_an_interruption_and_a_failed_transfer_are_seen_in_a_trace(
    house: MakeHouse, tmp_path: Path
) -> None:
    profile = "tools: {builtin: [transfer_call], transfer_targets: {reception: 'sip:reception@127.0.0.1:9'}}"
    transfer: dict[str, object] = {"call": "transfer_call", "arguments": {"target": "reception"}}
    outputs: list[dict[str, object]] = [{"sentence": 0}, {"sentence": 3}, transfer, {"sentence": 2}]
    script = Script.model_validate({"answers": [{"output": [output]} for output in outputs]})
    steps = (ANSWERED, expect_refer("486 Busy Here"), pause(4000), BYE)
    _, pcm = read_wav(caller_wav())
    speech = pcm[: PHONE.bytes_of(2500)]
    async with OtlpReceiver() as receiver:
        given = {"GATEWAY_TRACING__ENDPOINT": receiver.url}
        async with (
            house(simulator=SimulatorOptions(script=script), profile=profile, **given) as here,
            RtpPeer() as phone,
            Sipp(here.port, (invite(phone.port, payloads="0"), *steps), tmp_path / "sipp") as sipp,
        ):
            phone.talk()
            await here.happened("session")
            await asyncio.sleep(1)
            for turn in (1, 2):  # the first one interrupts the greeting
                phone.say(speech)
                await here.happened("turn", times=turn)
            assert await sipp.finish() == 0, sipp.output
            await here.ended_record()
    spans = receiver.spans
    turns = sorted((span for span in spans if span.name == "turn"), key=lambda span: span.start_time_unix_nano)
    assert len(turns) >= 3, receiver.tree()
    assert receiver.attributes_of(turns[0])["gateway.turn.cut"] is True
    assert any("gateway.turn.latency_ms" in receiver.attributes_of(turn) for turn in turns[1:])
    (transfer_span,) = (span for span in spans if span.name == "transfer")
    assert receiver.attributes_of(transfer_span)["error.type"] == "sip_486"
