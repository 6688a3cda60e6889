"""What is measured, and what it is measured with: the gateway with its edge, Redis and model; the floor."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.free_port import free_port
from gateway.lab.bench.child import PYTHON, MeasuredProcess
from gateway.store.embedded import EmbeddedRedis

START_LIMIT_S = 120.0
_READY = r"ready: sip:\S+?:(\d+)"
_SPOKE = re.compile(r"spoke (\S+) (\d+)")
_ENDED = re.compile(r"ended \S+ (.+)")
_FIRST_PORT, _LAST_PORT = 10_000, 32_000  # below those that the system gives out
_LEAST_RTP_PORTS = 400
_RTP_PORTS_PER_CALL = 16

_DIALPLAN = """\
agents:
  bench:
    instructions: Answer {{ caller }} in a sentence or two.
    greeting: Hello! How can I help you?
  echo:
    model: echo
    instructions: Send {{ caller }} what you hear.
routes:
  - {name: canary, match: {to: echo}, agent: echo}
  - {name: everyone, agent: bench}
"""


@dataclass(frozen=True, slots=True)
class House:
    """
    A gateway that runs, and what it uses.

    Attributes:
        gateway: with its workers and its edge.
        model: the model's program.
        redis_pid: of a Redis of its own.
        port: where SIP calls go: the edge's, or the only worker's.
    """

    gateway: MeasuredProcess
    model: MeasuredProcess
    redis_pid: int
    port: int

    def spoke_ns(self) -> dict[str, int]:
        """Return when the model's first audio for each caller went out, since the epoch."""
        found = (_SPOKE.fullmatch(line) for line in self.model.lines)
        return {each[1]: int(each[2]) for each in found if each is not None}

    def violations(self) -> list[str]:
        """Return what the gateway did against the model's protocol."""
        return [each[1] for line in self.model.lines if (each := _ENDED.fullmatch(line)) is not None]


@asynccontextmanager
async def house(work_dir: Path, calls: int, *, uplink_ms: int = 20, think_ms: int = 150) -> AsyncIterator[House]:
    """
    Run a Redis, a model and a gateway for so many calls.

    Args:
        work_dir: for files.
        calls: 0 takes as many as one worker holds.
        uplink_ms: caller audio per message to the model.
        think_ms: how long the model thinks before it speaks.

    Raises:
        ChildFailed: one did not start.
        StoreError: Redis did not start.
    """
    (work_dir / "bench.yaml").write_text(_DIALPLAN)
    ports = max(_LEAST_RTP_PORTS, _RTP_PORTS_PER_CALL * calls)
    first = random.randrange(_FIRST_PORT, _LAST_PORT - ports, 2)
    async with AsyncExitStack() as stack:
        redis = EmbeddedRedis()
        redis_url = await stack.enter_async_context(redis)
        command = [*PYTHON, "-m", "gateway.lab.bench.model", "--think-ms", str(think_ms)]
        model = await stack.enter_async_context(MeasuredProcess("the model", command, work_dir))
        url = (await model.find(r"ready: (\S+)", START_LIMIT_S))[1]
        environment = {
            "GATEWAY_DIALPLAN": "bench.yaml",
            "GATEWAY_SIP__HOST": "127.0.0.1",
            "GATEWAY_SIP__PORT": str(free_port()),
            "GATEWAY_SIP__RTP_PORT_MIN": str(first),
            "GATEWAY_SIP__RTP_PORT_MAX": str(first + ports - 1),
            "GATEWAY_SIP__REQUESTS_PER_SECOND": "10000",  # all callers have one address
            "GATEWAY_REALTIME__URL": url,
            "GATEWAY_REALTIME__API_KEY": "bench",
            "GATEWAY_REALTIME__UPLINK_MS": str(uplink_ms),
            "GATEWAY_REDIS__URL": redis_url,
            "GATEWAY_CALL__DRAIN_LIMIT_S": "0",
            "GATEWAY_FLEET__CONTROL": str(work_dir / "control"),
        }
        command = [*PYTHON, "-m", "gateway", "serve", "--calls", str(calls)]
        gateway = await stack.enter_async_context(MeasuredProcess("gateway", command, work_dir, environment))
        port = int((await gateway.find(_READY, START_LIMIT_S))[1])
        yield House(gateway, model, redis.pid, port)


@asynccontextmanager
async def floor(work_dir: Path, calls: int, capacity: int) -> AsyncIterator[tuple[list[MeasuredProcess], list[int]]]:
    """
    Run as many loopbacks as so many calls need; give them and their SIP ports.

    Args:
        work_dir: for files.
        calls: in all.
        capacity: calls of one worker: each loopback gets as many.
    """
    async with AsyncExitStack() as stack:
        started = []
        per_process = 100
        first = random.randrange(_FIRST_PORT, _LAST_PORT - per_process * calls, 2)
        for number in range(-(-calls // capacity)):
            command = [*PYTHON, "-m", "gateway.sip.library.loopback"]
            command += ["--rtp-port-min", str(first + number * per_process)]
            name = f"loopback {number + 1}"
            started.append(await stack.enter_async_context(MeasuredProcess(name, command, work_dir)))
        yield started, [int((await each.find(_READY, START_LIMIT_S))[1]) for each in started]
