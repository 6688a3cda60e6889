"""
Thousands of short calls against one worker: how its memory grows, and the longest gap in what callers hear.

``python -m tests.short_calls --calls 3000`` from the root of the project; ``make memory``. Ends with exit code 1 when
memory grew by more than ``MOST_GROWTH_MB`` after the first calls.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from gateway.lab.callers.gateway_process import GatewayProcess, on_loopback
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.figures.measure import longest_gap_ms
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.store.embedded import EmbeddedRedis
from tests.rigs.telephone import Telephone

MOST_GROWTH_MB = 10.0
CALLERS = 3
PLAN = "agents:\n  a: {instructions: Answer shortly., greeting: Say hello.}\nroutes:\n  - {name: any, agent: a}\n"


async def one_call(phone: Telephone, length_s: float) -> tuple[str, float]:
    """Make a call; return the status that it got and the longest gap in what was heard, in milliseconds."""
    async with RtpPeer(then_silence=True) as media:
        async with phone.call(media.port) as status:
            if status == "200":
                media.talk()
                await asyncio.sleep(length_s)
        return status, longest_gap_ms([packet.arrived_at for packet in media.reception.packets])


def rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def run(calls: int, length_s: float, every: int, variables: dict[str, str]) -> float:
    """Print a line each ``every`` calls; return by how many MB memory grew after the first 20."""
    made, gaps, warm = Counter[str](), [0.0], 0.0
    with tempfile.TemporaryDirectory(prefix="short-calls-") as name:
        plan = Path(name) / "plan.yaml"
        plan.write_text(PLAN, encoding="utf-8")
        async with EmbeddedRedis() as redis, Simulator(SimulatorOptions(keep_audio_s=0)) as simulator:
            variables = on_loopback(plan, simulator.url) | {
                "GATEWAY_REDIS__URL": redis,
                "GATEWAY_REDIS__RETENTION_S": "30",
                **variables,
            }
            async with GatewayProcess(variables) as gateway:
                pid, left, started = gateway.pid, iter(range(calls)), time.monotonic()

                async def caller() -> None:
                    nonlocal warm
                    async with Telephone.towards(gateway.port) as phone:
                        for _ in left:
                            status, gap = await one_call(phone, length_s)
                            made[status] += 1
                            gaps.append(gap)
                            simulator.connections[:] = [each for each in simulator.connections if each.open]
                            warm = warm or (rss_mb(pid) if made.total() >= 20 else 0.0)
                            if made.total() % every == 0:
                                tell(made, gaps, rss_mb(pid), time.monotonic() - started)

                tell(made, gaps, rss_mb(pid), 0.0)
                await asyncio.gather(*(caller() for _ in range(CALLERS)))
                grown = rss_mb(pid) - warm
    return grown


def tell(made: Counter[str], gaps: list[float], memory_mb: float, seconds: float) -> None:
    answered = ", ".join(f"{count} x {status}" for status, count in sorted(made.items())) or "none"
    ordered = sorted(gaps)
    gap = f"longest gap {ordered[-1]:.0f} ms, 99 % under {ordered[len(ordered) * 99 // 100]:.0f}"
    sys.stdout.write(f"{seconds:6.0f} s  calls: {answered:20}  {memory_mb:6.1f} MB  {gap}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description="Many short calls: memory and gaps.")
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--length-s", type=float, default=0.4)
    parser.add_argument("--every", type=int, default=250)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the gateway")
    given = parser.parse_args()
    variables = dict(each.split("=", 1) for each in given.set)
    grown = asyncio.run(run(given.calls, given.length_s, given.every, variables))
    sys.stdout.write(f"grown by {grown:.1f} MB after the first 20 calls, at most {MOST_GROWTH_MB:g} allowed\n")
    sys.exit(grown > MOST_GROWTH_MB)


if __name__ == "__main__":
    main()
