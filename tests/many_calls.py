"""
A fleet under load while things break: what callers notice, and what is right in Redis afterwards.

``python -m tests.many_calls --calls 20 --minutes 4 --events 30:kill_worker,90:kill_edge,150:restart_redis,200:restart``
from the root of the project; ``make many``. Callers call, talk, listen and hang up, again and again. Each event strikes
at its second; a few seconds later the tool compares who is in a call with what Redis says. Bounded in time and in
calls; ends with exit code 1 when a call was lost that no event explains, or something was left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table

from gateway.audio.wav import read_wav
from gateway.child_process import ChildProcess
from gateway.lab.bench.child import processes_of
from gateway.lab.callers.gateway_process import GatewayProcess, first_of_rtp_ports, on_loopback
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.speech import caller_wav
from gateway.settings.sources import environment_for_child
from tests.rigs.fleet import descendants, is_running
from tests.rigs.redis_server import RedisServer
from tests.rigs.telephone import Telephone

SAMPLE_S = 10.0
SETTLE_S = 8.0  # after an event, before Redis is compared
SILENT_S = 4.0  # a caller who hears no packet for this long hangs up
GAP_MS = 60.0  # what a caller may notice
_SIMULATOR_START_S = 60.0
LOST = ("silent", "hung up by the gateway", "BYE without an answer")
FORESEEN = re.compile(r"worker_died .*SIGKILL|edge_died .*-9|[Rr]edis is away|Redis at unix|redis.sock")
PLAN = """
agents:
  a: {instructions: Answer shortly., greeting: Say hello.}
routes:
  - {name: counted, agent: a, limits: {max_calls: 5000}}
"""


@dataclass
class Call:
    """A call as its caller saw it; monotonic seconds."""

    began: float
    status: str = ""
    setup_s: float = 0.0
    up: bool = False
    ended: float = 0.0
    how: str = ""  # hung up, hung up by the gateway, silent, no answer
    arrivals: list[float] = field(default_factory=list)

    def longest_gap_ms(self, since: float, until: float) -> float:
        """Return the longest time between packets that ended between two moments."""
        gaps = (
            (after - before) * 1000 for before, after in itertools.pairwise(self.arrivals) if since <= after <= until
        )
        return max(gaps, default=0.0)


@dataclass
class Storm:
    """What happened."""

    calls: list[Call] = field(default_factory=list)
    events: list[tuple[str, float, str]] = field(default_factory=list)  # name, when, what Redis said afterwards
    samples: list[tuple[float, float, int, int, int]] = field(default_factory=list)  # s, PSS MB, processes, fds, keys

    @property
    def up(self) -> int:
        return sum(call.up for call in self.calls)


def descriptors(pid: int) -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0


async def one_call(storm: Storm, phone: Telephone, length_s: float, speech: bytes) -> None:
    """Call, talk and listen, hang up; notice when the other side is gone."""
    call = Call(time.monotonic())
    storm.calls.append(call)
    try:
        async with RtpPeer(speech, looped=True) as media, phone.call(media.port) as status:
            call.status, call.setup_s = status, time.monotonic() - call.began
            if status != "200":
                call.how = f"refused {status}"
                return
            call.up = True
            media.talk()
            end = time.monotonic() + length_s
            call.how = "hung up"
            while time.monotonic() < end:
                await asyncio.sleep(0.2)
                packets = media.reception.packets
                last = packets[-1].arrived_at if packets else call.began + call.setup_s
                if phone.hung_up_at is not None:
                    call.how = "hung up by the gateway"
                    break
                if time.monotonic() - last > SILENT_S:
                    call.how = "silent"
                    break
            call.arrivals = [packet.arrived_at for packet in media.reception.packets]
            call.ended, call.up = time.monotonic(), False
    except TimeoutError:
        call.how = "BYE without an answer" if call.status == "200" else "no answer"
    finally:
        call.ended, call.up = call.ended or time.monotonic(), False


async def caller(storm: Storm, port: int, wait_s: float, end: float, lengths: tuple[float, float], seed: int) -> None:
    dice, (_, speech) = random.Random(seed), read_wav(caller_wav())
    start = dice.randrange(len(speech) // 320) * 320
    await asyncio.sleep(wait_s)
    async with Telephone.towards(port) as phone:
        while (left := end - time.monotonic()) > 1:
            length_s = min(left, dice.uniform(*lengths))
            await one_call(storm, phone, length_s, speech[start:] + speech[:start])
            if storm.calls[-1].how.startswith(("refused", "no answer")):
                await asyncio.sleep(1)


class Site:
    """A fleet with its Redis, and what can be done to it."""

    def __init__(self, gateway: GatewayProcess, redis: RedisServer, environment: Mapping[str, str]) -> None:
        self.gateway, self.redis, self._environment = gateway, redis, environment

    def live(self) -> tuple[int, int]:
        """Return how many calls are live by the records, and by the limits of the route."""
        with self.redis.client() as client:
            return int(client.zcard("{gateway}:calls:live")), int(client.zcard("{gateway}:limits:counted:live"))

    def worker_with_calls(self) -> int:
        """Return the process id of a worker that has calls."""
        with self.redis.client() as client:
            ids = client.zrange("{gateway}:calls:live", 0, -1)
            workers = Counter(client.hget(f"{{gateway}}:call:{call_id}", "worker") for call_id in ids)
        return int(workers.most_common(1)[0][0].rpartition("-")[2])

    async def kill_worker(self) -> str:
        pid = self.worker_with_calls()
        os.kill(pid, signal.SIGKILL)
        return f"worker {pid}"

    async def kill_edge(self) -> str:
        pid = next(each.pid for each in processes_of(self.gateway.pid) if each.kind == "edge")
        os.kill(pid, signal.SIGKILL)
        return f"kamailio {pid}"

    async def restart_redis(self) -> str:
        await asyncio.to_thread(self.redis.stop)
        await asyncio.sleep(2)
        await asyncio.to_thread(self.redis.start)
        return "empty, after 2 s"

    async def restart(self) -> str:
        command = (sys.executable, "-m", "gateway", "fleet", "restart")
        async with ChildProcess(*command, environment=dict(self._environment)) as child:
            code = await child.wait(600)
        return f"exit code {code}: {child.lines[-1] if child.lines else ''}"

    async def reload(self) -> str:
        self.gateway.send_signal(signal.SIGHUP)
        return ""


async def strike(site: Site, storm: Storm, name: str, after_s: float, tell: Console) -> None:
    await asyncio.sleep(after_s)
    act: Callable[[], Awaitable[str]] = getattr(site, name)
    at = time.monotonic()
    tell.print(f"-- {name}: {storm.up} calls up", markup=False)
    detail = await act()
    took = time.monotonic() - at
    await asyncio.sleep(SETTLE_S)
    records, limits = site.live()
    verdict = (
        f"{detail} ({took:.1f} s); {storm.up} callers in calls, {records} live records, {limits} places of the limit"
    )
    storm.events.append((name, at, verdict))
    tell.print(f"-- {name}: {verdict}", markup=False)


async def sample(site: Site, storm: Storm, started: float, tell: Console) -> None:
    while True:
        await asyncio.sleep(SAMPLE_S)
        with contextlib.suppress(OSError, RedisError):  # Redis may just be away, a process just gone
            parts = [each for each in processes_of(site.gateway.pid) if each.kind == "gateway"]
            keys = await asyncio.to_thread(lambda: len(site.redis.keys()))
            memory_mb, files = sum(each.pss_mb() for each in parts), sum(descriptors(each.pid) for each in parts)
            row = (time.monotonic() - started, memory_mb, len(parts), files, keys)
            storm.samples.append(row)
            how = Counter(call.how for call in storm.calls if call.how and not call.up)
            tell.print(
                f"{row[0]:6.0f} s  {storm.up:3} up  {row[1]:7.1f} MB in {row[2]} processes  {row[3]:4} descriptors  "
                f"{row[4]:5} keys  {dict(how)}",
                markup=False,
            )


async def run(given: argparse.Namespace, tell: Console) -> bool:
    storm = Storm()
    with tempfile.TemporaryDirectory(prefix="many-calls-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        plan = folder / "plan.yaml"
        plan.write_text(PLAN, encoding="utf-8")
        redis = RedisServer(keep=given.keep)
        stack.callback(redis.close)
        clean = environment_for_child({})
        async with ChildProcess(
            *(sys.executable, "-m", "gateway", "simulator", "--port", "0"), name="simulator", environment=clean
        ) as simulator:
            url = (await simulator.find(r"wss?://\S+", _SIMULATOR_START_S))[0]
            first = first_of_rtp_ports() // 2 - 5000 if given.capacity > 24 else first_of_rtp_ports()
            variables = on_loopback(plan, url) | {
                "GATEWAY_SIP__RTP_PORT_MIN": str(first // 2 * 2),
                "GATEWAY_SIP__RTP_PORT_MAX": str(first // 2 * 2 + max(99, 8 * given.capacity + 31)),
                "GATEWAY_REDIS__URL": redis.url,
                "GATEWAY_REDIS__RETENTION_S": "60",
                "GATEWAY_FLEET__CALLS": str(given.capacity),
                "GATEWAY_FLEET__CONTROL": str(folder / "fleet.sock"),
                **dict(each.split("=", 1) for each in given.set),
            }
            async with GatewayProcess(variables) as gateway:
                tell.print(f"gateway: process {gateway.pid}, port {gateway.port}")
                site = Site(gateway, redis, environment_for_child(variables))
                started = time.monotonic()
                end = started + given.minutes * 60
                sampler = asyncio.create_task(sample(site, storm, started, tell))
                async with asyncio.TaskGroup() as group:
                    for at, event in given.events:
                        group.create_task(strike(site, storm, event, at, tell))
                    apart = given.ramp / given.calls
                    for number in range(given.calls):
                        wait_s = number * apart
                        group.create_task(caller(storm, gateway.port, wait_s, end, given.length, number))
                await asyncio.sleep(5)
                left = site.live()
                sampler.cancel()
                await asyncio.wait((sampler,))
                pids = [gateway.pid, *descendants(gateway.pid)]
            orphans = [pid for pid in pids if is_running(pid)]
            log = [
                line
                for line in gateway.lines
                if ("Traceback" in line or "[error" in line) and not FORESEEN.search(line)
            ]
            with redis.client() as client:
                keys = sorted(key for key in client.keys("{gateway}:worker*") if client.ttl(key) < 0)
    return report(storm, left, orphans, log, keys, tell)


def slope(points: list[tuple[float, float]]) -> float:
    """Return the change per hour of a straight line through points (seconds, value), by least squares."""
    if len(points) < 3:
        return 0.0
    line = statistics.linear_regression([x for x, _ in points], [y for _, y in points])
    return line.slope * 3600


def report(
    storm: Storm, left: tuple[int, int], orphans: list[int], log: list[str], keys: list[str], tell: Console
) -> bool:
    how = Counter(call.how for call in storm.calls)
    answered = [call for call in storm.calls if call.status == "200"]
    setups = sorted(call.setup_s * 1000 for call in answered)
    table = Table("what", "figure")
    for row in (
        *((f"calls: {name}", str(count)) for name, count in how.most_common()),
        (
            "setup p50, p95, longest",
            " / ".join(f"{setups[int(len(setups) * q) - (q == 1)]:.0f}" for q in (0.5, 0.95, 1)) + " ms"
            if setups
            else "-",
        ),
        ("left in Redis: live records, places of the limit", f"{left[0]}, {left[1]}"),
        ("processes left", str(len(orphans))),
        ("keys of workers left", " ".join(keys) or "none"),
        ("errors in the gateway's last lines", str(len(log))),
    ):
        table.add_row(*row)
    warm = storm.samples[len(storm.samples) // 5 :]
    for name, index in (("PSS, MB", 1), ("processes", 2), ("descriptors", 3), ("Redis keys", 4)):
        points = [(each[0], float(each[index])) for each in warm]
        if points:
            table.add_row(
                f"{name}: first, last, slope per hour", f"{points[0][1]:.1f}, {points[-1][1]:.1f}, {slope(points):+.2f}"
            )
    tell.print(table)
    explained = sum(report_event(storm, answered, event, tell) for event in storm.events)
    for line in log[:20]:
        tell.print(line, style="red", markup=False)
    gone = sum(how[each] for each in (*LOST, "no answer"))
    return gone <= explained and not (orphans or log or left[0] or left[1])


def report_event(storm: Storm, answered: list[Call], event: tuple[str, float, str], tell: Console) -> int:
    """Print what callers noticed of an event; return how many calls it may have cost."""
    name, at, verdict = event
    until = at + 60
    lost = [
        call
        for call in storm.calls
        if call.how in ("silent", "hung up by the gateway", "BYE without an answer") and at <= call.ended <= until
    ]
    there = [call for call in answered if call.began < at and (call.ended > at or call.up) and call not in lost]
    gaps = sorted(call.longest_gap_ms(at, at + 10) for call in there)
    refused = Counter(
        call.how for call in storm.calls if call.how.startswith(("refused", "no answer")) and at <= call.began <= until
    )
    tell.print(
        f"{name}: {verdict}\n    lost {len(lost)} ({dict(Counter(call.how for call in lost))}), of {len(there)} "
        f"others the longest gap {gaps[-1] if gaps else 0:.0f} ms, refused within a minute {dict(refused)}",
        markup=False,
    )
    return len(lost) if name == "kill_worker" else 0


def _events(text: str) -> list[tuple[float, str]]:
    parts = [each.partition(":") for each in text.split(",") if each]
    return [(float(at), name) for at, _, name in parts]


def _span(text: str) -> tuple[float, float]:
    least, _, most = text.partition(":")
    return float(least), float(most or least)


def main() -> None:
    parser = argparse.ArgumentParser(description="A fleet under load while things break.")
    parser.add_argument("--calls", type=int, default=20, help="callers at once")
    parser.add_argument(
        "--capacity", type=int, default=0, help="calls the fleet may hold; default: callers and a fifth more"
    )
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--ramp", type=float, default=10, help="seconds from the first caller to the last")
    parser.add_argument("--length", type=_span, default=(20.0, 90.0), metavar="MIN:MAX", help="seconds of each call")
    parser.add_argument(
        "--events",
        type=_events,
        default=[],
        metavar="SECOND:NAME,...",
        help="kill_worker, kill_edge, restart_redis, restart, reload",
    )
    parser.add_argument("--keep", action="store_true", help="Redis keeps its data over a restart")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the gateway")
    given = parser.parse_args()
    given.capacity = given.capacity or given.calls + max(4, given.calls // 5)
    tell = Console(highlight=False, soft_wrap=True)
    sys.exit(0 if asyncio.run(run(given, tell)) else 1)


if __name__ == "__main__":
    main()
