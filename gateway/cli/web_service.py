"""What ``gateway web`` runs. Only that command imports it: the libraries of the server take 16 MB and 0.4 s of CPU."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket

import uvloop

from gateway.cli.render import say
from gateway.dialplan.model.plan import Dialplan
from gateway.errors import ConfigError
from gateway.settings.sections import Settings
from gateway.store.calls import RedisCallStore
from gateway.store.commands import CommandSender
from gateway.store.dial_keys import DialKeys
from gateway.store.reader import CallReader
from gateway.store.reload_requests import ReloadRequests
from gateway.store.web_sessions import WebSessions
from gateway.upstream.realtime.access.secrets import SecretMinter
from gateway.web.rates import Rates
from gateway.web.server import WebServer
from gateway.web.services import Services
from gateway.web.shown_plan import PlanReader, ShownPlan
from gateway.web.tokens import Tokens
from gateway.webhooks.delivery import delivering
from gateway.worker.live_plan import LivePlan


def serve_web(settings: Settings) -> None:
    """
    Serve the HTTP API and the page until SIGTERM or Ctrl-C.

    Raises:
        GatewayError: the settings do not fit, Redis does not answer, or the port is taken.
    """
    keeper = LivePlan(settings.dialplan, PlanReader(settings.trunks).load, every_s=settings.dialplan_every_s)
    _check(settings, keeper.plan.dialplan)
    uvloop.run(_serve(settings, keeper))


def _check(settings: Settings, plan: Dialplan) -> None:
    problems = []
    if settings.redis.url is None:
        problems.append("redis.url: this shows and steers what workers keep in Redis; set GATEWAY_REDIS__URL")
    unknown = [name for name in settings.web.profiles or () if name not in plan.agents]
    if unknown:
        problems.append(
            f"web.profiles: {settings.dialplan} has no agent {', '.join(unknown)}; it has {', '.join(plan.agents)}"
        )
    if problems:
        raise ConfigError(*problems)


async def _serve(settings: Settings, keeper: LivePlan[ShownPlan]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        name = f"web-{socket.gethostname()}-{os.getpid()}"
        store = RedisCallStore(settings.redis, name)
        await store.open()
        stack.push_async_callback(store.close)
        minter = None
        if settings.realtime.api_key is not None:
            minter = await stack.enter_async_context(SecretMinter(settings.realtime))
        reader = await stack.enter_async_context(CallReader(settings.redis))
        commands = await stack.enter_async_context(CommandSender(settings.redis))
        services = _services(settings, keeper, store, reader, commands, minter)
        note = store.note_dialplan
        keeper.report(lambda state: note(**state.fields()), services.reloads.newest)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, keeper.ask)
        await stack.enter_async_context(keeper)
        await stack.enter_async_context(delivering(settings, name, services.reader))
        server = await stack.enter_async_context(WebServer(services))
        if not settings.web.tokens:
            say("no one can log in yet; make a token with `gateway token NAME --scopes read,control`")
        say(f"ready: {server.url}, tokens: {', '.join(settings.web.tokens) or 'none'}")
        await stop.wait()
    say("gateway web stopped")


def _services(
    settings: Settings,
    keeper: LivePlan[ShownPlan],
    store: RedisCallStore,
    reader: CallReader,
    commands: CommandSender,
    minter: SecretMinter | None,
) -> Services:
    web = settings.web
    return Services(
        web=web,
        redis=settings.redis,
        store=store,
        reader=reader,
        tokens=Tokens(web.tokens),
        sessions=WebSessions(settings.redis, store, web.session_s),
        commands=commands,
        dial_keys=DialKeys(settings.redis, store),
        rates=Rates(
            requests=web.requests_per_minute, refusals=web.refusals_per_minute, mints=web.mint_limit_per_minute
        ),
        reloads=ReloadRequests(settings.redis, store),
        dialplan=keeper,
        dialplan_path=settings.dialplan,
        minter=minter,
        recordings=settings.recording.folder,
        traces=settings.sip.trace_folder,
        sessions_max=settings.realtime.sessions_max,
        webhooks=settings.webhooks,
    )
