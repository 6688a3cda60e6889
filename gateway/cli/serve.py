"""``gateway serve``: take calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from gateway.cli.render import log_line, say
from gateway.fleet.output import named
from gateway.fleet.supervisor import run_fleet
from gateway.fleet.web_process import WEB, WebProcess, run_variables
from gateway.fleet.worker_settings import changed, fleet_size
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.logs import configure_logs
from gateway.settings.load import load_settings
from gateway.settings.sections import RealtimeSettings, Settings
from gateway.settings.sources import runtime_folder, service_environment
from gateway.sip.library.endpoint import probed_capacity
from gateway.store.connection import end_task
from gateway.store.embedded import EmbeddedRedis
from gateway.threads import check_threads
from gateway.worker.worker import Worker

SIMULATED_KEY = "simulated"


def serve(
    config: Annotated[
        Path | None, typer.Option(help="configuration file (TOML); default: gateway.toml if it exists")
    ] = None,
    port: Annotated[int | None, typer.Option(help="SIP port instead of the configured one; 0 picks a free one")] = None,
    dialplan: Annotated[
        Path | None, typer.Option(help="dialplan file or folder, instead of the configured one")
    ] = None,
    simulate: Annotated[bool, typer.Option("--simulate", help="use the built-in simulator; needs no API key")] = False,
    calls: Annotated[
        int | None, typer.Option(help="most calls at once; more than one process holds are shared by several workers")
    ] = None,
    web: Annotated[
        bool | None, typer.Option("--web/--no-web", help="also serve the page and the HTTP API, as web.start says")
    ] = None,
    resume: Annotated[int | None, typer.Option(hidden=True)] = None,  # by a supervisor that executes itself again
) -> None:
    """
    Answer SIP calls with a voice agent until SIGTERM or Ctrl-C.

    The first signal lets live calls finish (GATEWAY_CALL__DRAIN_LIMIT_S), a second one ends them at once.
    """
    settings = load_settings(config=config, overrides=_overrides(port, dialplan, calls, web))
    configure_logs(settings.log, shorten=settings.privacy.in_log)
    if settings.log.debug_threads:
        check_threads()
    if settings.fleet.calls and settings.fleet.calls > (capacity := probed_capacity()):
        run_fleet(settings, fleet_size(settings, capacity), say, simulate=simulate, config=config, resume=resume)
    else:
        uvloop.run(_serve(settings, config, simulate=simulate))


def _overrides(port: int | None, dialplan: Path | None, calls: int | None, web: bool | None) -> dict[str, Any]:
    overrides: dict[str, Any] = {}
    if port is not None:
        overrides["sip"] = {"port": port}
    if calls is not None:
        overrides["fleet"] = {"calls": calls}
    if web is not None:
        overrides["web"] = {"start": web}
    if dialplan is not None:
        overrides["dialplan"] = dialplan
    return overrides


async def _serve(settings: Settings, config: Path | None, *, simulate: bool) -> None:
    async with contextlib.AsyncExitStack() as stack:
        used = await stack.enter_async_context(simulated(settings, simulate=simulate))
        if used.web.start:
            used = await _open_web(stack, used, config, simulate=simulate)
        await Worker(used, say).run()


async def _open_web(
    stack: contextlib.AsyncExitStack, settings: Settings, config: Path | None, *, simulate: bool
) -> Settings:
    """Have the page beside the worker; return the settings with the Redis that both use."""
    if settings.redis.url is None:
        url = await stack.enter_async_context(EmbeddedRedis())
        settings = settings.model_copy(update={"redis": changed(settings.redis, {"url": url})})
        say(f"no Redis is configured: using a private one that ends with the gateway ({url})")
    realtime = settings.realtime
    web = WebProcess(
        settings,
        run_variables(
            settings,
            config=config,
            redis_url=str(settings.redis.url),
            simulator={"url": str(realtime.url), "api_key": SIMULATED_KEY} if simulate else {},
        ),
        announce=say,
        write_line=lambda line: log_line(named(line, WEB, settings.log.format)),
        folder=runtime_folder(service_environment()),
    )
    stack.push_async_callback(end_task, asyncio.create_task(web.keep(), name=WEB))
    return settings


@contextlib.asynccontextmanager
async def simulated(settings: Settings, *, simulate: bool) -> AsyncIterator[Settings]:
    """Run a simulator and give the settings that lead to it; without ``simulate`` the settings as they are."""
    if not simulate:
        yield settings
        return
    async with Simulator(SimulatorOptions(keep_audio_s=0)) as simulator:
        given = {**settings.realtime.model_dump(), "url": simulator.url, "api_key": SIMULATED_KEY}
        say(f"simulating: the agent is the built-in simulator at {simulator.url}; no key is used")
        yield settings.model_copy(update={"realtime": RealtimeSettings.model_validate(given)})
