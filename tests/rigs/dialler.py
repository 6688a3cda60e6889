"""``gateway dial`` as a child process, with a simulator and a Redis that need no ``gateway serve`` beside them."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.lab.callers.gateway_process import first_of_rtp_ports
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.settings.sections import RedisSettings
from gateway.settings.sources import environment_for_child
from gateway.store.calls import RedisCallStore
from gateway.store.embedded import EmbeddedRedis
from gateway.store.record import CallRecord

LIMIT_S = 60


@dataclass
class Dialling:
    """
    One ``gateway dial``, running inside the ``async with`` block.

    Attributes:
        output: what it printed and logged; whole after ``finish``.
    """

    arguments: Sequence[str]
    variables: dict[str, str]
    output: str = ""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-m", "gateway", "dial", *self.arguments),
            env=environment_for_child({"GATEWAY_LOG__DEBUG_THREADS": "true", **self.variables}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reading = asyncio.create_task(self._process.communicate())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._reading

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    async def finish(self) -> int:
        """Wait for the end; fill ``output``; return the exit code."""
        async with asyncio.timeout(LIMIT_S):
            printed, _ = await asyncio.shield(self._reading)
        self.output = printed.decode(errors="replace")
        assert "Traceback" not in self.output, self.output
        return self._process.returncode or 0


@dataclass
class Desk:
    """From where people are called."""

    simulator: Simulator
    store: RedisCallStore
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
        store = RedisCallStore(RedisSettings.model_validate({"url": url}), "test")
        await store.open()
        given = {
            "GATEWAY_DIALPLAN": str(path),
            "GATEWAY_SIP__HOST": "127.0.0.1",
            "GATEWAY_REALTIME__URL": simulator.url,
            "GATEWAY_REALTIME__API_KEY": "test-key",
            "GATEWAY_REDIS__URL": url,
        }
        try:
            yield Desk(simulator, store, given)
        finally:
            await store.close()
