"""Calls through trunks, in and out: through a real Kamailio, and from neighbours that are told apart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.call.events import IncomingInvite, LegClosed, LegRinging, MediaUp
from gateway.errors import SipError
from gateway.free_port import free_port
from tests.rigs.kamailio import USER, Kamailio
from tests.rigs.sip_agent import sip_agent
from tests.rigs.sipp import NOBODY, Sipp, play
from tests.rigs.sipp_steps import ANSWERED, EXPECT_BYE, invite, refused, take_call
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


def carrier_trunk(port: int, **given: object) -> dict[str, object]:
    return {"host": f"127.0.0.1:{port}", "register": True, "username": USER, "password_from": "line", **given}


async def test_a_call_to_our_registration_comes_in_through_the_carrier(tmp_path: Path) -> None:
    async with (
        Kamailio(free_port(), tmp_path / "carrier") as carrier,
        sip_agent(trunks={"main": carrier_trunk(carrier.port, country="DE")}) as here,
    ):
        await until(lambda: "registered" in here.trunk_states)
        steps = (invite(), ANSWERED, EXPECT_BYE)
        async with Sipp(carrier.port, steps, tmp_path / "caller", service=USER) as caller:
            await until(lambda: here.seen(MediaUp))
            told = here.seen(IncomingInvite)[0]
            assert isinstance(told, IncomingInvite)
            assert (told.trunk, told.caller, told.called) == ("main", "caller", USER)
            here.legs[0].hang_up(200, "done")
            assert await caller.finish() == 0, caller.output


@pytest.mark.parametrize(
    ("given", "shown", "headers"),
    [
        ({}, rf"From: <sip:{USER}@127\.0\.0\.1>", {}),
        (
            {"caller_id": "+49301234567", "caller_id_header": "p-preferred-identity"},
            rf"From: <sip:{USER}@127\.0\.0\.1>",
            {"P-Preferred-Identity": "<sip:+49301234567@127.0.0.1;user=phone>"},
        ),
        (
            {
                "caller_id": "+49301234567",
                "caller_id_header": ["from", "remote-party-id"],
                "numbers": "e164-without-plus",
            },
            r"From: <sip:\+49301234567@127\.0\.0\.1;user=phone>",
            {"Remote-Party-ID": "<sip:+49301234567@127.0.0.1;user=phone>;party=calling;screen=yes;privacy=off"},
        ),
        ({"caller_id": "030 1234567"}, r"From: <sip:\+49301234567@127\.0\.0\.1;user=phone>", {}),
        (
            {"caller_id": "+49301234567", "caller_id_header": "p-asserted-identity", "privacy": True},
            r'From: "Anonymous" <sip:anonymous@anonymous\.invalid>',
            {"P-Asserted-Identity": "<sip:+49301234567@127.0.0.1;user=phone>", "Privacy": "id"},
        ),
    ],
)
async def test_a_call_to_a_number_goes_out_through_the_carrier_with_its_digest(
    tmp_path: Path, given: dict[str, object], shown: str, headers: dict[str, str]
) -> None:
    async with (
        Sipp(NOBODY, (take_call(), EXPECT_BYE), tmp_path / "callee") as callee,
        Kamailio(free_port(), tmp_path / "carrier", beyond=callee.port) as carrier,
        sip_agent(
            trunks={"main": carrier_trunk(carrier.port, register=False, country="DE", numbers_out="plus", **given)}
        ) as here,
    ):
        leg = here.call("030/123456-78", trunk="main")
        await until(lambda: here.seen(MediaUp))
        assert here.seen(LegRinging)
        leg.hang_up(200, "done")
        await until(lambda: here.seen(LegClosed))
        assert await callee.finish() == 0, callee.output
        (asked,) = callee.received("INVITE")
        assert asked.first_line == f"INVITE sip:+493012345678@127.0.0.1:{carrier.port};user=phone SIP/2.0"
        assert re.search(shown, asked.text), asked.text
        for name, value in headers.items():
            assert f"{name}: {value}" in asked.text


@pytest.mark.parametrize(
    ("srtp", "profile", "keyed"),
    [("off", "RTP/AVP", False), ("optional", "RTP/AVP", True), ("required", "RTP/SAVP", True)],
)
async def test_each_trunk_has_the_encryption_it_asks_for(tmp_path: Path, srtp: str, profile: str, keyed: bool) -> None:
    async with Sipp(NOBODY, (take_call(),), tmp_path) as callee:
        trunks = {"main": {"host": f"127.0.0.1:{callee.port}", "srtp": srtp}}
        async with sip_agent(trunks=trunks, srtp="off" if srtp != "off" else "optional") as here:
            here.call("1000", trunk="main")
            await until(lambda: callee.received("INVITE"))
            asked = callee.received("INVITE")[0].text
            assert re.search(rf"^m=audio \d+ {profile} ", asked, re.MULTILINE), asked
            assert ("a=crypto:" in asked) is keyed
            assert "fingerprint" not in asked  # never DTLS-SRTP


async def test_a_call_beyond_the_lines_of_its_trunk_is_not_placed(tmp_path: Path) -> None:
    async with (
        Sipp(NOBODY, (take_call(), EXPECT_BYE), tmp_path) as callee,
        sip_agent(trunks={"main": {"host": f"127.0.0.1:{callee.port}", "max_calls": 1}}) as here,
    ):
        first = here.call("1000", trunk="main")
        await until(lambda: here.seen(MediaUp))
        here.call("1000", trunk="main")
        await until(lambda: here.seen(LegClosed))
        (closed,) = here.seen(LegClosed)
        assert isinstance(closed, LegClosed)
        assert (closed.by_caller, closed.code) == (False, 503)
        first.hang_up(200, "done")
        await until(lambda: len(here.seen(LegClosed)) == 2)
        assert await callee.finish() == 0, callee.output
        assert len(callee.received("INVITE")) == 1


async def test_a_fault_in_an_order_leaves_the_thread_alive(tmp_path: Path) -> None:
    async with sip_agent() as here:
        here.sip.submit(lambda _table: [][0])
        async with Sipp(here.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path) as caller:
            await until(lambda: here.seen(MediaUp))
            here.legs[0].hang_up(200, "done")
            assert await caller.finish() == 0, caller.output


async def test_a_number_needs_a_trunk_and_the_trunk_must_be_there() -> None:
    async with sip_agent(trunks={"main": {"host": "127.0.0.1:9"}}) as here:
        with pytest.raises(SipError, match=r"'\+493012345' is a number and needs a trunk: name one of main"):
            here.call("+493012345")
        with pytest.raises(SipError, match="there is no trunk 'other': name one of main"):
            here.call("+493012345", trunk="other")
        with pytest.raises(SipError, match="'reception' is neither a number nor a SIP URI"):
            here.call("reception", trunk="main")
        assert here.sip.trunk_states["main"].state == "static"


async def test_the_source_decides_whose_call_it_is_and_not_what_the_caller_writes(tmp_path: Path) -> None:
    trunks: dict[str, dict[str, object]] = {
        "pbx": {"host": "127.0.0.1", "trust_identity": True},
        "far": {"host": "192.0.2.9", "username": "1000"},
    }
    async with sip_agent(trunks=trunks) as here:
        steps = (invite(), ANSWERED, EXPECT_BYE)
        async with Sipp(here.port, steps, tmp_path) as caller:
            await until(lambda: here.seen(MediaUp))
            told = here.seen(IncomingInvite)[0]
            assert isinstance(told, IncomingInvite)
            assert told.trunk == "pbx"
            here.legs[0].hang_up(200, "done")
            assert await caller.finish() == 0, caller.output


async def test_of_several_accounts_at_one_carrier_the_called_one_has_the_call(tmp_path: Path) -> None:
    trunks = {name: {"host": "127.0.0.1", "username": user} for name, user in (("a", "1000"), ("b", "2000"))}
    async with sip_agent(trunks=trunks) as here:
        for service in ("2000", "1000"):
            async with Sipp(here.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path / service, service=service) as caller:
                await until(
                    lambda: len(here.legs) > len(here.seen(LegClosed)) and len(here.seen(MediaUp)) == len(here.legs)
                )
                here.legs[-1].hang_up(200, "done")
                assert await caller.finish() == 0, caller.output
        assert [event.trunk for event in here.seen(IncomingInvite)] == ["b", "a"]


async def test_a_stranger_is_refused_once_there_are_trunks(tmp_path: Path) -> None:
    async with sip_agent(trunks={"far": {"host": "192.0.2.9"}}) as here:
        await play(here.port, tmp_path, invite(), refused(403))
        assert here.events == []


async def test_with_g722_the_bridge_runs_at_16_khz(tmp_path: Path) -> None:
    async with sip_agent(codecs="G722, PCMU") as here:
        assert here.info.pcm.rate_hz == 16000
        async with Sipp(here.port, (invite(payloads="9 0 101"), ANSWERED, EXPECT_BYE), tmp_path) as caller:
            await until(lambda: here.seen(MediaUp))
            assert here.seen(MediaUp)[0].codec.startswith("G722/")
            here.legs[0].hang_up(200, "done")
            assert await caller.finish() == 0, caller.output
