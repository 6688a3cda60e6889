"""``gateway dial`` calls somebody, lets the agent speak with them, and says how it went."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from gateway.free_port import free_port
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.simulator import SimulatorOptions
from gateway.lab.simulator.script import Script
from gateway.lab.simulator.transport.connection import Connection
from gateway.lab.speech import caller_speech
from tests.rigs.dialler import Desk, desk
from tests.rigs.house import MakeHouse
from tests.rigs.kamailio import PASSWORD, REALM, USER, Kamailio
from tests.rigs.sipp import NOBODY, Sipp, audio_port, seen_message
from tests.rigs.sipp_steps import (
    ANSWERED,
    CALLEE_BYE,
    EXPECT_ACK,
    EXPECT_BYE,
    EXPECT_CANCEL,
    EXPECT_INVITE,
    RING,
    invite,
    pause,
    refuse_call,
    respond,
    sdp,
    take_call,
)
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e

PLAN = """
agents:
  seller: {instructions: Be short., greeting: Say hello.}
routes: [{name: nobody, action: reject, code: 404}]
"""
NUMBER = "+15550100"


def greets_for(seconds: float, *more: dict[str, str]) -> SimulatorOptions:
    answers = [{"output": [{"say": "Hello.", "for_s": seconds}, *more]}]
    return SimulatorOptions(script=Script.model_validate({"answers": answers}))


def sip(port: int) -> str:
    return f"sip:desk@127.0.0.1:{port}"


def responses(connection: Connection) -> int:
    return sum(event.type == "response.create" for event in connection.events)


def loudness_from(peer: RtpPeer, at: float) -> int:
    """Return the loudest octet (mu-law, silence is 0xFF) that came after ``at``, as a distance from silence."""
    loudest = (
        0xFF - (octet | 0x80) for each in peer.reception.packets if each.arrived_at > at for octet in each.payload
    )
    return max(loudest, default=0)


async def test_the_agent_speaks_when_somebody_answers_and_hears_nothing_before(tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "callee"
    async with desk(tmp_path, PLAN, greets_for(0.8)) as here, RtpPeer() as phone:
        steps = (
            EXPECT_INVITE,
            respond("183 Session Progress", sdp(phone.port, payloads="0")),
            pause(1200),
            respond("200 OK", sdp(phone.port, payloads="0")),
            EXPECT_ACK,
            pause(6000),
            CALLEE_BYE,
        )
        async with (
            Sipp(9, steps, folder, port=port) as callee,
            here.dial(sip(port), "--agent", "seller") as call,
        ):
            asked = await seen_message(folder, "INVITE")
            connection = here.simulator.connections[0]  # nobody is called for whom there is no agent
            phone.say(caller_speech(1.2))
            phone.talk(("127.0.0.1", audio_port(asked)))
            await seen_message(folder, "SIP/2.0 183")
            await asyncio.sleep(0.8)
            assert connection.heard_ms == 0
            assert responses(connection) == 0
            await seen_message(folder, "ACK")
            await until(lambda: loudness_from(phone, 0) > 20, what="the greeting")
            await asyncio.sleep(1)
            phone.say(caller_speech(1.6))
            assert await callee.finish() == 0, callee.output
            assert await call.finish() == 0, call.output
        assert "caller hung up" in call.output
        assert connection.heard_ms > 2000
        assert len(connection.spoken) >= 2  # the greeting, and an answer to what was said
        assert not connection.violations
        record = await here.record()
        assert (record.direction, record.end_reason, record.ended_by) == ("outbound", "caller_hung_up", "caller")
        assert (record.to_uri, record.agent, record.sip_code) == (sip(port), "seller", 200)


async def test_how_nobody_came_to_the_telephone_is_told_apart(tmp_path: Path) -> None:
    """All at once: commands that call do not get in each other's way."""
    answers = {"486 Busy Here": 3, "480 Temporarily Unavailable": 4, "603 Decline": 5, "404 Not Found": 6}

    async def refused(here: Desk, status: str) -> None:
        port = free_port()
        async with (
            Sipp(9, (refuse_call(status),), tmp_path / status, port=port) as callee,
            here.dial(sip(port), "--agent", "seller") as call,
        ):
            assert await call.finish() == answers[status], call.output
            assert await callee.finish() == 0, callee.output
        assert status in call.output

    async def ringing(here: Desk) -> None:
        port = free_port()
        async with (
            Sipp(9, (EXPECT_INVITE, RING, EXPECT_CANCEL), tmp_path / "rings", port=port) as callee,
            here.dial(sip(port), "--agent", "seller", GATEWAY_CALL__RING_LIMIT_S="1.5") as call,
        ):
            assert await call.finish() == 4, call.output
            assert await callee.finish() == 0, callee.output
        assert callee.count("CANCEL") == 1
        assert "no answer within 1.5 s" in call.output
        assert "Fault: caller." in call.output

    async def to_nowhere(here: Desk) -> None:
        async with here.dial(f"{sip(free_port())};transport=tcp", "--agent", "seller") as call:
            assert await call.finish() == 7, call.output

    async with desk(tmp_path, PLAN) as here:
        await asyncio.gather(ringing(here), to_nowhere(here), *(refused(here, status) for status in answers))
        events = [event for event in await here.store.events() if event.get("state") == "ended"]
        reasons = ["busy", "declined", "no_answer", "no_answer", "no_such_number", "unreachable"]
        assert sorted(event["end_reason"] for event in events) == reasons


async def test_a_carrier_that_wants_a_digest_is_told_who_calls_and_the_trace_hides_the_digest(tmp_path: Path) -> None:
    options = greets_for(0.5, {"call": "hang_up"})
    async with (
        desk(tmp_path, PLAN, options) as here,
        Sipp(NOBODY, (take_call(), EXPECT_BYE), tmp_path / "callee") as callee,
        Kamailio(free_port(), tmp_path / "carrier", beyond=callee.port) as carrier,
    ):
        trunk = {
            "host": f"127.0.0.1:{carrier.port}",
            "register": True,
            "username": USER,
            "password_from": "carrier",
            "realm": REALM,
            "country": "DE",
            "numbers_out": "plus",
            "caller_id": "+493012345678",
            "caller_id_header": "p-asserted-identity",
        }
        given = {"GATEWAY_TRUNKS": json.dumps({"carrier": trunk}), "GATEWAY_SECRETS__CARRIER": PASSWORD}
        given |= {"GATEWAY_SIP__TRACE": "all", "GATEWAY_SIP__TRACE_FOLDER": str(tmp_path / "traces")}
        words = ("030 555-0100", "--agent", "seller", "--trunk", "carrier", "--caller-id", "+4930999")
        async with here.dial(*words, **given) as call:
            assert await call.finish() == 0, call.output
            assert await callee.finish() == 0, callee.output
        asked = callee.received("INVITE")[0]
        assert asked.first_line.startswith("INVITE sip:+49305550100@")
        assert "P-Asserted-Identity: <sip:+4930999@" in asked.text
        assert f"From: <sip:{USER}@" in asked.text
        assert carrier.registers() == 0
        assert PASSWORD not in call.output
        record = await here.record()
        assert (record.trunk, record.direction, record.end_reason) == ("carrier", "outbound", "agent_hung_up")
        assert record.sip_trace is not None
        ladder = Path(record.sip_trace)
        for told in (ladder.read_text(), ladder.with_suffix(".pcap").read_bytes().decode(errors="replace")):
            header = next(line for line in told.splitlines() if "Proxy-Authorization:" in line)
            assert re.search(r'response="?[0-9a-f]{32}', told) is None, header


async def test_what_cannot_be_dialled_is_said_in_words(tmp_path: Path) -> None:
    async with desk(tmp_path, PLAN) as here:
        trunk = {"GATEWAY_TRUNKS": json.dumps({"main": {"host": "127.0.0.1:9"}})}
        async with (
            here.dial(NUMBER, "--agent", "seler") as no_agent,
            here.dial(NUMBER, "--agent", "seller", "--trunk", "mian", **trunk) as no_trunk,
            here.dial(NUMBER, "--agent", "seller") as no_way,
        ):
            for call, words in (
                (no_agent, "there is no agent 'seler'; name one of 'seller'"),
                (no_trunk, "there is no trunk 'mian': name one of main"),
                (no_way, "is a number and needs a trunk"),
            ):
                assert await call.finish() == 1, call.output
                assert words in " ".join(call.output.split())
        assert not here.simulator.connections


async def test_a_call_out_runs_beside_a_gateway_that_serves_until_control_c_ends_it(
    house: MakeHouse, tmp_path: Path
) -> None:
    port, folder, first = free_port(), tmp_path / "callee", free_port() // 2 * 2 % 20000 + 30000
    shared = {"GATEWAY_SIP__RTP_PORT_MIN": str(first), "GATEWAY_SIP__RTP_PORT_MAX": str(first + 99)}
    drain = {"GATEWAY_CALL__DRAIN_LIMIT_S": "0.1"}
    (tmp_path / "desk").mkdir()
    async with house(**shared, **drain) as serving, desk(tmp_path / "desk", PLAN) as here:
        shared["GATEWAY_SIP__PORT"] = str(serving.port)  # as in one configuration file
        async with (
            Sipp(serving.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path / "caller") as caller,
            Sipp(9, (take_call(6000), EXPECT_BYE), folder, port=port) as callee,
        ):
            taken = await seen_message(tmp_path / "caller", "SIP/2.0 200")
            async with here.dial(sip(port), "--agent", "seller", **shared) as call:
                placed = await seen_message(folder, "INVITE")
                assert audio_port(placed) != audio_port(taken)
                await seen_message(folder, "ACK")
                await asyncio.sleep(0.3)
                call.interrupt()
                assert await call.finish() == 1, call.output
            assert await callee.finish() == 0, callee.output
            assert not [event for event in await serving.store.events() if event.get("state") == "ended"]
            await serving.gateway.stop()
            assert await caller.finish() == 0, caller.output
        assert "shutdown: stopped by the operator" in call.output
        assert here.simulator.connections[0].closed_by == "client"
        record = await here.record()
        assert (record.end_reason, record.ended_by) == ("shutdown", "gateway")
