"""The SIP side behind a real edge, at a carrier that is a Kamailio of its own: registered, called, calling."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.call.actions import CallSecond
from gateway.call.events import IncomingInvite, LegClosed, MediaUp, Noted, SecondClosed, SecondUp, TransferEnded
from gateway.edge.workers import EdgeWorker
from gateway.free_port import free_port
from gateway.sip.leg import PjLeg
from tests.rigs.edge import settings, stage
from tests.rigs.kamailio import USER, Kamailio
from tests.rigs.sip_agent import SipAgent, ring_and_answer, sip_agent
from tests.rigs.sipp import NOBODY, Sipp
from tests.rigs.sipp_steps import ANSWERED, CALLEE_BYE, EXPECT_BYE, expect_refer, invite, pause, take_call
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


def routed(step: str) -> str:
    """Return a step that goes by the proxies of its call."""
    return step.replace("Max-Forwards: 70", "[routes]\n      Max-Forwards: 70")


@asynccontextmanager
async def behind(carrier: Kamailio, *, register: bool = True, **given: Any) -> AsyncIterator[SipAgent]:
    """Run a SIP thread behind an edge, among the trunk ``main`` that the carrier is."""
    trunk = {"host": f"127.0.0.1:{carrier.port}", "register": True, "username": USER, "password_from": "line"}
    async with stage(settings(trunks={"main": {"host": trunk["host"]}}), workers=0) as front:
        sip = {"edges": "127.0.0.1", "edge": front.edge.inner, "edge_contact": f"127.0.0.1:{front.public[1]}", **given}
        async with sip_agent(ring_and_answer, trunks={"main": trunk}, register=register, **sip) as here:
            await front.tell(EdgeWorker(f"127.0.0.1:{here.port}", 4))
            yield here


async def test_a_registration_leads_calls_through_the_edge_to_whoever_has_room(tmp_path: Path) -> None:
    async with Kamailio(free_port(), tmp_path / "carrier") as carrier, behind(carrier) as here:
        here.sip.hold_trunk("main", float("inf"))
        await here.until_trunk("registered")
        async with Sipp(carrier.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path / "caller", service=USER) as caller:
            await until(lambda: here.seen(MediaUp))
            (told,) = here.seen(IncomingInvite)
            assert (told.trunk, told.called, told.source) == ("main", USER, f"127.0.0.1:{carrier.port}")
            here.legs[0].hang_up(200, "done")
            assert await caller.finish() == 0, caller.output
        here.sip.let_go_trunk("main")
        await here.until_trunk("standby")
        before = carrier.registers()
        here.sip.take_off_trunk("main", float("inf"))
        await here.until_trunk("unregistered")
        assert carrier.registers() > before


async def test_a_binding_that_was_let_go_stays_when_the_worker_ends(tmp_path: Path) -> None:
    async with Kamailio(free_port(), tmp_path / "carrier") as carrier:
        async with behind(carrier) as here:
            here.sip.hold_trunk("main", float("inf"))
            await here.until_trunk("registered")
            here.sip.let_go_trunk("main")
            await here.until_trunk("standby")
            registers = carrier.registers()
        assert carrier.registers() == registers


async def test_who_never_registered_can_take_the_binding_off(tmp_path: Path) -> None:
    async with Kamailio(free_port(), tmp_path / "carrier") as carrier, behind(carrier) as here:
        here.sip.take_off_trunk("main", float("inf"))
        await here.until_trunk("unregistered")
        assert here.trunk_states == ["registered", "unregistered"]


@pytest.mark.parametrize("ends", ["us", "them"])
async def test_a_call_out_is_challenged_answered_and_ended(tmp_path: Path, ends: str) -> None:
    steps = (take_call(), pause(300), routed(CALLEE_BYE)) if ends == "them" else (take_call(), EXPECT_BYE)
    async with (
        Sipp(NOBODY, steps, tmp_path / "callee") as callee,
        Kamailio(free_port(), tmp_path / "carrier", beyond=callee.port) as carrier,
        behind(carrier, register=False, trace="all", trace_folder=tmp_path / "traces") as here,
    ):
        leg = here.call("1000", trunk="main")
        await until(lambda: here.seen(MediaUp))
        if ends == "us":
            leg.hang_up(200, "done")
        await until(lambda: here.seen(LegClosed))
        assert here.seen(LegClosed)[0].by_caller is (ends == "them")
        assert await callee.finish() == 0, callee.output
        await until(lambda: [note for note in here.seen(Noted) if note.name == "traced"])
    (ladder,) = (tmp_path / "traces").glob("*.txt")
    assert f"127.0.0.1:{carrier.port} -> gateway" in ladder.read_text()


async def test_a_second_leg_leaves_through_the_edge_too(tmp_path: Path) -> None:
    async with (
        Sipp(NOBODY, (take_call(), EXPECT_BYE), tmp_path / "callee") as callee,
        Kamailio(free_port(), tmp_path / "carrier", beyond=callee.port) as carrier,
        behind(carrier) as here,
    ):
        here.sip.hold_trunk("main", float("inf"))
        await here.until_trunk("registered")
        async with Sipp(carrier.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path / "caller", service=USER) as caller:
            await until(lambda: here.seen(MediaUp))
            leg: PjLeg = here.legs[0]
            leg.call_second(CallSecond("1000", trunk="main"))
            await until(lambda: here.seen(SecondUp))
            leg.drop_second()
            await until(lambda: here.seen(SecondClosed))
            assert await callee.finish() == 0, callee.output
            leg.hang_up(200, "done")
            assert await caller.finish() == 0, caller.output


async def test_a_transfer_by_refer_goes_through_the_edge_and_so_does_its_news(tmp_path: Path) -> None:
    steps = (invite(), ANSWERED, routed(expect_refer("200 OK")), EXPECT_BYE)
    async with Kamailio(free_port(), tmp_path / "carrier") as carrier, behind(carrier) as here:
        here.sip.hold_trunk("main", float("inf"))
        await here.until_trunk("registered")
        async with Sipp(carrier.port, steps, tmp_path / "caller", service=USER) as caller:
            await until(lambda: here.seen(MediaUp))
            here.legs[0].transfer("sip:1000@carrier.example.net")
            await until(lambda: here.seen(TransferEnded))
            (ended,) = here.seen(TransferEnded)
            assert (ended.code, ended.refused) == (200, False)
            here.legs[0].hang_up(200, "done")
            assert await caller.finish() == 0, caller.output
            assert "Refer-To: <sip:1000@carrier.example.net>" in caller.received("REFER")[0].text
