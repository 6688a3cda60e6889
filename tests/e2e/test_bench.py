"""The bench: short, with real programs. Its figures are not judged, only that they are taken and nothing is left."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
from pathlib import Path

import psutil
import pytest

from gateway.errors import ConfigError
from gateway.lab.bench.run import run_bench
from gateway.sip.library.pj import pj

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("timing")]

KEYS = {"cpu_percent_per_call", "floor_ratio", "rss_mb", "first_audio_ms", "rtp_interval_p99_ms"}


async def test_a_short_bench_measures_the_gateway_and_the_floor() -> None:
    before = set(psutil.Process().children())
    lines: list[str] = []
    result = await run_bench(seconds=2, calls=0, tell=lines.append, settle_s=0.5)
    figures = json.loads(json.dumps(result.to_json()))
    assert figures.keys() >= KEYS
    assert all(figures[key] > 0 for key in KEYS)
    assert figures["calls"] == pj.EpConfig().uaConfig.maxCalls, "as many as the gateway says it can hold"
    assert figures["rtp_interval_p99_ms"] > 10
    assert result.floor.speech_share > 0.3  # the loop gives every caller its own speech
    assert 20 < result.gateway.rtp_received / result.gateway.calls <= 115
    assert any("floor" in line for line in lines)
    assert set(psutil.Process().children()) <= before


async def test_a_bench_that_is_told_to_stop_leaves_no_process_behind(tmp_path: Path) -> None:
    command = (
        sys.executable,
        "-m",
        "gateway.lab.bench",
        "--seconds",
        "30",
        "--calls",
        "1",
        "--out",
        str(tmp_path / "b"),
    )
    bench = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        started = psutil.Process(bench.pid)
        async with asyncio.timeout(40):
            while not {"simulator", "serve"} <= {word for each in started.children() for word in each.cmdline()}:
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


async def test_without_sipp_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(ConfigError, match="apt-get install sip-tester"):
        await run_bench(seconds=1, calls=1, tell=lambda _line: None)
