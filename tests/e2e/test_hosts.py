"""Several machines on one Redis: real workers, fleets and edges, each a process that finds the others by itself."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.lab.callers.gateway_process import GatewayProcess, on_loopback
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.settings.sections import RedisSettings
from tests.rigs.edge_process import EdgeProcess
from tests.rigs.fleet import open_fleet
from tests.rigs.redis_server import RedisServer
from tests.rigs.sipp import play
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e


def joined(settings: RedisSettings) -> dict[str, str]:
    """Return what a machine with workers is told so that edges elsewhere find them."""
    return {
        "GATEWAY_REDIS__URL": str(settings.url),
        "GATEWAY_REDIS__WORKER_HEARTBEAT_S": str(settings.worker_heartbeat_s),
        "GATEWAY_REDIS__WORKER_EXPIRY_S": str(settings.worker_expiry_s),
        "GATEWAY_SIP__EDGES": "127.0.0.1",
    }


@asynccontextmanager
async def worker(settings: RedisSettings, model: Simulator) -> AsyncIterator[GatewayProcess]:
    """A machine with one worker."""
    variables = on_loopback(Path("dialplans/hello.yaml"), model.url) | joined(settings)
    async with GatewayProcess(variables) as process:
        yield process


async def has_workers(edge: EdgeProcess, **states: int) -> None:
    """Wait until the edge's newest list has so many workers in these states."""
    wanted = sorted(f"{state}={count}" for state, count in states.items())

    def newest() -> list[str]:
        lists = [line for line in edge.lines if "edge_workers" in line]
        words = lists[-1].partition("]")[2].split() if lists else []
        return sorted(word for word in words if word.partition("=")[0] in ("ready", "draining", "overloaded"))

    await until(lambda: newest() == wanted, what=f"{wanted}, there is {edge.output}")


async def call(edge: EdgeProcess, folder: Path) -> None:
    await play(edge.port, folder, invite(), ANSWERED, pause(300), BYE)


async def test_workers_of_two_machines_take_the_calls_of_two_edges_as_they_come_and_go(
    redis: RedisServer, tmp_path: Path
) -> None:
    settings = redis.settings()
    async with (
        Simulator(SimulatorOptions()) as model,
        EdgeProcess(settings) as first,
        EdgeProcess(settings) as second,
        worker(settings, model) as killed,
    ):
        for edge in (first, second):
            await has_workers(edge, ready=1)
            await call(edge, tmp_path / f"one-{edge.port}")
        async with worker(settings, model):
            for edge in (first, second):
                await has_workers(edge, ready=2)
            killed.send_signal(signal.SIGKILL)
            for edge in (first, second):
                await has_workers(edge, ready=1, draining=1)
                await call(edge, tmp_path / f"two-{edge.port}")
        for edge in (first, second):
            await has_workers(edge, draining=1)
    with redis.client() as client:
        await until(lambda: not client.keys("{gateway}:worker:*"))


async def test_a_fleet_joins_with_all_its_workers_and_a_killed_one_is_out_at_once(
    redis: RedisServer, tmp_path: Path
) -> None:
    settings = redis.settings(worker_heartbeat_s=20, worker_expiry_s=60)
    variables: Any = joined(settings) | {"GATEWAY_EDGE__START": "false"}
    async with EdgeProcess(settings) as edge, open_fleet(tmp_path, variables, calls=8) as fleet:
        await has_workers(edge, ready=2)
        await call(edge, tmp_path / "one")
        os.kill(fleet.worker_pids()[0], signal.SIGKILL)
        await until(lambda: len(fleet.worker_pids()) == 3, what="another worker")
        await has_workers(edge, ready=2)  # no expiry has passed
        await call(edge, tmp_path / "two")
