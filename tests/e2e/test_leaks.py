"""
Many calls leave nothing behind.

Memory kept for the next calls looks like a leak once, a leak each time: the round of calls that grew least
counts.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from tests.rigs.house import House, MakeHouse
from tests.rigs.sipp import play
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause
from tests.rigs.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("timing")]

CALLS, ROUNDS = 25, 4
LEAST_GROWTH_KB = 100 * CALLS


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise KeyError(name)


async def settled(house: House, calls: int) -> None:
    connections = house.simulator.connections
    await until(lambda: len(connections) == calls and not any(c.open for c in connections), what="sockets closed")
    end = time.monotonic() + 40
    while await house.store.live_calls():
        assert time.monotonic() < end, "a call is still in the set of live calls"
        await asyncio.sleep(0.02)


async def test_a_hundred_calls_leave_no_thread_socket_key_or_file(house: MakeHouse, tmp_path: Path) -> None:
    async with house(warm=False, GATEWAY_REDIS__RETENTION_S="1", GATEWAY_DIALPLAN_EVERY_S="0.2") as here:
        pid = here.gateway.pid
        # The first calls make what is kept: ports of the bridge, pools, caches.
        await play(here.port, tmp_path / "warm", invite(), ANSWERED, pause(200), BYE, calls=8, at_once=4)
        await settled(here, 8)
        before = (descriptors(pid), status(pid, "Threads"))
        grown_kb: list[int] = []
        for number in range(1, ROUNDS + 1):
            rss_kb = status(pid, "VmRSS")
            await play(here.port, tmp_path / f"round{number}", invite(), ANSWERED, pause(50), BYE, calls=CALLS)
            await settled(here, 8 + CALLS * number)
            grown_kb.append(status(pid, "VmRSS") - rss_kb)
        await until(lambda: descriptors(pid) <= before[0], what=f"{before[0]} descriptors again")
        assert status(pid, "Threads") <= before[1]
        assert min(grown_kb) < LEAST_GROWTH_KB, grown_kb
        assert {connection.close_code for connection in here.simulator.connections} == {1000}
        assert sum(event.get("state") == "ended" for event in await here.store.events()) == 8 + CALLS * ROUNDS
        async with asyncio.timeout(40):  # the retention of ended calls is one second here
            while here.record_ttls():
                await asyncio.sleep(0.1)
