"""The bench: short, with real programs. Its figures are not judged, only that they are taken and nothing is left."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import psutil
import pytest

from gateway.lab.bench.picture import draw_bench
from gateway.lab.bench.results import BenchResult
from gateway.lab.bench.run import BenchPlan, run_bench
from gateway.lab.bench.short_calls import ShortCallsPlan
from gateway.sip.library.pj import pj

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("timing")]

KEYS = {
    *("cpu_percent_per_call", "floor_ratio", "rss_mb", "first_audio_ms", "rtp_interval_p99_ms", "pss_mb_per_call"),
    *("setup_p50_ms", "setup_p95_ms", "idle_worker_cpu_percent", "model_cpu_percent", "callers_cpu_percent"),
    *("first_audio_after_delta_p50_ms", "first_audio_after_delta_p95_ms"),
}


def held_or_refused(result: BenchResult) -> int:
    """Return how many calls had an end that a busy machine may give them: its workers refuse what they cannot carry."""
    assert set(result.setup.refused) <= {503}
    assert all("503" in error or "everything on this machine" in error for error in result.errors)
    return result.full.calls + sum(result.setup.refused.values())


async def test_a_short_bench_measures_the_gateway_and_the_floor(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    lines: list[str] = []
    short = ShortCallsPlan(rate=4, seconds=1, hold_s=0.1, after_s=0)
    plan = BenchPlan(seconds=5, settle_s=0.5, age_s=0, idle_s=1, canary_s=5, short=short, command="gateway bench")
    result = await run_bench(plan, lines.append)
    figures = json.loads(json.dumps(result.to_json()))
    assert all(figures[key] > 0 for key in KEYS), figures
    assert held_or_refused(result) == pj.EpConfig().uaConfig.maxCalls, "as many as one worker holds"
    assert figures["rtp_interval_p99_ms"] > 10
    assert all(each.speech_share > 0.05 for each in result.floors)  # the loop gives every caller its own speech
    assert 200 < result.full.received / result.full.calls <= 265
    assert figures["workers"] >= 1
    if result.canary is not None:  # refused, too
        assert result.canary.delay_ms > 20, "a jitter buffer is on the way"
    assert result.short is not None
    assert result.short.placed == 4
    assert result.short.answered + sum(result.short.refused.values()) + result.short.lost == 4
    assert result.short.answered
    assert any("floor" in line for line in lines)
    assert all(len(row) == 4 for row in result.rows())
    await asyncio.to_thread(draw_bench, tmp_path / "bench.png", result)
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert set(psutil.Process().children()) <= before


async def test_more_calls_than_one_worker_holds_come_through_the_edge(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    lines: list[str] = []
    plan = BenchPlan(
        calls=pj.EpConfig().uaConfig.maxCalls + 1,
        seconds=3,
        settle_s=0.5,
        ramp_s=1,
        age_s=0,
        idle_s=0,
        canary_s=0,
        has_floor=False,
        uplink_ms=40,
    )
    result = await run_bench(plan, lines.append)
    assert held_or_refused(result) == plan.calls
    assert len(result.setup.setup_ms) == result.full.calls > 0
    assert result.memory.workers >= 2
    assert result.memory.edge > 0
    assert result.full.cpu.edge > 0
    assert result.floor_ratio is None
    assert any("floor was not measured" in note for note in result.notes)
    assert "ready" in result.log
    assert set(psutil.Process().children()) <= before


async def test_a_bench_that_is_told_to_stop_leaves_no_process_behind(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "gateway", "bench", "--no-floor", "--calls", "1", "--out", str(tmp_path / "b"))
    bench = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        started = psutil.Process(bench.pid)
        async with asyncio.timeout(40):
            wanted = {"gateway.lab.bench.model", "serve"}
            while not wanted <= {word for each in started.children() for word in each.cmdline()}:
                await asyncio.sleep(0.05)
        children = started.children(recursive=True)
        bench.send_signal(signal.SIGTERM)
        _, told = await asyncio.wait_for(bench.communicate(), 40)
    finally:
        if bench.returncode is None:
            bench.kill()
            await bench.wait()
    assert bench.returncode == 130
    assert b"stopped" in told
    gone, alive = await asyncio.to_thread(psutil.wait_procs, children, 5)
    assert len(gone) >= 2
    assert not alive
    assert not (tmp_path / "b").exists()
