"""Trunks that are registered at: a real Kamailio, and SIPp as a registrar in a bad mood."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.free_port import free_port
from gateway.sip.calls.accounts import TrunkChanged
from tests.rigs.kamailio import PASSWORD, USER, Kamailio
from tests.rigs.sip_agent import SipAgent, sip_agent
from tests.rigs.sipp import NOBODY, Sipp
from tests.rigs.sipp_steps import CHALLENGE, REGISTER, SIGNED_REGISTER, granted, refuse_request, register_with
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


@asynccontextmanager
async def registrant(
    port: int, *, password: str = PASSWORD, register: bool = True, host: str = "127.0.0.1", **given: object
) -> AsyncIterator[SipAgent]:
    trunk = {
        "host": f"{host}:{port}",
        "register": True,
        "username": USER,
        "password_from": "line",
        "register_retry_s": 1,
        **given,
    }
    async with sip_agent(trunks={"main": trunk}, password=password, register=register) as here:
        yield here


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_trunk_is_registered_refreshed_and_left(tmp_path: Path, transport: str) -> None:
    async with Kamailio(free_port(), tmp_path, max_expires=4) as carrier:
        async with registrant(carrier.port, transport=transport) as here:
            await until(lambda: here.trunk_states.count("registered") >= 2)
            assert here.trunk_states[:2] == ["registering", "registered"]
            assert here.changes[1] == TrunkChanged("main", "registered", 200, "OK", expires_s=4)
            assert here.sip.trunk_states["main"].state == "registered"
        await asyncio.sleep(0)  # what the thread said last is on the loop now
        assert here.changes[-1].state == "unregistered"


async def test_a_wrong_password_fails_and_is_not_tried_over_and_over(tmp_path: Path) -> None:
    async with Kamailio(free_port(), tmp_path) as carrier, registrant(carrier.port, password="wrong") as here:
        await until(lambda: "failed" in here.trunk_states)
        assert (here.changes[-1].code, here.changes[-1].retry_s >= 200) == (401, True)
        await asyncio.sleep(4)
        assert carrier.registers() <= 2  # the first, and the one with the wrong digest
        assert here.trunk_states == ["registering", "failed"]


async def test_a_registrar_that_was_away_is_registered_at_again(tmp_path: Path) -> None:
    async with (
        Kamailio(free_port(), tmp_path, max_expires=4) as carrier,
        registrant(carrier.port, transport="tcp") as here,
    ):
        await until(lambda: "registered" in here.trunk_states)
        await carrier.stop()
        await until(lambda: "failed" in here.trunk_states)
        await carrier.start()
        before = len(here.changes)
        await until(lambda: "registered" in here.trunk_states[before:])


async def test_a_process_that_need_not_register_does_not(tmp_path: Path) -> None:
    async with Kamailio(free_port(), tmp_path) as carrier, registrant(carrier.port, register=False) as here:
        await until(lambda: here.changes)
        await asyncio.sleep(0.5)
        assert here.trunk_states == ["static"]
        assert carrier.registers() == 0


async def test_a_challenge_is_answered_with_the_right_digest(tmp_path: Path) -> None:
    steps = (REGISTER, CHALLENGE, SIGNED_REGISTER, granted(600), REGISTER, granted(0))
    async with Sipp(NOBODY, steps, tmp_path) as registrar:
        async with registrant(registrar.port) as here:
            await until(lambda: "registered" in here.trunk_states)
            assert here.changes[-1].expires_s == 600
        assert await registrar.finish() == 0, registrar.output
        assert "Expires: 0" in registrar.received("REGISTER")[-1].text


async def test_a_refused_account_is_left_alone(tmp_path: Path) -> None:
    steps = (REGISTER, refuse_request("403 Forbidden"), REGISTER)
    async with Sipp(NOBODY, steps, tmp_path) as registrar, registrant(registrar.port) as here:
        await until(lambda: "failed" in here.trunk_states)
        assert (here.changes[-1].code, here.changes[-1].reason, here.changes[-1].retry_s >= 200) == (
            403,
            "Forbidden",
            True,
        )
        await asyncio.sleep(3)
        assert len(registrar.received("REGISTER")) == 1


async def test_a_longer_interval_is_taken_when_the_registrar_asks_for_it(tmp_path: Path) -> None:
    brief = refuse_request("423 Interval Too Brief", "Min-Expires: 700")
    steps = (REGISTER, brief, register_with("Expires", "700"), granted(700), REGISTER, granted(0))
    async with Sipp(NOBODY, steps, tmp_path) as registrar:
        async with registrant(registrar.port, register_expires_s=300) as here:
            await until(lambda: "registered" in here.trunk_states)
            assert here.changes[-1].expires_s == 700
        assert await registrar.finish() == 0, registrar.output


async def test_an_overloaded_registrar_is_given_the_time_it_asks_for_and_knows_us_again(tmp_path: Path) -> None:
    busy = refuse_request("503 Service Unavailable", "Retry-After: 3")
    # One call of SIPp's is one Call-ID (RFC 3261 section 10.2).
    steps = (REGISTER, busy, REGISTER, refuse_request("500 Oops"), REGISTER, granted(600), REGISTER, granted(0))
    async with Sipp(NOBODY, steps, tmp_path) as registrar:
        async with registrant(registrar.port, register_retry_s=1) as here:
            await until(lambda: "failed" in here.trunk_states)
            assert (here.changes[-1].code, here.changes[-1].retry_s) == (503, 3)
            await until(lambda: "registered" in here.trunk_states)
        assert await registrar.finish() == 0, registrar.output
        asked = registrar.received("REGISTER")
        assert asked[1].at - asked[0].at >= 3
        numbers = [int(each.text.partition("CSeq: ")[2].split()[0]) for each in asked]
        assert numbers == sorted(set(numbers))


async def test_an_attempt_that_cannot_even_be_sent_is_one_failure() -> None:
    async with registrant(5060, host="no-such-host.invalid", register_retry_s=1) as here:
        await until(lambda: here.trunk_states.count("failed") >= 3, limit_s=60)
        assert here.trunk_states[:6] == ["registering", "failed"] * 3
        waits = [change.retry_s for change in here.changes if change.state == "failed"]
        assert waits[0] <= 2
        assert waits[2] <= 5  # 1, 2, 4 s, each spread by a fifth


async def test_requests_go_by_the_outbound_proxy(tmp_path: Path) -> None:
    async with Sipp(NOBODY, (REGISTER, granted(600), REGISTER, granted(0)), tmp_path) as proxy:
        async with registrant(9, host="carrier.invalid", outbound_proxy=f"127.0.0.1:{proxy.port}") as here:
            await until(lambda: "registered" in here.trunk_states)
        asked = proxy.received("REGISTER")[0]
        assert asked.first_line == "REGISTER sip:carrier.invalid:9 SIP/2.0"
        assert f"From: <sip:{USER}@carrier.invalid>" in asked.text
