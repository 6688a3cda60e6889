"""A whole house: simulator, Redis and gateway, each real, on free ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from gateway.lab.callers.gateway_process import GatewayProcess, on_loopback
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.settings.sections import RedisSettings
from gateway.store.calls import RedisSessionStore
from gateway.store.embedded import EmbeddedRedis

DIALPLAN = """
agents:
  tester:
    instructions: Answer shortly.
    greeting: Say hello.
    {profile}
routes:
  - name: everyone
    agent: tester
"""


@dataclass
class House:
    """What a test works with."""

    simulator: Simulator
    gateway: GatewayProcess
    store: RedisSessionStore
    redis: EmbeddedRedis

    @property
    def port(self) -> int:
        return self.gateway.port

    async def ended_record(self) -> dict[str, str]:
        """Return the newest event that ended a call; waits for it."""
        async with asyncio.timeout(40):
            while True:
                ends = [event for event in await self.store.events() if event.get("state") == "ended"]
                if ends:
                    return ends[-1]
                await asyncio.sleep(0.01)

    async def end_reasons(self, calls: int) -> list[str]:
        """Return why so many calls ended, in alphabetical order; waits for them."""
        async with asyncio.timeout(40):
            while True:
                ends = [event["end_reason"] for event in await self.store.events() if event.get("state") == "ended"]
                if len(ends) >= calls:
                    return sorted(ends)
                await asyncio.sleep(0.02)


MakeHouse = Callable[..., AbstractAsyncContextManager[House]]


@asynccontextmanager
async def open_house(
    folder: Path,
    *faults: str,
    profile: str = "",
    dialplan: str = "",
    simulator: SimulatorOptions | None = None,
    **variables: str,
) -> AsyncIterator[House]:
    """Open a house with its dialplan in ``folder``; fails when the gateway logged an error or did not end in order."""
    plan = folder / "plan.yaml"
    plan.write_text(dialplan or DIALPLAN.format(profile=profile), encoding="utf-8")
    options = simulator or SimulatorOptions(faults=faults)
    redis = EmbeddedRedis()
    async with redis as redis_url, Simulator(options) as model:
        given = on_loopback(plan, model.url) | {
            "GATEWAY_REDIS__URL": redis_url,
            **variables,
        }
        async with GatewayProcess(given, debug=True) as gateway:
            store = RedisSessionStore(RedisSettings.model_validate({"url": redis_url}), "test")
            await store.open()
            try:
                yield House(model, gateway, store, redis)
            finally:
                await store.close()
        assert gateway.process.returncode == 0, "\n".join(gateway.output)
        broken = [line for line in gateway.output if "Traceback" in line or "[error" in line]
        assert not broken, "\n".join(gateway.output)


@pytest.fixture
def house(tmp_path: Path) -> MakeHouse:
    return partial(open_house, tmp_path)
