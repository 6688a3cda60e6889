"""``gateway dial`` as a child process, with a simulator and a Redis that need no ``gateway serve`` beside them."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway.child_process import ChildProcess
from gateway.lab.callers.gateway_process import first_of_rtp_ports
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.settings.sections import RedisSettings
from gateway.settings.sources import environment_for_child
from gateway.store.embedded import EmbeddedRedis
from gateway.store.reader import CallReader
from gateway.store.record import CallRecord

LIMIT_S = 60


class Dialling(ChildProcess):
    """One ``gateway dial``, running inside the ``async with`` block; its ``output`` is whole after ``finish``."""

    def __init__(self, arguments: Sequence[str], variables: Mapping[str, str]) -> None:
        super().__init__(
            *(sys.executable, "-X", "dev", "-m", "gateway", "dial", *arguments),
            environment=environment_for_child({"GATEWAY_LOG__DEBUG_THREADS": "true", **variables}),
            stop_signal=signal.SIGKILL,
        )

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.send_signal(signal.SIGINT)

    async def finish(self) -> int:
        """Wait for the end; return the exit code."""
        code = await self.wait(LIMIT_S)
        assert "Traceback" not in self.output, self.output
        return code


@dataclass
class Desk:
    """From where people are called."""

    simulator: Simulator
    store: CallReader
    given: dict[str, str] = field(default_factory=dict)

    def dial(self, *arguments: str, **variables: str) -> Dialling:
        """Return a call to be placed; each has RTP ports of its own."""
        first = first_of_rtp_ports()
        ports = {"GATEWAY_SIP__RTP_PORT_MIN": str(first), "GATEWAY_SIP__RTP_PORT_MAX": str(first + 99)}
        return Dialling(arguments, {**self.given, **ports, **variables})

    async def record(self) -> CallRecord:
        """Return the record of the call that ended last."""
        ends = [event for event in await self.store.events() if event.get("state") == "ended"]
        record = await self.store.call(ends[-1]["call_id"])
        assert record is not None
        return record


@asynccontextmanager
async def desk(folder: Path, plan: str, options: SimulatorOptions | None = None) -> AsyncIterator[Desk]:
    """Open a desk; ``plan`` is the dialplan's text."""
    path = folder / "plan.yaml"
    path.write_text(plan, encoding="utf-8")
    redis = EmbeddedRedis()
    async with redis as url, Simulator(options or SimulatorOptions()) as simulator:
        given = {
            "GATEWAY_DIALPLAN": str(path),
            "GATEWAY_SIP__HOST": "127.0.0.1",
            "GATEWAY_REALTIME__URL": simulator.url,
            "GATEWAY_REALTIME__API_KEY": "test-key",
            "GATEWAY_REDIS__URL": url,
        }
        async with CallReader(RedisSettings.model_validate({"url": url})) as store:
            yield Desk(simulator, store, given)
