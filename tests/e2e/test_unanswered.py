"""Many calls that nobody answers: all are counted, few are written down, and the log stays short."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.worker.call_log import BURST
from tests.rigs.house import MakeHouse
from tests.rigs.sipp import play
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause, refused

pytestmark = pytest.mark.e2e

PLAN = """
agents: {front: {instructions: x, greeting: Say hello.}}
routes:
  - {name: front, match: {to: "1000"}, agent: front}
  - {name: blocked, match: {to: "1001"}, action: reject, code: 603}
"""
CALLS = 2 * BURST


async def test_refused_calls_are_counted_and_few_of_them_written_down(house: MakeHouse, tmp_path: Path) -> None:
    async with house(dialplan=PLAN, GATEWAY_SIP__REQUESTS_PER_SECOND="10000") as here:
        for service, code in (("9999", 404), ("1001", 603)):
            await play(here.port, tmp_path / service, invite(), refused(code), service=service, calls=CALLS)
        counts: dict[str, int] = {}
        async with asyncio.timeout(40):
            while sum(counts.values()) < 2 * CALLS:
                counts = await here.store.counts("unanswered")
        assert counts == {"no_route 404": CALLS, "rejected 603": CALLS}
        ttls = here.record_ttls()
        assert BURST <= len(ttls) < 1.5 * BURST
        assert all(0 < ttl <= 3600 for ttl in ttls)
        assert len(await here.store.live_calls()) == 0
        lines = [line for line in here.gateway.lines if "call_state" in line]
        assert len(lines) < 3 * BURST
        await play(here.port, tmp_path / "good", invite(), ANSWERED, pause(100), BYE)
        async with asyncio.timeout(40):
            while (await here.ended_record())["end_reason"] != "caller_hung_up":
                await asyncio.sleep(0.05)
    assert any("unanswered_calls_not_written_down" in line for line in here.gateway.lines)
