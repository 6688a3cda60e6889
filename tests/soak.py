"""
Many minutes of calls with turns and random faults upstream; at the end nothing may have grown or been violated.

``python -m tests.soak --minutes 30`` from the root of the project; ``make soak``. Bounded in time and in calls; ends
with exit code 1 when something leaked or the simulator saw a violation.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gateway.audio.wav import read_wav
from gateway.lab.gateway_process import GatewayProcess
from gateway.lab.rtp_peer import RtpPeer
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.lab.speech import caller_wav
from gateway.sessions.embedded import EmbeddedRedis
from gateway.sessions.store import RedisSessionStore
from gateway.settings import RedisSettings
from tests.e2e.sipp import ANSWERED, BYE, CANCEL, WAIT_FOR_RINGING, Sipp, free_port, invite, pause

CALLERS = 3
SAMPLE_S = 10.0
MAX_GROWTH_MB = 8.0
FAULTS: tuple[tuple[str, ...], ...] = (
    *((),) * 6,  # most connections are good ones
    ("drop=4",),
    ("close=5",),
    ("close=6:1011",),
    ("server_error=5",),
    ("close=session.update",),
    ("refuse=invalid_model",),
    ("http=503",),
    ("silent",),
    ("latency=80", "jitter=60"),
    ("pace=0.7",),
    ("burst=3",),
    ("late_deltas=3",),
    ("two_items",),
    ("twice=response.done",),
    ("missing=rate_limits.updated",),
    ("unknown_events", "unknown_fields"),
    ("fail=rate_limit_exceeded:1",),
    ("incomplete=max_output_tokens:1",),
    ("expire=8",),
    ("close_reply=never",),
)
PLAN = """
agents:
  a:
    instructions: Answer shortly.
    greeting: Say hello.
    on_loss: {action: reconnect, give_up_after_s: 5}
    turn_detection: {guard_ms: 150}
  b:
    instructions: Answer shortly.
    greeting: Say hello.
    audio_format: pcmu
    early_audio: hold
routes:
  - {name: reconnects, called: "1001", agent: a}
  - {name: hangs up, agent: b}
"""


class Soak:
    """What is counted."""

    def __init__(self) -> None:
        self.calls = Counter[str]()
        self.samples: list[tuple[float, float, int, int]] = []  # seconds, RSS in MB, descriptors, threads
        self.violations: list[str] = []
        self.sessions = 0

    def sample(self, started: float, pid: int) -> None:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        rss_mb = int(fields["VmRSS"].split()[0]) / 1024
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        self.samples.append((time.monotonic() - started, rss_mb, descriptors, int(fields["Threads"])))


async def caller(soak: Soak, port: int, folder: Path, end: float, dice: random.Random) -> None:
    """Call, speak, be silent, hang up; again and again."""
    _, speech = read_wav(caller_wav())
    while time.monotonic() < end:
        length_ms = dice.randint(1500, 22_000)
        async with RtpPeer(speech, looped=True) as phone:
            steps = (invite(phone.port), ANSWERED, pause(length_ms), BYE)
            if dice.random() < 0.1:
                steps = (invite(phone.port), WAIT_FOR_RINGING, CANCEL)
            talking = asyncio.get_running_loop().call_later(dice.uniform(0.1, 6), phone.talk)
            async with Sipp(port, steps, folder, service=dice.choice(("1000", "1001"))) as sipp:
                code = await sipp.finish()
            talking.cancel()
        # A call that upstream ended, or refused, is not what the scenario says: that is no failure here.
        finals = [m.first_line for m in sipp.messages if m.first_line.startswith(("SIP/2.0 4", "SIP/2.0 5"))]
        soak.calls["as planned" if code == 0 else finals[0] if finals else "hung up by the gateway"] += 1


async def shuffle_faults(simulator: Simulator, end: float, dice: random.Random) -> None:
    """Every few seconds, other faults for the connections to come."""
    while time.monotonic() < end:
        simulator.faults[:] = dice.choice(FAULTS)
        await asyncio.sleep(dice.uniform(1, 4))


async def watch(soak: Soak, simulator: Simulator, pid: int, end: float, tell: Console) -> None:
    """Sample the gateway's process and take the violations of ended sessions."""
    started = time.monotonic()
    while time.monotonic() < end:
        await asyncio.sleep(SAMPLE_S)
        soak.sample(started, pid)
        take_violations(soak, simulator)
        seconds, rss_mb, descriptors, threads = soak.samples[-1]
        tell.print(
            f"{seconds:6.0f} s  {soak.calls.total():4} calls  {soak.sessions:4} sessions  {rss_mb:6.1f} MB  "
            f"{descriptors:3} descriptors  {threads} threads  {len(soak.violations)} violations"
        )


def take_violations(soak: Soak, simulator: Simulator) -> None:
    for connection in [each for each in simulator.connections if not each.open]:
        simulator.connections.remove(connection)
        soak.sessions += 1
        soak.violations += [f"session {connection.number}: {what}" for what in connection.violations]


async def run(minutes: float, seed: int, tell: Console) -> bool:
    dice, soak = random.Random(seed), Soak()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        plan = folder / "plan.yaml"
        plan.write_text(PLAN, encoding="utf-8")
        first_rtp_port = free_port() // 2 * 2 % 20000 + 30000
        async with EmbeddedRedis() as redis, Simulator(SimulatorOptions(keep_audio_s=0)) as simulator:
            variables = {
                "GATEWAY_DIALPLAN": str(plan),
                "GATEWAY_SIP__HOST": "127.0.0.1",
                "GATEWAY_SIP__PORT": "0",
                "GATEWAY_SIP__RTP_PORT_MIN": str(first_rtp_port),
                "GATEWAY_SIP__RTP_PORT_MAX": str(first_rtp_port + 99),
                "GATEWAY_REALTIME__URL": simulator.url,
                "GATEWAY_REALTIME__API_KEY": "soak",
                "GATEWAY_REALTIME__EXPIRY_GOODBYE_S": "3",
                "GATEWAY_REALTIME__ROLL_OVER_BEFORE_S": "5",
                "GATEWAY_CALL__SETUP_LIMIT_S": "3",
                "GATEWAY_REDIS__URL": redis,
                "GATEWAY_REDIS__RETENTION_S": "30",
            }
            async with GatewayProcess(variables) as gateway:
                pid, end = gateway.process.pid, time.monotonic() + minutes * 60
                async with asyncio.TaskGroup() as group:
                    group.create_task(shuffle_faults(simulator, end, dice))
                    group.create_task(watch(soak, simulator, pid, end, tell))
                    for number in range(CALLERS):
                        group.create_task(caller(soak, gateway.port, folder / str(number), end, dice))
                store = RedisSessionStore(RedisSettings.model_validate({"url": redis}), "soak", takes_calls=False)
                await store.open()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(10):
                        while await store.live_calls():
                            await asyncio.sleep(0.1)
                left = len(await store.live_calls())
                await store.close()
                soak.sample(0, pid)
            take_violations(soak, simulator)
            faults = [line for line in gateway.output if "Traceback" in line or "[error" in line]
    return report(soak, left, faults, tell)


def report(soak: Soak, left: int, faults: list[str], tell: Console) -> bool:
    """Print what was counted; return whether all is well."""
    warm = soak.samples[len(soak.samples) // 5 :] or soak.samples
    third = max(1, len(warm) // 3)
    early = statistics.median(rss for _, rss, _, _ in warm[:third])
    late = statistics.median(rss for _, rss, _, _ in warm[-third:])
    idle_descriptors = soak.samples[-1][2]
    table = Table("what", "figure")
    for row in (
        *((f"calls: {how}", str(count)) for how, count in soak.calls.most_common()),
        ("upstream sessions", str(soak.sessions)),
        ("memory, first and last third of the run", f"{early:.1f} -> {late:.1f} MB"),
        ("descriptors while busy, at the end", f"{max(d for _, _, d, _ in soak.samples)}, {idle_descriptors}"),
        ("threads, most", str(max(t for _, _, _, t in soak.samples))),
        ("calls left in the live set", str(left)),
        ("violations seen by the simulator", str(len(soak.violations))),
        ("errors in the gateway's last lines", str(len(faults))),
    ):
        table.add_row(*row)
    tell.print(table)
    for line in (*dict.fromkeys(soak.violations), *faults[:20]):
        tell.print(line, style="red", markup=False)
    busy = min(d for _, _, d, _ in soak.samples[:-1])
    return not (soak.violations or faults or left or late - early > MAX_GROWTH_MB or idle_descriptors > busy)


def main() -> None:
    parser = argparse.ArgumentParser(description="Many minutes of calls with random faults upstream.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    tell = Console(highlight=False, soft_wrap=True)
    tell.print(f"seed {given.seed}, {given.minutes:g} minutes, {CALLERS} callers")
    sys.exit(0 if asyncio.run(run(given.minutes, given.seed, tell)) else 1)


if __name__ == "__main__":
    main()
