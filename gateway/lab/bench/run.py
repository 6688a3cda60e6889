"""
The measurement: a gateway full of calls, then the same calls with nothing but PJMEDIA, and what both cost.

Theory of operation. The bench starts a simulator and a gateway as child processes (``child.py``), fills the gateway
with calls (``callers.py``: SIPp signals, RTP peers of ours speak and listen), waits until all are up, and reads CPU
time and memory of the gateway's process at both ends of a window. Then the same calls go to a user agent that joins
each call with itself inside PJMEDIA: the least they can cost. ``delay.py`` and ``routes.py`` measure other things in
their own ways. What each figure means: ``docs/performance.md``.
"""

from __future__ import annotations

import asyncio
import platform
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from gateway.child_process import ChildFailed
from gateway.lab.bench.callers import Callers, calling
from gateway.lab.bench.child import PYTHON, BenchFailed, MeasuredProcess
from gateway.lab.figures.measure import percentile

SETTLE_S = 5.0
_START_LIMIT_S = 120.0
_PROGRESS_S = 10.0
_RTP_PORT_MIN = 18000
_CAPACITY = r"can hold (\d+) calls"
_LEAST_SPEECH = 0.05
_TURNS_S = 15.0  # in a window this long the agent has had several turns

Tell = Callable[[str], None]

_DIALPLAN = """\
agents:
  bench:
    instructions: Answer in a sentence or two.
    greeting: Hello! How can I help you?
routes:
  - name: everyone
    agent: bench
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """
    What one program needed for its calls in the window.

    Attributes:
        calls: calls that were up all the time.
        cpu_percent_per_call: share of one core, of the program's own process.
        rss_mb: memory of that process at the end.
        first_audio_ms: per call, from the caller's ACK to the first packet with speech.
        rtp_interval_p50_ms: time between packets at the receiver, all calls together.
        rtp_interval_p99_ms: the same, 99 % are not longer.
        rtp_interval_max_ms: the longest.
        rtp_received: packets, all calls together.
        rtp_lost: packets that never came.
        speech_share: share of packets with speech in them, of the call with the least.
    """

    calls: int
    cpu_percent_per_call: float
    rss_mb: float
    first_audio_ms: tuple[float, ...]
    rtp_interval_p50_ms: float
    rtp_interval_p99_ms: float
    rtp_interval_max_ms: float
    rtp_received: int
    rtp_lost: int
    speech_share: float


@dataclass(frozen=True, slots=True)
class BenchResult:
    """The gateway's figures beside those of the bare bridge (the floor), from one run on one machine."""

    seconds: float
    gateway: Figures
    floor: Figures

    @property
    def floor_ratio(self) -> float:
        """CPU of the gateway as a multiple of the least the same calls can cost."""
        return self.gateway.cpu_percent_per_call / max(self.floor.cpu_percent_per_call, 1e-9)

    def to_json(self) -> dict[str, float | int | str]:
        """Return the figures by the names that other programs read; milliseconds, MiB, percent of one core."""
        ours, floor = self.gateway, self.floor
        return {
            "cpu_percent_per_call": round(ours.cpu_percent_per_call, 3),
            "floor_ratio": round(self.floor_ratio, 2),
            "rss_mb": round(ours.rss_mb, 1),
            "first_audio_ms": round(median(ours.first_audio_ms), 1),
            "rtp_interval_p99_ms": round(ours.rtp_interval_p99_ms, 2),
            "calls": ours.calls,
            "seconds": self.seconds,
            "floor_cpu_percent_per_call": round(floor.cpu_percent_per_call, 3),
            "floor_rss_mb": round(floor.rss_mb, 1),
            "floor_rtp_interval_p99_ms": round(floor.rtp_interval_p99_ms, 2),
            "first_audio_max_ms": round(max(ours.first_audio_ms), 1),
            "rtp_interval_max_ms": round(ours.rtp_interval_max_ms, 2),
            "rtp_lost": ours.rtp_lost,
            "speech_share": round(ours.speech_share, 3),
            "python": platform.python_version(),
            "machine": platform.machine(),
        }


@dataclass(frozen=True, slots=True)
class _Window:
    """What is asked of one program: how many calls for how long; patient callers wait for its first word."""

    calls: int
    seconds: float
    settle_s: float
    patient: bool


async def run_bench(*, seconds: float, calls: int, tell: Tell, settle_s: float = SETTLE_S) -> BenchResult:
    """
    Measure the gateway, then the floor. Everything started is stopped again, whatever happens.

    Args:
        seconds: length of each of the two windows.
        calls: calls at once; 0 takes as many as the worker holds.
        tell: takes a line of progress.
        settle_s: time between all calls being up and a window.

    Raises:
        ConfigError: SIPp or psutil is not installed.
        ChildFailed: a program did not start, or took no calls.
        BenchFailed: calls did not stay up.
    """
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder:
        work_dir = Path(folder)
        async with _gateway(work_dir) as (gateway, port):
            calls = calls or int((await gateway.find(_CAPACITY, _START_LIMIT_S))[1])
            tell(f"gateway: {calls} calls, {seconds:g} s, agent simulated in another process")
            ours = await _measure(gateway, port, _Window(calls, seconds, settle_s, True), work_dir, tell)
            if ours.speech_share < _LEAST_SPEECH and seconds >= _TURNS_S:
                raise BenchFailed(f"the agent was hardly heard: speech in {ours.speech_share:.0%} of a call's packets")
        async with _loopback(work_dir) as (loopback, port):
            tell(f"floor: the same {calls} calls looped inside PJMEDIA, {seconds:g} s")
            floor = await _measure(loopback, port, _Window(calls, seconds, settle_s, False), work_dir, tell)
    return BenchResult(seconds, ours, floor)


@asynccontextmanager
async def _gateway(work_dir: Path) -> AsyncIterator[tuple[MeasuredProcess, int]]:
    """Run a simulator and a gateway that uses it; give the gateway and its SIP port."""
    (work_dir / "bench.yaml").write_text(_DIALPLAN)
    simulator_command = [*PYTHON, "-m", "gateway", "simulator", "--port", "0"]
    async with MeasuredProcess("simulator", simulator_command, work_dir) as simulator:
        url = (await simulator.find(r"wss?://\S+", _START_LIMIT_S))[0]
        environment = {
            "GATEWAY_DIALPLAN": "bench.yaml",
            "GATEWAY_SIP__HOST": "127.0.0.1",
            "GATEWAY_SIP__PORT": "0",
            "GATEWAY_SIP__RTP_PORT_MIN": str(_RTP_PORT_MIN),
            "GATEWAY_SIP__RTP_PORT_MAX": str(_RTP_PORT_MIN + 198),
            "GATEWAY_REALTIME__URL": url,
            "GATEWAY_REALTIME__API_KEY": "bench",
            "GATEWAY_CALL__DRAIN_LIMIT_S": "0",
        }
        async with MeasuredProcess("gateway", [*PYTHON, "-m", "gateway", "serve"], work_dir, environment) as gateway:
            yield gateway, await _sip_port(gateway)


@asynccontextmanager
async def _loopback(work_dir: Path) -> AsyncIterator[tuple[MeasuredProcess, int]]:
    command = [*PYTHON, "-m", "gateway.sip.library.loopback", "--rtp-port-min", str(_RTP_PORT_MIN)]
    async with MeasuredProcess("loopback", command, work_dir) as loopback:
        yield loopback, await _sip_port(loopback)


async def _sip_port(child: MeasuredProcess) -> int:
    return int((await child.find(r"ready: sip:\S+?:(\d+)", _START_LIMIT_S))[1])


async def _measure(child: MeasuredProcess, port: int, window: _Window, work_dir: Path, tell: Tell) -> Figures:
    calls = window.calls
    async with calling(calls, port, work_dir, patient=window.patient) as callers:
        try:
            await callers.all_up()
        except (BenchFailed, ChildFailed) as failed:
            raise child.failure(f"was called in vain ({failed})") from failed
        tell(f"  all {calls} up, first speech after {median(callers.first_audio_ms()):.0f} ms")
        await asyncio.sleep(window.settle_s)
        callers.start_window()
        cpu_s, began = child.cpu_s(), time.monotonic()
        while (left := began + window.seconds - time.monotonic()) > 0:
            await asyncio.sleep(min(left, _PROGRESS_S))
            so_far = time.monotonic() - began
            used = (child.cpu_s() - cpu_s) / so_far / calls * 100
            tell(f"  {so_far:3.0f} s: {used:.2f} % of a core per call, {child.rss_mb():.1f} MiB")
        cpu_s, lasted_s = child.cpu_s() - cpu_s, time.monotonic() - began
        rss_mb = child.rss_mb()
        callers.check_window(lasted_s)
        figures = _figures(callers, cpu_s / lasted_s / calls * 100, rss_mb)
        await child.stop()  # hangs up every call, which ends SIPp's side in order
    return figures


def _figures(callers: Callers, cpu_percent_per_call: float, rss_mb: float) -> Figures:
    intervals = [each for peer in callers.peers for each in peer.reception.intervals_ms()]
    counts = [peer.reception.counts() for peer in callers.peers]
    return Figures(
        calls=len(callers.peers),
        cpu_percent_per_call=cpu_percent_per_call,
        rss_mb=rss_mb,
        first_audio_ms=tuple(callers.first_audio_ms()),
        rtp_interval_p50_ms=percentile(intervals, 50),
        rtp_interval_p99_ms=percentile(intervals, 99),
        rtp_interval_max_ms=max(intervals),
        rtp_received=sum(each.received for each in counts),
        rtp_lost=sum(each.lost for each in counts),
        speech_share=callers.speech_share(),
    )
