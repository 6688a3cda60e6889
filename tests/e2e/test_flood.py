"""A flood of broken INVITEs beside live calls: their audio goes on, the process does not grow."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import psutil
import pytest

from gateway.child_process import ChildProcess
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.simulator import SimulatorOptions
from gateway.lab.speech import caller_speech
from tests.rigs import flooder
from tests.rigs.house import House, MakeHouse
from tests.rigs.lines import Line, call, calls
from tests.rigs.rounds import slowness
from tests.rigs.sipp import play
from tests.rigs.sipp_steps import ANSWERED, BYE, invite

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("timing")]

PER_SECOND, ROUNDS = 2000, 3
SECONDS = float(os.environ.get("FLOOD_SECONDS", "5"))
GAP_LIMIT_MS = 150.0  # a shared machine; without a flood it is 25
GROWTH_LIMIT_MB = 15.0


async def flooded(here: House, folder: Path, slower: float) -> tuple[int, list[float], float]:
    """Flood the port during three calls; return the messages sent, each call's longest gap (ms) and the growth (MB)."""
    process = psutil.Process(here.gateway.pid)
    before_mb = process.memory_info().rss / 2**20
    sent = 0

    async def flood(_phone: RtpPeer) -> None:
        nonlocal sent
        script = Path(flooder.__file__)
        words = (sys.executable, str(script), str(here.port), str(PER_SECOND / slower), str(SECONDS))
        async with ChildProcess(*words) as child:
            assert await child.wait(SECONDS + 40) == 0, child.output
            sent = int(child.output)

    async def quiet(_phone: RtpPeer) -> None:
        return None

    async def one(number: int) -> Line:
        return await call(
            here,
            folder / f"call{number}",
            caller_speech(SECONDS + 3),
            seconds=SECONDS + 3,
            speak=flood if number == 2 else quiet,
        )

    lines = await calls(*(lambda number=number: one(number) for number in range(3)), house=here)
    after_mb = process.memory_info().rss / 2**20
    gaps = [line.phone.reception.longest_gap_ms() for line in lines]
    print(
        f"\n{sent} messages in {SECONDS:g} s; longest gaps {', '.join(f'{gap:.1f}' for gap in gaps)} ms; "
        f"memory {before_mb:.1f} -> {after_mb:.1f} MB"
    )
    return sent, gaps, after_mb - before_mb


async def test_live_calls_outlast_a_flood(house: MakeHouse, tmp_path: Path) -> None:
    async with house(warm=False, simulator=SimulatorOptions(echo=True)) as here:
        slower = await asyncio.to_thread(slowness)
        # What a process keeps for the next flood is no growth: another one must find it there.
        for number in range(ROUNDS):
            sent, gaps, grown_mb = await flooded(here, tmp_path / str(number), slower)
            if max(gaps) < GAP_LIMIT_MS * slower and grown_mb < GROWTH_LIMIT_MB:
                break
        assert sent > PER_SECOND / slower * SECONDS * 0.2
        assert max(gaps) < GAP_LIMIT_MS * slower
        assert grown_mb < GROWTH_LIMIT_MB
        await play(here.port, tmp_path / "after", invite(), ANSWERED, BYE)
