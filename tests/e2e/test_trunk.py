"""The whole house at a carrier: registered, called through it, and its state told."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.free_port import free_port
from tests.rigs.house import MakeHouse
from tests.rigs.kamailio import USER, Kamailio
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import ANSWERED, EXPECT_BYE, invite

pytestmark = pytest.mark.e2e


async def test_a_caller_beyond_the_carrier_is_answered_by_the_agent(tmp_path: Path, house: MakeHouse) -> None:
    async with Kamailio(free_port(), tmp_path / "carrier") as carrier, house(**carrier.variables) as here:
        while not (told := await here.store.trunks()) or told[0]["state"] != "registered":
            assert not told or told[0]["state"] == "registering", told
        assert told[0]["trunk"] == "carrier"
        async with Sipp(carrier.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path, service=USER) as caller:
            assert await caller.finish() == 0, caller.output
        ended = await here.ended_record()
        record = await here.store.call(ended["call_id"])
        assert record is not None
        assert (record.codec, record.sip_code) == ("PCMU/8000", 200)
