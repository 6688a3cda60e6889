"""An agent transfers a caller: by REFER, or over a call of the gateway's own; what both sides hear, and what fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.free_port import free_port
from gateway.lab.callers.rtp_peer import RtpPeer
from tests.rigs.house import MakeHouse
from tests.rigs.scripts import BACK, desk, scripted
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import (
    ANSWERED,
    BYE,
    CALLEE_BYE,
    EXPECT_ACK,
    EXPECT_BYE,
    EXPECT_CANCEL,
    EXPECT_INVITE,
    RING,
    expect_refer,
    info,
    invite,
    pause,
    refuse_call,
    refuse_refer,
    respond,
    sdp,
    take_call,
)
from tests.rigs.tones import until_they_hear_each_other, until_waiting_is_heard
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e

NO_REFER = refuse_refer("405 Method Not Allowed")
LIMIT_S = 40.0
TRANSFER: dict[str, object] = {"call": "transfer_call", "arguments": {"target": "desk"}}


def trunk(transfers: str) -> dict[str, str]:
    """Settings under which every caller is one of a trunk with this policy."""
    return {"GATEWAY_TRUNKS": json.dumps({"pbx": {"host": "127.0.0.1", "transfers": transfers}})}


@pytest.mark.parametrize(("policy", "first_leaves"), [("refer_or_bridge", "caller"), ("bridge", "callee")])
async def test_caller_and_target_talk_until_one_of_them_leaves(
    house: MakeHouse, tmp_path: Path, policy: str, first_leaves: str
) -> None:
    port = free_port()
    refers = (NO_REFER,) if policy == "refer_or_bridge" else ()
    caller_end, callee_end = pause(4000) + BYE, EXPECT_BYE
    if first_leaves == "callee":
        caller_end, callee_end = EXPECT_BYE, pause(2500) + CALLEE_BYE
    async with (
        house(simulator=scripted([TRANSFER]), profile=desk(port), **trunk(policy)) as here,
        RtpPeer(looped=True) as caller,
        RtpPeer(looped=True) as callee,
    ):
        answers = (EXPECT_INVITE, RING, pause(900), respond("200 OK", sdp(callee.port)), EXPECT_ACK)
        async with (
            Sipp(here.port, (*answers, callee_end), tmp_path / "callee", port=port) as called,
            Sipp(here.port, (invite(caller.port), ANSWERED, *refers, caller_end), tmp_path / "caller") as calling,
        ):
            caller.talk()
            callee.talk()
            await here.happened("second_ringing")
            await until_waiting_is_heard(caller)
            await here.happened("joined")
            await until_they_hear_each_other(caller, callee)
            upstream = here.simulator.connections[0]
            assert upstream.closed_at is not None
            assert not upstream.violations
            assert await calling.finish() == 0, calling.output
            assert await called.finish() == 0, called.output
        bye = (called if first_leaves == "caller" else calling).first("BYE").text
        assert "Reason: Q.850;cause=16" in bye
        assert "SIP;cause" not in bye
        end = await here.ended_record()
        assert (end["end_reason"], end["end_detail"]) == ("transferred", f"sip:desk@127.0.0.1:{port}")


async def test_a_caller_whose_target_is_busy_is_back_with_the_agent(house: MakeHouse, tmp_path: Path) -> None:
    port = free_port()
    script = scripted([TRANSFER], BACK)
    async with house(simulator=script, profile=desk(port)) as here, RtpPeer() as caller:
        steps = (invite(caller.port), ANSWERED, refuse_refer("603 Decline"), EXPECT_BYE)
        async with (
            Sipp(here.port, (refuse_call("486 Busy Here"),), tmp_path / "callee", port=port) as called,
            Sipp(here.port, steps, tmp_path / "caller") as calling,
        ):
            caller.talk()
            assert await calling.finish() == 0, calling.output
            assert await called.finish() == 0, called.output
        assert here.tool_outputs()[0] == "The transfer failed: 486 Busy Here. The caller is still here."
        assert await here.happened("agent_heard")
        assert (await here.ended_record())["end_reason"] == "agent_hung_up"


async def test_a_target_that_rings_for_ever_is_given_up(house: MakeHouse, tmp_path: Path) -> None:
    port = free_port()
    options = {"GATEWAY_CALL__RING_LIMIT_S": "1", **trunk("bridge")}
    async with (
        house(simulator=scripted([TRANSFER], BACK), profile=desk(port), **options) as here,
        RtpPeer() as caller,
    ):
        async with (
            Sipp(here.port, (EXPECT_INVITE, RING, EXPECT_CANCEL), tmp_path / "callee", port=port) as called,
            Sipp(here.port, (invite(caller.port), ANSWERED, EXPECT_BYE), tmp_path / "caller") as calling,
        ):
            caller.talk()
            assert await calling.finish() == 0, calling.output
            assert await called.finish() == 0, called.output
        assert "no answer within 1 s" in here.tool_outputs()[0]
        assert await here.happened("agent_heard")


async def test_a_trunk_that_only_refers_is_never_bridged(house: MakeHouse, tmp_path: Path) -> None:
    port = free_port()
    async with (
        house(simulator=scripted([TRANSFER], BACK), profile=desk(port), **trunk("refer")) as here,
        RtpPeer() as caller,
    ):
        caller.talk()
        steps = (invite(caller.port), ANSWERED, NO_REFER, EXPECT_BYE)
        async with Sipp(here.port, steps, tmp_path / "caller") as calling:
            assert await calling.finish() == 0, calling.output
        assert here.tool_outputs()[0] == "The transfer failed: 405 Method Not Allowed. The caller is still here."
        names = [event["event"] for event in await here.store.events()]
        assert "second_closed" not in names
        assert (await here.ended_record())["end_reason"] == "agent_hung_up"


@pytest.mark.parametrize(
    ("outcome", "state"),
    [("", "terminated;reason=noresource"), ("200 OK", "active;expires=30")],
    ids=["without a body", "still active"],
)
async def test_a_transfer_is_done_however_the_far_end_says_so(
    house: MakeHouse, tmp_path: Path, outcome: str, state: str
) -> None:
    unsubscribed = '<recv request="SUBSCRIBE" optional="true"/>' if outcome else ""
    steps = (invite(), ANSWERED, expect_refer(outcome, state), unsubscribed, EXPECT_BYE)
    async with house(simulator=scripted([TRANSFER], BACK), profile=desk(9), **trunk("refer")) as here:
        async with Sipp(here.port, steps, tmp_path / "caller") as calling:
            assert await calling.finish() == 0, calling.output
        assert (await here.ended_record())["end_reason"] == "transferred"


@pytest.mark.parametrize("refused", [False, True], ids=["referred", "bridged"])
async def test_a_key_transfers_the_caller_without_the_agent(house: MakeHouse, tmp_path: Path, refused: bool) -> None:
    port = free_port()
    profile = f"keypad: {{shortcuts: {{0: 'sip:desk@127.0.0.1:{port}'}}}}"
    async with house(profile=profile) as here, RtpPeer(looped=True) as caller, RtpPeer(looped=True) as callee:
        key = info("application/dtmf-relay", "Signal=0\nDuration=160\n", cseq=2)
        refer = NO_REFER if refused else expect_refer("200 OK")
        steps = (invite(caller.port), ANSWERED, pause(600), key, refer, EXPECT_BYE)
        called_steps = (take_call(callee.port), pause(2000), CALLEE_BYE)
        async with (
            Sipp(here.port, called_steps, tmp_path / "callee", port=port) as called,
            Sipp(here.port, steps, tmp_path / "caller") as calling,
        ):
            caller.talk()
            callee.talk()
            if refused:
                await here.happened("joined")
                await until_they_hear_each_other(caller, callee)
                assert await called.finish() == 0, called.output
            assert await calling.finish() == 0, calling.output
        assert f"Refer-To: <sip:desk@127.0.0.1:{port}>" in calling.first("REFER").text
        end = await here.ended_record()
        assert (end["end_reason"], end["end_detail"]) == ("transferred", f"sip:desk@127.0.0.1:{port}")


async def test_a_caller_stays_with_the_agent_when_every_line_is_taken(house: MakeHouse, tmp_path: Path) -> None:
    port = free_port()
    short: dict[str, object] = {"say": "Hello.", "for_s": 0.3}
    script = scripted([short], [short], [short], [TRANSFER], BACK, over="simulator")
    async with house(simulator=script, profile=desk(port), **trunk("bridge")) as here, RtpPeer() as caller:
        others = (invite(), ANSWERED, pause(4200), BYE)
        async with Sipp(here.port, others, tmp_path / "others", calls=3, at_once=3) as busy:
            connections = here.simulator.connections
            await until(lambda: sum(each.has_spoken for each in connections) == 3, what="three calls")
            caller.talk()
            steps = (invite(caller.port), ANSWERED, EXPECT_BYE)
            async with Sipp(here.port, steps, tmp_path / "caller") as calling:
                assert await calling.finish() == 0, calling.output
            assert "The transfer failed: 503" in here.tool_outputs()[0]
            heard = [event["call_id"] for event in await here.store.events() if event["event"] == "agent_heard"]
            assert heard.count((await here.happened("transfer_asked"))["call_id"]) == 1
            assert await busy.finish() == 0, busy.output


async def test_a_dialled_party_that_leaves_before_the_callers_ack_ends_the_call_in_order(
    house: MakeHouse, tmp_path: Path
) -> None:
    port = free_port()
    agents = "agents:\n  nobody: {instructions: Be kind.}\n"
    plan = f"{agents}routes:\n  - {{name: all, action: dial, to: 'sip:desk@127.0.0.1:{port}'}}\n"
    late = ANSWERED.replace('<recv response="200" rrs="true"/>', f'<recv response="200" rrs="true"/>\n{pause(800)}')
    async with house(dialplan=plan) as here:
        async with (
            Sipp(here.port, (take_call(6000), CALLEE_BYE), tmp_path / "callee", port=port) as called,
            Sipp(here.port, (invite(), late, EXPECT_BYE), tmp_path / "caller") as calling,
        ):
            assert await calling.finish() == 0, calling.output
            assert await called.finish() == 0, called.output
        assert "Reason: Q.850;cause=16" in calling.first("BYE").text
        assert calling.first("BYE").at >= calling.first("ACK").at
        end = await here.ended_record()
        assert (end["end_reason"], end["sip_code"]) == ("connected", "200")
