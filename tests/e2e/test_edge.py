"""Real workers behind the edge: SIPp and a carrier on the one side, a gateway with its simulator on the other."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from gateway.edge.edge import Edge
from gateway.edge.workers import EdgeWorker
from gateway.free_port import free_port
from tests.rigs.edge import settings
from tests.rigs.house import House, MakeHouse
from tests.rigs.kamailio import PASSWORD, USER, Kamailio
from tests.rigs.sipp import Sipp, play
from tests.rigs.sipp_steps import ACK_REFUSAL, ANSWERED, BYE, CANCEL, EXPECT_BYE, WAIT_FOR_RINGING, invite, pause
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e


REFUSED = '<recv response="503"/>'


@asynccontextmanager
async def behind(edge: Edge, house: MakeHouse, **given: str) -> AsyncIterator[House]:
    """Open a house whose gateway is the edge's only worker."""
    variables = {"GATEWAY_SIP__EDGES": "127.0.0.1/32", "GATEWAY_SIP__EDGE": edge.inner, **given}
    async with house(**variables) as here:
        await edge.set_workers([EdgeWorker(f"127.0.0.1:{here.port}", 4)])
        yield here


async def record_of(here: House) -> dict[str, object]:
    record = await here.store.call((await here.ended_record())["call_id"])
    assert record is not None
    return record.model_dump()


@pytest.mark.parametrize("transport", ["u1", "t1"])
async def test_a_caller_talks_to_a_worker_behind_the_edge(tmp_path: Path, house: MakeHouse, transport: str) -> None:
    async with Edge(settings()) as edge, behind(edge, house) as here:
        steps = (invite(), ANSWERED, pause(300), BYE)
        caller = await play(edge.place.port, tmp_path / "caller", *steps, transport=transport)
        record = await record_of(here)
        assert record["source"] == f"127.0.0.1:{caller.port}" or transport == "t1"
        assert record["transport"] == ("udp" if transport == "u1" else "tcp")
        assert record["end_reason"] == "caller_hung_up"
        for message in caller.messages:
            assert f":{here.port}" not in message.text, message.text
            assert edge.inner not in message.text, message.text


async def test_a_worker_hangs_up_through_an_edge_that_was_killed_in_the_call(tmp_path: Path, house: MakeHouse) -> None:
    async with Edge(settings()) as edge, behind(edge, house, GATEWAY_CALL__MAX_LENGTH_S="4") as here:
        async with Sipp(edge.place.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path) as caller:
            await here.happened("active")
            os.kill(edge.pid, signal.SIGKILL)
            await edge.ended
            await edge.restart()
            assert await caller.finish() == 0, caller.output
        assert (await record_of(here))["end_reason"] == "max_length"


async def test_a_caller_cancels_at_the_worker(tmp_path: Path, house: MakeHouse) -> None:
    async with Edge(settings()) as edge, behind(edge, partial(house, "silent")) as here:
        await play(edge.place.port, tmp_path / "caller", invite(), WAIT_FOR_RINGING, CANCEL)
        assert (await record_of(here))["end_reason"] == "caller_cancelled"


async def test_four_calls_fill_a_worker_and_the_fifth_gets_503(tmp_path: Path, house: MakeHouse) -> None:
    async with Edge(settings()) as edge, behind(edge, house):
        steps = (invite(), ANSWERED, pause(3000), BYE)
        async with Sipp(edge.place.port, steps, tmp_path / "four", calls=4, at_once=4) as four:
            await until(lambda: sum(each.first_line.startswith("SIP/2.0 200") for each in four.seen()) == 4)
            fifth = await play(edge.place.port, tmp_path / "fifth", invite(), REFUSED, ACK_REFUSAL)
            assert "Retry-After: 5" in fifth.first("SIP/2.0 503").text
            assert await four.finish() == 0, four.output


async def test_a_worker_registers_at_a_carrier_through_the_edge_and_takes_its_calls(
    tmp_path: Path, house: MakeHouse
) -> None:
    async with Kamailio(free_port(), tmp_path / "carrier") as carrier:
        listed = settings(trunks={"carrier": carrier.trunk}, secrets={"carrier": PASSWORD})
        async with Edge(listed) as edge, behind(edge, house, **carrier.variables) as here:
            while not (told := await here.store.trunks()) or told[0]["state"] != "registered":
                assert not told or told[0]["state"] == "registering", told
            async with Sipp(carrier.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path, service=USER) as caller:
                assert await caller.finish() == 0, caller.output
            record = await record_of(here)
            assert (record["trunk"], record["sip_code"]) == ("carrier", 200)
