"""
One real call, from nothing: private Redis, simulator, gateway and robot, and the story of what each of them saw.

How it works. ``run_demo`` starts the four on free ports of the loopback interface: Redis and simulator inside this
process, the gateway and the robot as child processes, since pjsua2 lives once per process. When the robot has hung
up, the three accounts of the call (the robot's report, the gateway's events in Redis, the simulator's connections)
are sorted by time into one story, and the robot's recording becomes a picture.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.audio.wav import read_stereo_wav
from gateway.call.end_reasons import explained
from gateway.child_process import ChildFailed, ChildProcess
from gateway.errors import ConfigError
from gateway.lab.callers.gateway_process import GatewayProcess, on_loopback
from gateway.lab.figures.picture import Mark, draw_call
from gateway.lab.simulator import Connection, Simulator, SimulatorOptions
from gateway.settings.sections import RedisSettings
from gateway.settings.sources import environment_for_child
from gateway.store.embedded import EmbeddedRedis
from gateway.store.reader import CallReader

CALL_LIMIT_S = 60.0
_QUIET = frozenset({"input_audio_buffer.append"})


@dataclass(frozen=True, slots=True)
class StoryLine:
    """One thing that one of the four saw; ``at`` in Unix seconds."""

    at: float
    who: str
    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class Demo:
    """
    The result of the demo.

    Attributes:
        story: what happened, by time.
        exit_code: the robot's: 0 only if the agent was heard.
        verdict: that code in words.
        recording: stereo WAV, caller left and agent right.
        picture: PNG of both waveforms with marks.
    """

    story: list[StoryLine]
    exit_code: int
    verdict: str
    recording: Path
    picture: Path


async def run_demo(out: Path, dialplan: Path, tell: Callable[[str], None]) -> Demo:
    """
    Make one call and write its recording and picture into ``out``.

    Args:
        out: directory; made if missing.
        dialplan: what the gateway does with the call.
        tell: takes a line of progress at a time.

    Raises:
        GatewayError: one of the four could not start.
    """
    out.mkdir(parents=True, exist_ok=True)
    async with EmbeddedRedis() as redis, Simulator(SimulatorOptions()) as simulator:
        tell(f"Redis        private, {redis}")
        tell(f"simulator    {simulator.url}")
        variables = on_loopback(dialplan, simulator.url) | {"GATEWAY_REDIS__URL": redis}
        async with GatewayProcess(variables) as gateway:
            tell(f"gateway      sip:127.0.0.1:{gateway.port}")
            tell(f"robot        calls sip:1000@127.0.0.1:{gateway.port} (about 20 s)")
            report = await _robot_call(f"sip:1000@127.0.0.1:{gateway.port}", out)
            async with CallReader(RedisSettings.model_validate({"url": redis})) as reader:
                noted = await reader.events()
        story = sorted(
            (*_told_by_robot(report), *_told_by_gateway(noted), *_told_by_simulator(simulator.connections)),
            key=lambda line: line.at,
        )
    return _written_down(story, report, out)


async def _robot_call(uri: str, out: Path) -> Mapping[str, Any]:
    """Run ``gateway call`` in its own process, since pjsua2 lives once per process; return its report."""
    report = out / "demo.json"
    report.unlink(missing_ok=True)
    command = (sys.executable, "-m", "gateway", "call", uri, "--record", str(out / "demo.wav"), "--report", str(report))
    async with ChildProcess(*command, environment=environment_for_child({}), stop_signal=signal.SIGKILL) as robot:
        with suppress(ChildFailed):
            await robot.wait(CALL_LIMIT_S)
    if not report.exists():
        raise ConfigError(f"the robot reported nothing of its call:\n{robot.output}")
    told: Mapping[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return told


def _told_by_robot(report: Mapping[str, Any]) -> Iterator[StoryLine]:
    for happening in report["happenings"]:
        yield StoryLine(happening["at"], "robot", happening["what"], happening["detail"])


_SHOWN = ("from_uri", "to_uri", "codec", "upstream_session_id", "text", "end_reason")
_LATENCIES = ("turn_latency_ms", "interruption_ms", "ready_ms")
_UNTOLD = frozenset({"usage", "rate_limits", "agent_spoke"})  # what the agent said is reported when it was heard


def _told_by_gateway(events: list[dict[str, str]]) -> Iterator[StoryLine]:
    for event in events:
        if event["event"] not in _UNTOLD:
            words = [event[name] for name in _SHOWN if name in event]
            words += [
                f"{name.removesuffix('_ms').replace('_', ' ')} {event[name]} ms" for name in _LATENCIES if name in event
            ]
            if "end_reason" in event:
                words.append(f"({explained(event['end_reason'], event.get('fault', ''))})")
            yield StoryLine(float(event["at"]), "gateway", event["event"].replace("_", " "), " ".join(words))


def _told_by_simulator(connections: list[Connection]) -> Iterator[StoryLine]:
    wall = time.time() - time.monotonic()
    for connection in connections:
        for name, at in connection.events:
            if name not in _QUIET:
                yield StoryLine(wall + at, "simulator", f"got {name}", "")
        if connection.closed_at is not None:
            yield StoryLine(wall + connection.closed_at, "simulator", "socket closed", str(connection.close_code))


def _written_down(story: list[StoryLine], report: Mapping[str, Any], out: Path) -> Demo:
    recording, picture = out / "demo.wav", out / "demo.png"
    if recording.exists():
        rate_hz, caller, agent = read_stereo_wav(recording)
        draw_call(picture, rate_hz, caller, agent, list(_marks(report)))
    return Demo(story, report["exit_code"], report["verdict"], recording, picture)


def _marks(report: Mapping[str, Any]) -> Iterator[Mark]:
    labels = {"ringing": "ring", "answered": "answer", "first agent audio": "first audio"}
    for happening in report["happenings"]:
        what = happening["what"]
        at_s = happening["at"] - report["audio_at"]
        if what in labels or what.startswith("hang-up"):
            yield Mark(at_s, labels.get(what, "hang-up"))
        elif what in ("robot speaks", "agent speaks"):
            yield Mark(at_s, what.removesuffix(" speaks"))
