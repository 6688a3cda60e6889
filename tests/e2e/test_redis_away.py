"""A call goes on without Redis, and what happened meanwhile is written when it is back."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.rigs.house import MakeHouse
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause

pytestmark = pytest.mark.e2e

REDIS_IS_AWAY = "redis is away|registry_not_written|commands_not_read|limits of routes are not counted"


async def test_a_call_outlives_redis_and_its_end_is_written_later(house: MakeHouse, tmp_path: Path) -> None:
    async with (
        house(foreseen=REDIS_IS_AWAY) as here,
        Sipp(here.port, (invite(), ANSWERED, pause(2500), BYE), tmp_path / "sipp") as sipp,
    ):
        await asyncio.sleep(1)
        os.kill(here.redis.pid, signal.SIGSTOP)
        try:
            assert await sipp.finish() == 0, sipp.output
            connection = here.simulator.connections[0]
            await connection.wait_closed(40)
            assert connection.close_code == 1000
        finally:
            os.kill(here.redis.pid, signal.SIGCONT)
        async with asyncio.timeout(40):
            while await here.store.live_calls():
                await asyncio.sleep(0.05)
        assert (await here.ended_record())["end_reason"] == "caller_hung_up"
