"""
Many minutes of calls with turns and random faults upstream; at the end nothing may have grown or been violated, and
nobody been left in silence.

``python -m tests.soak --minutes 30`` from the root of the project; ``make soak``. Bounded in time and in calls; ends
with exit code 1 when something leaked, a call was silent for too long, or the simulator saw a violation.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gateway.audio.pcm import PHONE
from gateway.audio.wav import read_wav
from gateway.lab.callers.gateway_process import GatewayProcess, on_loopback
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.simulator import Connection, Simulator, SimulatorOptions
from gateway.lab.speech import caller_wav
from gateway.settings.sections import RedisSettings
from gateway.store.embedded import EmbeddedRedis
from gateway.store.reader import CallReader
from tests.rigs.ear import Ear
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import ANSWERED, BYE, CANCEL, WAIT_FOR_RINGING, invite, pause
from tests.rigs.waiting import until

CALLERS = 3
SAMPLE_S = 10.0
MAX_GROWTH_MB = 8.0
MAX_SILENCE_S = 10.0
PATIENCE_S = 14.0  # a caller says no more until the agent was heard, or so long
SENTENCE_MS = (500, 3000)  # of the shipped caller
LATER_S = 4.0  # so long after a call began, other faults are for the sessions it opens from then on
FAULTS: tuple[tuple[str, ...], ...] = (
    *((),) * 12,  # most sessions are good ones
    ("drop=4",),
    ("close=5",),
    ("close=6:1011",),
    ("server_error=5",),
    ("close=session.update",),
    ("refuse=invalid_model",),
    ("http=503",),
    ("silent",),
    ("freeze=4",),
    ("latency=80", "jitter=60"),
    ("pace=0.7",),
    ("burst=3",),
    ("late_deltas=3",),
    ("two_items",),
    ("interleaved",),
    ("backwards",),
    ("twice=response.done",),
    ("missing=rate_limits.updated",),
    ("slow_acks=0.5",),
    ("open_turns=1",),
    ("unknown_events", "unknown_fields"),
    ("expire=8",),
    ("close_reply=never",),
    *(
        (f"odd={field}",)
        for field in (
            "response.done:response.status_details:text",
            "response.done:response.usage:null",
            "response.created:response.id:null,events=2",
            "response.output_item.added:item:null",
            "conversation.item.added:item.type:number",
            "conversation.item.input_audio_transcription.completed:transcript:surrogate",
            "input_audio_buffer.speech_stopped:item_id:missing",
            "rate_limits.updated:rate_limits:null",
        )
    ),
    *((f"stray=response.created:{kind}",) for kind in ("text", "object", "cut", "binary", "null_type")),
)
# These are for one of the first three answers, or for all from one on.
ANSWER_FAULTS: tuple[str, ...] = (
    "fail=server_error",
    "fail=null",
    "fail=no_error",
    "try_again=1",
    "fail=server_error@1",
    "incomplete=content_filter@0",
    "incomplete=content_filter@1",
    "incomplete=max_output_tokens",
    "cancelled",
    "empty",
    "comes_as=text",
    "comes_as=transcript",
    "stall",
    "stall=1",
    "stall=0:deaf",
    "deny=null",
    "deny=rate_limit_exceeded@1:nameless",
    "unanswered",
    "crossed=0.3",
    "crossed=done+0.3:nameless",
    "calls=look_up",
    "mcp=completed",
    "mcp=failed:approval",
    "mcp=never",
)
PLAN = """
agents:
{agents}
routes:
{routes}
"""
AGENTS = """
  a{number}:
    instructions: Answer shortly.
    greeting: Say hello.
    model: {model}
    on_loss: {{action: reconnect, give_up_after_s: 5}}
    turn_detection: {{guard_ms: 150}}
  b{number}:
    instructions: Answer shortly.
    greeting: Say hello.
    model: {model}
    audio_format: pcmu
    early_audio: hold
"""
ROUTES = """
  - {{name: reconnects {number}, match: {{to: "{number}1"}}, agent: a{number}}}
  - {{name: hangs up {number}, match: {{to: "{number}0"}}, agent: b{number}}}
"""


def model_of(number: int) -> str:
    """Return the model that tells a caller's sessions from those of the others."""
    return f"gpt-realtime-20{10 + number}-01-01"


def plan() -> str:
    numbers = range(CALLERS)
    agents = "".join(AGENTS.format(number=number, model=model_of(number)) for number in numbers)
    return PLAN.format(agents=agents, routes="".join(ROUTES.format(number=number) for number in numbers))


def some_faults(dice: random.Random) -> tuple[str, ...]:
    """Return what goes wrong in a session."""
    if dice.random() < 0.5:
        return dice.choice(FAULTS)
    first = dice.choice((1, 1, 2, 2, 3))
    return (f"{dice.choice(ANSWER_FAULTS)},answers={first}{dice.choice(('', '', '', '-'))}",)


class Soak:
    """What is counted."""

    def __init__(self) -> None:
        self.calls = Counter[str]()
        self.samples: list[tuple[float, float, int, int]] = []  # seconds, RSS in MB, descriptors, threads
        self.violations: list[str] = []
        self.sessions = 0
        self.faults = Counter[str]()
        self.silent: list[str] = []
        self._told: dict[str, tuple[str, ...]] = {}
        self._had: dict[int, tuple[str, ...]] = {}  # the faults of a session, by its number

    def tell(self, simulator: Simulator, model: str, faults: tuple[str, ...]) -> None:
        """Let the sessions to come of a model have these faults."""
        self._told[model] = faults
        told = [(each, fault) for each, several in self._told.items() for fault in several]
        simulator.faults[:] = [f"{fault},model={each}" for each, fault in told]

    def opened(self, connection: Connection) -> None:
        """Remember what a session has for faults."""
        self._had[connection.number] = self._told.get(connection.model, ())

    def ended(self, connection: Connection) -> None:
        """Take what the gateway did wrong in a session."""
        self.sessions += 1
        faults = self._had.pop(connection.number, ())
        at = f"session {connection.number}, faults {faults}"
        self.violations += [f"{at}: {what}" for what in connection.violations]

    def sample(self, started: float, pid: int) -> None:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        rss_mb = int(fields["VmRSS"].split()[0]) / 1024
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        self.samples.append((time.monotonic() - started, rss_mb, descriptors, int(fields["Threads"])))


@dataclass(frozen=True)
class Line:
    """
    One of the callers at work.

    Attributes:
        number: of the caller, from 0; its sessions ask for a model of their own.
        simulator: takes its faults.
        port: the gateway's.
        folder: for SIPp's files.
        tell: takes what is worth a line.
    """

    number: int
    simulator: Simulator
    port: int
    folder: Path
    tell: Console


async def caller(soak: Soak, line: Line, end: float, dice: random.Random) -> None:
    """Call, talk, hang up; again and again."""
    loop, model = asyncio.get_running_loop(), model_of(line.number)
    while time.monotonic() < end:
        length_ms = dice.randint(1500, 30_000)
        faults, later = some_faults(dice), some_faults(dice)
        soak.tell(line.simulator, model, faults)
        soak.faults.update(fault.partition(",")[0] for fault in faults or ("none",))
        service, gives_up = f"{line.number}{dice.choice('01')}", dice.random() < 0.1
        talk = (WAIT_FOR_RINGING, CANCEL) if gives_up else (ANSWERED, pause(length_ms), BYE)
        async with RtpPeer() as phone:
            steps = (invite(phone.port), *talk)
            timers = [loop.call_later(LATER_S, soak.tell, line.simulator, model, later)]
            if dice.random() < 0.2:
                timers.append(loop.call_later(dice.uniform(5, 15), phone.press, "12#"))
            ear, spoken = Ear(phone), list[tuple[float, float]]()
            async with Sipp(line.port, steps, line.folder / str(line.number), service=service) as sipp:
                talking = asyncio.create_task(converse(phone, ear, spoken, dice))
                code = await sipp.finish()
                talking.cancel()
                await asyncio.wait((talking,))
            for timer in timers:
                timer.cancel()
        # A call that upstream ended, or refused, is not what the scenario says: that is no failure here.
        finals = [m.first_line for m in sipp.messages if m.first_line.startswith(("SIP/2.0 4", "SIP/2.0 5"))]
        soak.calls["as planned" if code == 0 else finals[0] if finals else "hung up by the gateway"] += 1
        silence_s, since_s = longest_silence(ear.frames(), spoken)
        if silence_s > MAX_SILENCE_S and not gives_up:
            at = f"{silence_s:.1f} s of silence, {since_s:.1f} s into a call of {length_ms / 1000:.0f} s"
            soak.silent.append(f"{at} to {service}, faults {faults}, for later sessions {later}")
            line.tell.print(soak.silent[-1], style="red", markup=False)


async def converse(phone: RtpPeer, ear: Ear, spoken: list[tuple[float, float]], dice: random.Random) -> None:
    """Say something, wait for the agent, let it speak or interrupt it; now and then before its greeting."""
    start, end = (PHONE.bytes_of(ms) for ms in SENTENCE_MS)
    _, speech = read_wav(caller_wav())
    await until(lambda: phone.reception.packets, 120.0, "audio")
    phone.talk()
    since = time.monotonic()
    if dice.random() < 0.3:
        await asyncio.sleep(dice.uniform(0.1, 2))
        since = time.monotonic() - PATIENCE_S
    while True:
        while ear.first_sound(since) is None and time.monotonic() < since + PATIENCE_S:
            await asyncio.sleep(0.1)
        await asyncio.sleep(dice.uniform(0.2, 5))
        began = time.monotonic()
        phone.say(speech[start:end])
        await asyncio.sleep((SENTENCE_MS[1] - SENTENCE_MS[0]) / 1000)
        since = time.monotonic()
        spoken.append((began, since))


def longest_silence(frames: Sequence[tuple[float, str]], spoken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return for how long neither side was heard at the longest, and how far into the call; in seconds."""
    if not frames:
        return 0.0, 0.0
    began, ended = frames[0][0], frames[-1][0]
    own = [at for stretch in spoken for at in stretch if at < ended]
    marks = sorted([began, *(at for at, kind in frames if kind), *own, ended])
    return max((after - before, before - began) for before, after in itertools.pairwise(marks))


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
            f"{descriptors:3} descriptors  {threads} threads  {len(soak.violations)} violations  "
            f"{len(soak.silent)} silent"
        )


def take_violations(soak: Soak, simulator: Simulator) -> None:
    for connection in [each for each in simulator.connections if not each.open]:
        simulator.connections.remove(connection)
        soak.ended(connection)


async def run(minutes: float, seed: int, tell: Console) -> bool:
    dice, soak = random.Random(seed), Soak()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        dialplan = folder / "plan.yaml"
        dialplan.write_text(plan(), encoding="utf-8")
        async with (
            EmbeddedRedis() as redis,
            Simulator(SimulatorOptions(keep_audio_s=0), on_opened=soak.opened) as simulator,
        ):
            variables = on_loopback(dialplan, simulator.url) | {
                "GATEWAY_REALTIME__EXPIRY_GOODBYE_S": "3",
                "GATEWAY_REALTIME__ROLL_OVER_BEFORE_S": "5",
                "GATEWAY_CALL__SETUP_LIMIT_S": "3",
                "GATEWAY_REDIS__URL": redis,
                "GATEWAY_REDIS__RETENTION_S": "30",
            }
            async with GatewayProcess(variables) as gateway:
                pid, end = gateway.pid, time.monotonic() + minutes * 60
                async with asyncio.TaskGroup() as group:
                    group.create_task(watch(soak, simulator, pid, end, tell))
                    for number in range(CALLERS):
                        line = Line(number, simulator, gateway.port, folder, tell)
                        group.create_task(caller(soak, line, end, dice))
                async with CallReader(RedisSettings.model_validate({"url": redis})) as reader:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(10):
                            while await reader.live_calls():
                                await asyncio.sleep(0.1)
                    left = len(await reader.live_calls())
                soak.sample(0, pid)
            take_violations(soak, simulator)
            faults = [line for line in gateway.lines if "Traceback" in line or "[error" in line]
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
        (f"calls in silence for more than {MAX_SILENCE_S:g} s", str(len(soak.silent))),
        ("violations seen by the simulator", str(len(soak.violations))),
        ("errors in the gateway's last lines", str(len(faults))),
    ):
        table.add_row(*row)
    tell.print(table)
    tell.print("calls by fault: " + ", ".join(f"{fault} {count}" for fault, count in sorted(soak.faults.items())))
    for line in (*soak.silent, *dict.fromkeys(soak.violations), *faults[:20]):
        tell.print(line, style="red", markup=False)
    busy = min(d for _, _, d, _ in soak.samples[:-1])
    return not (
        soak.silent or soak.violations or faults or left or late - early > MAX_GROWTH_MB or idle_descriptors > busy
    )


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
