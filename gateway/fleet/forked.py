"""
What the nursery's processes run: a worker that follows its supervisor, and the simulator.

A worker tells the supervisor each change of its condition and takes its orders. When the pipe ends, the supervisor has
died: the worker then drains like one that got SIGTERM, and writes its log where the supervisor would have.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import structlog
import uvloop

from gateway.condition import WorkerCondition
from gateway.errors import GatewayError
from gateway.fleet.pipe import Pipe
from gateway.fleet.worker_settings import changed, worker_settings
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.logs import configure_logs
from gateway.settings.sections import Settings
from gateway.worker.worker import Worker, worker_name

SIMULATOR = "simulator"
SIMULATED_KEY = "simulated"

_log = structlog.get_logger(__name__)


def run_worker(
    settings: Settings, prepared: Worker | None, values: dict[str, Any], end: socket.socket, stderr: int
) -> int:
    """
    Be a worker until it has ended; return the exit code.

    Args:
        settings: the fleet's.
        prepared: what all workers inherit; None lets each load it.
        values: ``redis_url``, ``realtime`` (what differs from the settings) and the arguments of ``worker_settings``.
        end: of the pipe to the supervisor.
        stderr: where the supervisor's log goes.
    """
    configure_logs(settings.log, worker=worker_name(os.getpid()), shorten=settings.privacy.in_log)
    given = dict(values)
    used = settings.model_copy(
        update={
            "redis": changed(settings.redis, {"url": given.pop("redis_url")}),
            "realtime": changed(settings.realtime, given.pop("realtime")),
        }
    )
    return _run(lambda: _work(worker_settings(used, **given), prepared, stderr, end))


def run_simulator(settings: Settings, values: dict[str, Any], end: socket.socket, stderr: int) -> int:
    """Be the simulator, tell the supervisor its URL, and end with the supervisor."""
    os.close(stderr)
    configure_logs(settings.log, worker=SIMULATOR)
    return _run(lambda: _simulate(end))


def _run(live: Callable[[], Any]) -> int:
    try:
        uvloop.run(live())
    except GatewayError as error:
        _log.error("start_failed", detail=str(error))
        return 1
    return 0


async def _work(settings: Settings, prepared: Worker | None, stderr: int, end: socket.socket) -> None:
    worker = Worker(
        settings,
        lambda text: None,  # the supervisor speaks for all
        on_condition=lambda condition: _tell(pipe, condition),
        inherited=prepared,
    )
    pipe = Pipe(
        end, lambda message: _obey(worker, pipe, message), partial(_on_own, worker, stderr, settings.call.drain_limit_s)
    )
    try:
        await worker.run()
    finally:
        pipe.close()


def _tell(pipe: Pipe, condition: WorkerCondition) -> None:
    pipe.send({"condition": asdict(condition)})


def _obey(worker: Worker, pipe: Pipe, message: dict[str, Any]) -> None:
    match message["order"]:
        case "ping":
            pipe.send({"alive": True})
        case "drain":
            worker.drain(message["limit_s"])
        case "end":
            worker.end()
        case "reload":
            worker.reload()


def _on_own(worker: Worker, stderr: int, limit_s: float) -> None:
    for standard in (1, 2):
        os.dup2(stderr, standard)
    _log.warning("supervisor_gone", detail=f"draining: live calls may go on for {limit_s:g} s")
    worker.drain(limit_s)


async def _simulate(end: socket.socket) -> None:
    ended = asyncio.Event()
    async with Simulator(SimulatorOptions(keep_audio_s=0)) as simulator:
        pipe = Pipe(end, lambda message: ended.set(), ended.set)
        pipe.send({"url": simulator.url})
        await ended.wait()
        pipe.close()
