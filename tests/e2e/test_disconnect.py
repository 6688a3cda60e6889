"""Whoever leaves first takes the other side along."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from tests.rigs.house import House, MakeHouse, moment
from tests.rigs.sipp import Sipp, play
from tests.rigs.sipp_steps import ANSWERED, BYE, CANCEL, EXPECT_BYE, OPTIONS, WAIT_FOR_RINGING, invite, pause, refused
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e


async def no_live_call(house: House) -> None:
    end = time.monotonic() + 40
    while await house.store.live_calls():
        assert time.monotonic() < end, "a call is still in the set of live calls"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("transport", ["u1", "t1"])
async def test_a_caller_who_hangs_up_in_the_greeting_closes_the_socket(
    house: MakeHouse, tmp_path: Path, transport: str
) -> None:
    async with house() as here:
        sipp = await play(here.port, tmp_path / "sipp", invite(), ANSWERED, pause(700), BYE, transport=transport)
        connection = await here.closed()
        assert (connection.close_code, connection.closed_by) == (1000, "client")
        assert not connection.violations
        assert moment(connection) - sipp.first("BYE").at < 20
        await no_live_call(here)
        assert (await here.ended_record())["end_reason"] == "caller_hung_up"


async def test_a_caller_who_cancels_while_ringing_closes_the_socket(house: MakeHouse, tmp_path: Path) -> None:
    async with house("silent") as here:
        sipp = await play(here.port, tmp_path / "sipp", invite(), WAIT_FOR_RINGING, pause(300), CANCEL)
        connection = await here.closed()
        assert connection.close_code == 1000
        assert sipp.count("SIP/2.0 200 OK") == 1  # of the CANCEL; the call itself was never answered
        await no_live_call(here)
        assert (await here.ended_record())["end_reason"] == "caller_cancelled"


async def test_a_caller_who_cancels_at_once_leaves_nothing_behind(house: MakeHouse, tmp_path: Path) -> None:
    async with house("slow=0.3") as here:
        await play(here.port, tmp_path / "sipp", invite(), WAIT_FOR_RINGING, CANCEL, calls=5)
        await no_live_call(here)
        await until(lambda: all(not connection.open for connection in here.simulator.connections))


async def test_a_caller_who_hangs_up_with_the_ack_closes_the_socket(house: MakeHouse, tmp_path: Path) -> None:
    async with house() as here:
        await play(here.port, tmp_path / "sipp", invite(), ANSWERED, BYE, calls=5)
        for number in range(1, 6):
            assert (await here.closed(number)).close_code == 1000
        await no_live_call(here)


async def test_an_upstream_that_closes_hangs_up_the_phone(house: MakeHouse, tmp_path: Path) -> None:
    async with house("close=1.5") as here:
        sipp = await play(here.port, tmp_path / "sipp", invite(), ANSWERED, EXPECT_BYE)
        connection = await here.closed()
        assert sipp.first("BYE").at - moment(connection) < 20
        assert (await here.ended_record())["end_reason"] == "agent_closed"


async def test_an_upstream_that_drops_tcp_hangs_up_the_phone(house: MakeHouse, tmp_path: Path) -> None:
    async with house("drop=1.5") as here:
        await play(here.port, tmp_path / "sipp", invite(), ANSWERED, EXPECT_BYE)
        assert (await here.ended_record())["end_reason"] == "agent_lost"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("refuse=invalid_api_key", "agent_refused"), ("http=503", "setup_timeout"), ("silent", "setup_timeout")],
)
async def test_a_caller_whose_agent_cannot_be_had_is_refused_and_never_answered(
    house: MakeHouse, tmp_path: Path, fault: str, reason: str
) -> None:
    async with house(fault, GATEWAY_CALL__SETUP_LIMIT_S="1.5") as here:
        sipp = await play(here.port, tmp_path / "sipp", invite(), refused(503))
        assert "Retry-After: 5" in sipp.first("SIP/2.0 503").text
        assert sipp.count("SIP/2.0 200") == 0
        await no_live_call(here)
        assert (await here.ended_record())["end_reason"] == reason


async def test_an_upstream_that_is_down_refuses_the_call(house: MakeHouse, tmp_path: Path) -> None:
    variables = {
        "GATEWAY_REALTIME__URL": "ws://127.0.0.1:9/v1/realtime",
        "GATEWAY_CALL__REFUSAL_CODE": "480",
        "GATEWAY_CALL__SETUP_LIMIT_S": "1.5",
    }
    async with house(**variables) as here:
        await play(here.port, tmp_path / "sipp", invite(), refused(480))
        assert (await here.ended_record())["end_reason"] == "setup_timeout"
        assert "agent_retry" in [event["event"] for event in await here.store.events()]


async def test_a_call_is_cut_at_its_longest_length(house: MakeHouse, tmp_path: Path) -> None:
    async with house(GATEWAY_CALL__MAX_LENGTH_S="1") as here:
        await play(here.port, tmp_path / "sipp", invite(), ANSWERED, EXPECT_BYE)
        assert (await here.ended_record())["end_reason"] == "max_length"


async def test_a_caller_without_rtp_is_hung_up(house: MakeHouse, tmp_path: Path) -> None:
    async with house(GATEWAY_SIP__NO_RTP_TIMEOUT_S="2") as here:
        await play(here.port, tmp_path / "sipp", invite(), ANSWERED, EXPECT_BYE)
        assert (await here.ended_record())["end_reason"] == "no_rtp"


async def test_a_fifth_call_is_told_to_come_back_and_harms_no_other(house: MakeHouse, tmp_path: Path) -> None:
    async with (
        house() as here,
        Sipp(here.port, (invite(), ANSWERED, pause(2500), BYE), tmp_path / "four", calls=4, at_once=4) as four,
    ):
        await until(lambda: len(here.simulator.connections) == 4)
        await play(here.port, tmp_path / "fifth", invite(), refused(503))
        assert await four.finish() == 0, four.output
        await play(here.port, tmp_path / "sixth", invite(), ANSWERED, BYE)


async def test_codecs_other_than_g711_are_refused(house: MakeHouse, tmp_path: Path) -> None:
    async with house() as here:
        await play(here.port, tmp_path / "sipp", invite(payloads="3 9"), refused(488))
        assert not here.simulator.connections


async def test_options_is_answered(house: MakeHouse, tmp_path: Path) -> None:
    async with house() as here:
        sipp = await play(here.port, tmp_path / "sipp", OPTIONS)
        assert "INVITE" in sipp.first("SIP/2.0 200").text


async def test_sigterm_lets_a_live_call_finish_and_takes_no_new_one(house: MakeHouse, tmp_path: Path) -> None:
    async with (
        house(warm=False) as here,
        Sipp(here.port, (invite(), ANSWERED, pause(2000), BYE), tmp_path / "live") as live,
    ):
        await until(lambda: any(not c.refused for c in here.simulator.connections))
        await asyncio.sleep(0.5)
        here.gateway.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        late = await play(here.port, tmp_path / "late", invite(), refused(503))
        assert "Retry-After" in late.first("SIP/2.0 503").text
        assert await live.finish() == 0, live.output
        await here.gateway.wait(40)


async def test_a_drain_that_takes_too_long_ends_in_a_bye(house: MakeHouse, tmp_path: Path) -> None:
    async with (
        house(warm=False, GATEWAY_CALL__DRAIN_LIMIT_S="0.5") as here,
        Sipp(here.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path / "live") as live,
    ):
        await asyncio.sleep(1)
        here.gateway.send_signal(signal.SIGTERM)
        assert await live.finish() == 0, live.output
        assert (await here.closed()).close_code == 1000
        await here.gateway.wait(40)
        assert (await here.ended_record())["end_reason"] == "shutdown"


async def test_a_second_sigterm_ends_calls_at_once(house: MakeHouse, tmp_path: Path) -> None:
    async with house(warm=False) as here, Sipp(here.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path / "live") as live:
        await asyncio.sleep(1)
        here.gateway.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        here.gateway.send_signal(signal.SIGTERM)
        assert await live.finish() == 0, live.output
        await here.gateway.wait(40)


async def test_contact_and_sdp_name_the_public_address_and_a_port_of_the_range(
    house: MakeHouse, tmp_path: Path
) -> None:
    variables = {"GATEWAY_SIP__RTP_PORT_MIN": "42000", "GATEWAY_SIP__RTP_PORT_MAX": "42099"}
    async with house(GATEWAY_SIP__PUBLIC_ADDRESS="127.0.0.3", GATEWAY_SIP__HOST="0.0.0.0", **variables) as here:
        sipp = await play(here.port, tmp_path / "sipp", invite(), ANSWERED, BYE)
    answer = sipp.first("SIP/2.0 200 OK").text
    assert "Contact: <sip:gateway@127.0.0.3:" in answer
    assert "c=IN IP4 127.0.0.3" in answer
    port = int(answer.split("m=audio ", 1)[1].split()[0])
    assert 42000 <= port <= 42099
