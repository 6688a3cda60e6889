"""``gateway web``: the HTTP API."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from gateway.cli.render import say
from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.read.files import PlanFile
from gateway.dialplan.read.loader import LoadedPlan, dialplan_of
from gateway.errors import ConfigError
from gateway.logs import configure_logs
from gateway.settings.load import load_settings
from gateway.settings.sections import Settings
from gateway.store.calls import RedisCallStore
from gateway.store.reload_requests import ReloadRequests
from gateway.threads import check_threads
from gateway.upstream.realtime.access.secrets import SecretMinter
from gateway.web.auth import Clients
from gateway.web.dialplans import DialplansEndpoint
from gateway.web.secrets import Audit, SecretsEndpoint
from gateway.web.server import WebServer
from gateway.worker.live_plan import LivePlan


def web(
    config: Annotated[
        Path | None, typer.Option(help="configuration file (TOML); default: gateway.toml if it exists")
    ] = None,
    port: Annotated[int | None, typer.Option(help="TCP port instead of the configured one; 0 picks a free one")] = None,
    dialplan: Annotated[
        Path | None, typer.Option(help="dialplan file or folder, instead of the configured one")
    ] = None,
) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C: ephemeral secrets for trusted clients, health, dialplans."""
    settings = load_settings(config=config, overrides={"web.port": port, "dialplan": dialplan})
    configure_logs(settings.log)
    if settings.log.debug_threads:
        check_threads()
    keeper = LivePlan(settings.dialplan, partial(_load, settings), every_s=settings.dialplan_every_s)
    _check(settings, keeper.plan.dialplan)
    uvloop.run(_serve(settings, keeper))


def _load(settings: Settings, files: list[PlanFile], folder: Path) -> LoadedPlan:
    """Return the plan whose agents secrets are minted for; tools are not run here, so theirs are not asked for."""
    return dialplan_of(files, folder, settings.trunks)


def _check(settings: Settings, plan: Dialplan) -> None:
    problems = []
    if settings.realtime.api_key is None:
        problems.append(
            "realtime.api_key: no API key to mint secrets with; set OPENAI_API_KEY or GATEWAY_REALTIME__API_KEY"
        )
    unknown = [name for name in settings.web.profiles or () if name not in plan.agents]
    if unknown:
        problems.append(
            f"web.profiles: {settings.dialplan} has no agent {', '.join(unknown)}; it has {', '.join(plan.agents)}"
        )
    if problems:
        raise ConfigError(*problems)


async def _serve(settings: Settings, keeper: LivePlan[LoadedPlan]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        store = await _store(settings, stack)
        minter = await stack.enter_async_context(SecretMinter(settings.realtime))
        requests = ReloadRequests(settings.redis, store) if store is not None else None
        if store is not None and requests is not None:
            note = store.note_dialplan
            keeper.report(lambda state: note(**state.fields()), requests.newest)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, keeper.ask)
        await stack.enter_async_context(keeper)
        audit = _audit_in(store)
        mint = SecretsEndpoint(settings=settings.web, dialplan=lambda: keeper.plan.dialplan, minter=minter, audit=audit)
        about_plans = DialplansEndpoint(
            clients=Clients(settings.web.clients),
            plans=store.dialplans if store is not None else partial(_own_plan, keeper),
            reload=requests.ask if requests is not None else None,
            audit=audit,
        )
        states = (store.trunks, store.upstreams) if store is not None else ()
        server = await stack.enter_async_context(WebServer(settings.web, mint, about_plans, *states))
        if not settings.web.clients:
            say("no client may request secrets; add one with GATEWAY_WEB__CLIENTS__NAME=token")
        say(f"ready: {server.url}, clients: {', '.join(settings.web.clients) or 'none'}")
        await stop.wait()
    say("gateway web stopped")


async def _own_plan(keeper: LivePlan[LoadedPlan]) -> list[dict[str, str]]:
    """Return the state of this process's plan, all that is known without a Redis."""
    own = {name: str(value) for name, value in keeper.state.fields().items()}
    return [{**own, "worker": _own_name()}]


def _own_name() -> str:
    return f"web-{socket.gethostname()}-{os.getpid()}"


async def _store(settings: Settings, stack: contextlib.AsyncExitStack) -> RedisCallStore | None:
    """Return the Redis that requests are audited in and trunks are looked up in, if one is configured."""
    if settings.redis.url is None:
        say("no Redis is configured: requests are audited only in the log")
        return None
    store = RedisCallStore(settings.redis, _own_name())
    await store.open()
    stack.push_async_callback(store.close)
    return store


def _audit_in(store: RedisCallStore | None) -> Audit | None:
    if store is None:
        return None

    def audit(fields: Mapping[str, str | int | float]) -> None:
        store.audit(**fields)

    return audit
