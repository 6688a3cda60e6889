"""A whole house: simulator, Redis and gateway, each real, on free ports."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from gateway.lab.callers.gateway_process import GatewayProcess, on_loopback
from gateway.lab.simulator import Connection, Simulator, SimulatorOptions
from gateway.settings.sections import RedisSettings
from gateway.store.embedded import EmbeddedRedis
from gateway.store.reader import CallReader
from tests.rigs.waiting import until
from tests.rigs.warm import WarmGateway

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
    store: CallReader
    redis: EmbeddedRedis
    redis_url: str

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

    async def happened(self, name: str, *, times: int = 1) -> dict[str, str]:
        """Wait until an event of this name, or a state, has come so often; return the last."""
        end = time.monotonic() + 40
        while True:
            events = await self.store.events()
            found = [event for event in events if name in (event["event"], event.get("state"))]
            if len(found) >= times:
                return found[-1]
            assert time.monotonic() < end, f"no {name} among {[event['event'] for event in events]}"
            await asyncio.sleep(0.02)

    async def closed(self, number: int = 1) -> Connection:
        """Wait until the simulator has seen the end of its connection with this number."""
        connection = await self.simulator.connection(number)
        await until(lambda: connection.closed_at is not None, what="the socket to be closed")
        return connection

    def record_ttls(self) -> list[int]:
        """Return how many seconds each record that Redis holds is kept, of live and of ended calls."""
        with Redis.from_url(self.redis_url, decode_responses=True) as client:
            keys = client.keys("{gateway}:call:*")
            return [client.ttl(key) for key in keys if not key.endswith(":events")]

    def tool_outputs(self) -> list[str]:
        """Return what tools gave the agent in the newest connection."""
        items = self.simulator.connections[-1].items()
        return [str(item["output"]) for item in items if item["type"] == "function_call_output"]


MakeHouse = Callable[..., AbstractAsyncContextManager[House]]


def moment(connection: Connection) -> float:
    """Return when a connection was closed, in Unix seconds."""
    assert connection.closed_at is not None
    return connection.closed_at + time.time() - time.monotonic()


@asynccontextmanager
async def open_house(
    folder: Path,
    *faults: str,
    profile: str = "",
    dialplan: str = "",
    simulator: SimulatorOptions | None = None,
    warm: bool = True,
    foreseen: str = "",
    **variables: str,
) -> AsyncIterator[House]:
    """
    Open a house with its dialplan in ``folder``; fails when the gateway logged an error or did not end in order.

    Errors in the log that match ``foreseen`` are none.

    Not ``warm``: the gateway is an interpreter of its own, from its first line to its last.
    """
    plan = folder / "plan.yaml"
    plan.write_text(dialplan or DIALPLAN.format(profile=profile), encoding="utf-8")
    options = simulator or SimulatorOptions(faults=faults)
    redis = EmbeddedRedis()
    async with redis as redis_url, Simulator(options) as model:
        given = on_loopback(plan, model.url) | {
            "GATEWAY_REDIS__URL": redis_url,
            "GATEWAY_SIP__LATE_PERCENT": "0",  # calls are taken on a machine that is busy with other tests, too
            **variables,
        }
        async with (
            WarmGateway(given) if warm else GatewayProcess(given, debug=True) as gateway,
            CallReader(RedisSettings.model_validate({"url": redis_url})) as store,
        ):
            yield House(model, gateway, store, redis, redis_url)
        assert gateway.exit_code == 0, gateway.output
        errors = [line for line in gateway.lines if "Traceback" in line or "[error" in line]
        broken = [line for line in errors if not (foreseen and re.search(foreseen, line))]
        assert not broken, gateway.output
