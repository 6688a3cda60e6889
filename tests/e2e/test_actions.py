"""Every action of a dialplan, reached by a real call."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from gateway.free_port import free_port
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.speech import caller_speech
from gateway.sip.core.address import parse_address, split_list
from tests.rigs.house import House, MakeHouse
from tests.rigs.sipp import Sipp, play
from tests.rigs.sipp_steps import (
    ACK_REFUSAL,
    ANSWERED,
    BYE,
    CALLEE_BYE,
    EXPECT_BYE,
    info,
    invite,
    pause,
    refuse_call,
    refused,
    take_call,
)
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e

SOUNDS = Path(__file__).parents[2] / "dialplans" / "sounds"
AGENTS = """
agents:
  front: {instructions: Be kind., greeting: Say hello.}
  reader: {instructions: Read what you are told.}
  lost: {instructions: Nobody hears this., model: "no such model"}
"""
EARLY = '<recv response="100" optional="true"/>\n<recv response="180" optional="true"/>\n<recv response="183"/>'
KEYS = {
    (key, nth): info("application/dtmf-relay", f"Signal={key}\nDuration=160\n", cseq=2 + nth)
    for key in (1, 2, 9)
    for nth in (1, 2)
}
"""A key pressed, by the key and its place among those of the call."""


def plan(*steps: str) -> str:
    """A plan with one route for each step: the first for 1000, the next for 1001."""
    routes = "\n".join(f"  - {{name: r{n}, match: {{to: '100{n}'}}, {step}}}" for n, step in enumerate(steps))
    return f"{AGENTS}routes:\n{routes}\n".replace("SOUNDS", str(SOUNDS))


def sip(port: int) -> str:
    return f"sip:desk@127.0.0.1:{port}"


async def sessions(house: House, wanted: int) -> None:
    await until(lambda: sum(not each.refused for each in house.simulator.connections) >= wanted, what="a session")


async def until_ended(house: House, calls: int) -> None:
    async with asyncio.timeout(40):
        while sum(event.get("state") == "ended" for event in await house.store.events()) < calls:
            await asyncio.sleep(0.02)


def loud(peer: RtpPeer) -> bool:
    return max(peer.reception.received_pcm(), default=0) > 0


async def test_a_call_is_refused_with_its_code_and_reason(house: MakeHouse, tmp_path: Path) -> None:
    step = "action: reject, code: 603, reason: 'Not {{ caller }} again'"
    async with house(dialplan=plan(step)) as here:
        sipp = await play(here.port, tmp_path / "sipp", invite(), refused(603))
        assert sipp.first("SIP/2.0 603").first_line == "SIP/2.0 603 Not caller again"
        record = await here.ended_record()
        assert (record["end_reason"], record["sip_code"]) == ("rejected", "603")
        assert not here.simulator.connections


async def test_a_refusal_is_announced_before_the_answer(house: MakeHouse, tmp_path: Path) -> None:
    step = "action: reject, code: 486, announcement: SOUNDS/busy.wav"
    async with house(dialplan=plan(step)) as here, RtpPeer(caller_speech(1)) as peer:
        steps = (invite(peer.port, payloads="0"), EARLY, '<recv response="486" timeout="20000"/>', ACK_REFUSAL)
        sipp = await play(here.port, tmp_path / "sipp", *steps)
        assert loud(peer)
        assert sipp.first("SIP/2.0 486").at - sipp.first("SIP/2.0 183").at > 1
        assert not sipp.count("SIP/2.0 200")


async def test_a_redirection_names_the_contacts_and_no_other(house: MakeHouse, tmp_path: Path) -> None:
    step = "action: redirect, contacts: ['sip:a@192.0.2.1', 'sip:{{ called }}@192.0.2.2']"
    async with house(dialplan=plan(step)) as here:
        sipp = await play(here.port, tmp_path / "sipp", invite(), refused(302))
        text = sipp.first("SIP/2.0 302").text
        contacts = [line.strip() for line in text.splitlines() if line.startswith("Contact")]
        assert contacts == ["Contact: <sip:a@192.0.2.1>", "Contact: <sip:1000@192.0.2.2>"]


async def test_an_announcement_is_played_and_the_call_ended(house: MakeHouse, tmp_path: Path) -> None:
    step = "action: announce, files: [SOUNDS/please-hold.wav, SOUNDS/goodbye.wav]"
    async with house(dialplan=plan(step)) as here, RtpPeer(caller_speech(1)) as peer:
        await play(here.port, tmp_path / "sipp", invite(peer.port, payloads="0"), ANSWERED, EXPECT_BYE)
        assert loud(peer)
        record = await here.ended_record()
        assert (record["end_reason"], record["ended_by"]) == ("completed", "gateway")


async def test_an_early_announcement_leads_to_the_agent(house: MakeHouse, tmp_path: Path) -> None:
    step = "action: announce, files: SOUNDS/please-hold.wav, answer: false, then: front"
    async with house(dialplan=plan(step)) as here, RtpPeer(caller_speech(1)) as peer:
        steps = (invite(peer.port, payloads="0"), EARLY, ANSWERED, pause(1000), BYE)
        sipp = await play(here.port, tmp_path / "sipp", *steps)
        await sessions(here, 1)
        assert sipp.first("SIP/2.0 200").at - sipp.first("SIP/2.0 183").at > 0.5


async def test_a_menu_follows_its_keys_repeats_and_gives_up(house: MakeHouse, tmp_path: Path) -> None:
    menu = "action: menu, prompt: SOUNDS/closed-menu.wav, keys: {1: front, 2: 'SOUNDS/goodbye.wav'}"
    impatient = f"{menu}, timeout_s: 0.2, retries: 1, otherwise: 480"
    async with house(dialplan=plan(menu, impatient)) as here:
        await play(
            here.port,
            tmp_path / "one",
            invite(),
            ANSWERED,
            pause(300),
            KEYS[9, 1],
            pause(300),
            KEYS[1, 2],
            pause(1500),
            BYE,
        )
        await sessions(here, 1)
        await play(here.port, tmp_path / "two", invite(), ANSWERED, pause(300), KEYS[2, 1], EXPECT_BYE)
        assert len(here.simulator.connections) == 1
        await play(here.port, tmp_path / "none", invite(), ANSWERED, EXPECT_BYE, service="1001")
        names = [event["event"] for event in await here.store.events()]
        assert names.count("digit_pressed") == 3


async def test_an_agent_reads_a_menu_and_a_key_ends_it(house: MakeHouse, tmp_path: Path) -> None:
    menu = "action: menu, say: 'Press one.', agent: reader, keys: {1: 'SOUNDS/goodbye.wav'}"
    async with house(dialplan=plan(menu)) as here:
        await play(here.port, tmp_path / "sipp", invite(), ANSWERED, pause(1000), KEYS[1, 1], EXPECT_BYE)
        await sessions(here, 1)
        await until(lambda: here.simulator.connections[0].closed_at is not None, what="the agent's close")


async def test_somebody_is_called_and_joined_and_hears_the_caller(house: MakeHouse, tmp_path: Path) -> None:
    port = free_port()
    async with house(dialplan=plan(f"action: dial, to: '{sip(port)}'")) as here:
        async with RtpPeer(caller_speech(4)) as caller, RtpPeer(caller_speech(1)) as callee:
            steps = (take_call(callee.port), pause(2500), CALLEE_BYE)
            async with Sipp(here.port, steps, tmp_path / "callee", port=port) as called:
                caller.talk()
                await play(here.port, tmp_path / "caller", invite(caller.port, payloads="0"), ANSWERED, EXPECT_BYE)
                assert await called.finish() == 0, called.output
            assert loud(callee)
        record = await here.ended_record()
        assert record["end_reason"] == "connected"
        assert not here.simulator.connections


async def test_the_caller_hanging_up_ends_the_call_to_somebody_else(house: MakeHouse, tmp_path: Path) -> None:
    port = free_port()
    async with house(
        dialplan=plan(f"action: dial, to: '{sip(port)}', headers: {{X-From: '{{{{ caller }}}}'}}")
    ) as here:
        async with Sipp(here.port, (take_call(6000), EXPECT_BYE), tmp_path / "callee", port=port) as called:
            await play(here.port, tmp_path / "caller", invite(), ANSWERED, pause(500), BYE)
            assert await called.finish() == 0, called.output
        asked = called.first("INVITE").text
        assert "X-From: caller" in asked
        assert re.search(r"^From: <sip:caller@", asked, re.MULTILINE), asked


async def test_who_is_called_sees_who_calls_and_nobody_can_forge_it(house: MakeHouse, tmp_path: Path) -> None:
    port = free_port()
    trunks = {
        "inn": {"host": "127.0.0.1", "country": "DE", "numbers": "e164-without-plus", "trust_identity": True},
        "out": {"host": f"127.0.0.1:{port}", "caller_id_header": "both", "numbers": "plus"},
    }
    forged = '{P-Called-Party-ID: \'"{{ headers["X-Name"] }}" <sip:{{ headers["X-Name"] }}@carrier.example>\'}'
    step = f"action: dial, to: '+493087654321', trunk: out, headers: {forged}"
    evil = 'x" <sip:+4912345@h>, <sip:+4912345@h>;y="'
    more = f"P-Asserted-Identity: <sip:447700900123@carrier.example>\n      X-Name: {evil}\n      "
    call = invite().replace("<sip:caller@", "<sip:+4912345678@", 1).replace("Max-Forwards", f"{more}Max-Forwards")
    async with house(dialplan=plan(step), GATEWAY_TRUNKS=json.dumps(trunks)) as here:
        async with Sipp(here.port, (refuse_call("486 Busy Here"),), tmp_path / "callee", port=port) as called:
            await play(here.port, tmp_path / "caller", call, refused(486))
            assert await called.finish() == 0, called.output
        asked = called.first("INVITE").text
        caller = "<sip:+447700900123@127.0.0.1;user=phone>"
        assert f"\nFrom: {caller};tag=" in asked
        assert "\nTo: <sip:+493087654321@127.0.0.1;user=phone>" in asked
        assert f"\nP-Asserted-Identity: {caller}" in asked
        assert "\nDiversion: <sip:1000@127.0.0.1>;reason=deflection" in asked
        written = re.search(r"^P-Called-Party-ID: (.*)$", asked, re.MULTILINE)
        assert written is not None
        (party,) = split_list(written[1].strip())
        record = await here.store.call((await here.ended_record())["call_id"])
        assert record is not None
        assert (record.caller, record.called) == ("+447700900123", "1000")
        assert (parse_address(party).display, parse_address(party).uri.host) == (evil, "carrier.example")


async def test_a_hunt_goes_past_the_dead_and_the_busy_to_the_agent(house: MakeHouse, tmp_path: Path) -> None:
    port = free_port()
    dead = "{action: dial, to: 'sip:nobody@127.0.0.1:9', ring_limit_s: 1}"
    busy = f"{{action: dial, to: '{sip(port)}'}}"
    async with house(dialplan=plan(f"action: hunt, steps: [{dead}, {busy}, lost, front]")) as here:
        async with Sipp(here.port, (refuse_call("486 Busy Here"),), tmp_path / "callee", port=port) as called:
            await play(here.port, tmp_path / "caller", invite(), ANSWERED, pause(1000), BYE)
            assert await called.finish() == 0, called.output
        await sessions(here, 1)


async def test_a_dialled_refusal_reaches_the_caller_with_its_code(house: MakeHouse, tmp_path: Path) -> None:
    port = free_port()
    async with house(dialplan=plan(f"action: dial, to: '{sip(port)}'")) as here:
        async with Sipp(here.port, (refuse_call("486 Busy Here"),), tmp_path / "callee", port=port) as called:
            await play(here.port, tmp_path / "caller", invite(), refused(486))
            assert await called.finish() == 0, called.output
        assert (await here.ended_record())["end_reason"] == "busy"


async def test_max_forwards_is_handed_on_and_a_loop_ends(house: MakeHouse, tmp_path: Path) -> None:
    port, own = free_port(), free_port()
    onward, loop = f"action: dial, to: '{sip(port)}'", f"action: dial, to: 'sip:1001@127.0.0.1:{own}'"
    async with house(dialplan=plan(onward, loop), GATEWAY_SIP__PORT=str(own)) as here:
        async with Sipp(9, (refuse_call("486 Busy Here"),), tmp_path / "callee", port=port) as callee:
            few = invite().replace("Max-Forwards: 70", "Max-Forwards: 9")
            await play(here.port, tmp_path / "caller", few, refused(486))
            assert await callee.finish() == 0, callee.output
        assert [line for line in callee.first("INVITE").text.splitlines() if "Max-Forwards" in line] == [
            "Max-Forwards: 8"
        ]
        round_about = invite().replace("Max-Forwards: 70", "Max-Forwards: 2")
        await play(here.port, tmp_path / "loop", round_about, refused(483), service="1001")


@pytest.mark.parametrize(
    ("status", "more", "told", "reason"),
    [
        ("302 Moved Temporarily", "Contact: <sip:2003@127.0.0.9>", (480, 'cause=23;text="Redirected"'), "redirected"),
        ("480 Temporarily Unavailable", "Reason: Q.850;cause=34", (480, "cause=34;"), "congestion"),
        ("500 Server Internal Error", "Reason: Q.850;cause=17", (486, "cause=17;"), "busy"),
    ],
)
async def test_a_callers_side_is_told_the_true_cause(
    house: MakeHouse, tmp_path: Path, status: str, more: str, told: tuple[int, str], reason: str
) -> None:
    port = free_port()
    async with (
        house(dialplan=plan(f"action: dial, to: '{sip(port)}'")) as here,
        Sipp(9, (refuse_call(status, f"\n      {more}"),), tmp_path / "callee", port=port) as callee,
    ):
        caller = await play(here.port, tmp_path / "caller", invite(), refused(told[0]))
        assert told[1] in caller.first(f"SIP/2.0 {told[0]}").text
        assert await callee.finish() == 0, callee.output
        record = await here.ended_record()
        assert (record["end_reason"], record["sip_code"], record["ended_by"]) == (reason, status[:3], "gateway")
        assert ("sip:2003@127.0.0.9" in record["end_detail"]) == (reason == "redirected")


async def test_an_agent_that_cannot_be_had_is_replaced_by_what_the_plan_says(house: MakeHouse, tmp_path: Path) -> None:
    step = "agent: front, on_failure: {action: announce, files: SOUNDS/goodbye.wav}"
    async with house("refuse=invalid_api_key", dialplan=plan(step)) as here, RtpPeer(caller_speech(1)) as peer:
        await play(here.port, tmp_path / "sipp", invite(peer.port, payloads="0"), ANSWERED, EXPECT_BYE)
        assert loud(peer)


async def test_a_call_beyond_a_limit_takes_another_step(house: MakeHouse, tmp_path: Path) -> None:
    limited = "agent: front, limits: {calls_per_day: 1, over: 480}"
    one_each = "agent: front, limits: {per_caller: {max_calls: 1}}"
    async with house(dialplan=plan(limited, one_each)) as here:
        await play(here.port, tmp_path / "first", invite(), ANSWERED, pause(300), BYE)
        await play(here.port, tmp_path / "second", invite(), refused(480))
        await until_ended(here, 2)
        assert (await here.ended_record())["end_reason"] == "rejected"
        steps = (invite(), ANSWERED, pause(1500), BYE)
        async with Sipp(here.port, steps, tmp_path / "third", service="1001") as third:
            await sessions(here, 2)
            await play(here.port, tmp_path / "fourth", invite(), refused(486), service="1001")
            assert await third.finish() == 0, third.output
        await asyncio.sleep(0.2)
        await play(here.port, tmp_path / "fifth", invite(), ANSWERED, pause(300), BYE, service="1001")


async def test_a_call_is_cut_at_its_routes_limit(house: MakeHouse, tmp_path: Path) -> None:
    async with house(dialplan=plan("agent: front, limits: {max_minutes: 0.02}, metadata: {campaign: spring}")) as here:
        await play(here.port, tmp_path / "sipp", invite(), ANSWERED, EXPECT_BYE)
        record = await here.ended_record()
        assert record["end_reason"] == "max_length"
        call = await here.store.call(record["call_id"])
        assert call is not None
        assert (call.route, call.agent, call.metadata) == ("r0", "front", '{"campaign": "spring"}')
        assert call.dialplan is not None
        assert len(call.dialplan) == 12


async def test_a_ringing_caller_waits_as_long_as_the_plan_says(house: MakeHouse, tmp_path: Path) -> None:
    async with house(dialplan=plan("action: agent, agent: front, answer_after_s: 1.5")) as here:
        sipp = await play(here.port, tmp_path / "sipp", invite(), ANSWERED, BYE)
        assert sipp.first("SIP/2.0 200").at - sipp.first("SIP/2.0 180").at > 1.3
