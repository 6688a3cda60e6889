"""The HTTP API on a free port of loopback, with a real Redis behind it; tokens of every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from gateway.dialplan.read.files import folder_of, read_files
from gateway.settings.sections import RealtimeSettings
from gateway.settings.web import SCOPES, WebSettings
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
from gateway.web.tokens import Tokens, hash_of
from tests.rigs.redis_server import RedisServer

TOKENS: dict[str, str] = {scope: f"gw_token-of-{scope}-0123456789abcdef" for scope in SCOPES}
"""Scope -> the token that has it alone; its name is the scope's."""
PLAN = """
agents:
  hello: {instructions: Be brief., voice: cedar}
  night: {instructions: Be quiet.}
  clerk: {instructions: "It is {{ time.year }}. You speak with {{ caller or 'a guest' }}."}
  local: {instructions: "You know {{ groups.area }}."}
routes:
  - name: all
    agent: hello
"""


class PlanOnDisk:
    """A dialplan that is in force."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan: ShownPlan = PlanReader({}).load(read_files(path), folder_of(path))


class WebApi:
    """
    A visitor of the API.

    Attributes:
        http: asks; follows no redirects, knows no token by itself.
        services: what the API works with.
    """

    def __init__(self, http: httpx.AsyncClient, services: Services, url: str) -> None:
        self.http = http
        self.services = services
        self.url = url

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **given: Any
    ) -> httpx.Response:
        """Ask with the token of a scope, or with none."""
        headers = {"Authorization": f"Bearer {TOKENS.get(token, token)}"} if token is not None else {}
        headers |= given.pop("headers", {})
        return await self.http.request(method, path, json=body, headers=headers, **given)


def problem(response: httpx.Response) -> tuple[int, str]:
    """Return status and code of an answer that must be problem details (RFC 9457)."""
    assert response.headers["Content-Type"] == "application/problem+json", response.text
    told = response.json()
    assert set(told) == {"type", "title", "status", "detail", "code"}, told
    assert told["status"] == response.status_code
    assert told["detail"]
    return response.status_code, told["code"]


@asynccontextmanager
async def serving(
    redis: RedisServer,
    folder: Path,
    *,
    realtime: RealtimeSettings | None = None,
    **web: Any,
) -> AsyncIterator[WebApi]:
    """
    Serve the API.

    Args:
        redis: where everything is kept.
        folder: the dialplan, ``recordings`` and ``traces`` are in it.
        realtime: with a key, secrets can be minted.
        web: settings of the section ``web`` that differ.
    """
    tokens = {name: {"hash": hash_of(token), "scopes": [name]} for name, token in TOKENS.items()}
    settings = WebSettings.model_validate({"port": 0, "tokens": tokens, **web})
    path = folder / "plan.yaml"
    if not path.exists():
        path.write_text(PLAN)
    async with (
        opened(redis, "web-1") as store,
        CallReader(redis.settings()) as reader,
        CommandSender(redis.settings()) as commands,
        minting(realtime) as minter,
    ):
        services = Services(
            web=settings,
            redis=redis.settings(),
            store=store,
            reader=reader,
            tokens=Tokens(settings.tokens),
            sessions=WebSessions(redis.settings(), store, settings.session_s),
            commands=commands,
            dial_keys=DialKeys(redis.settings(), store),
            rates=Rates(
                requests=settings.requests_per_minute,
                refusals=settings.refusals_per_minute,
                mints=settings.mint_limit_per_minute,
            ),
            reloads=ReloadRequests(redis.settings(), store),
            dialplan=PlanOnDisk(path),
            dialplan_path=path,
            minter=minter,
            recordings=folder / "recordings",
            traces=folder / "traces",
            sessions_max={} if realtime is None else realtime.sessions_max,
        )
        async with WebServer(services) as server, httpx.AsyncClient(base_url=server.url, timeout=40) as http:
            yield WebApi(http, services, server.url)


@asynccontextmanager
async def opened(redis: RedisServer, worker: str) -> AsyncIterator[RedisCallStore]:
    """Open a store, as a worker or as the API."""
    store = RedisCallStore(redis.settings(), worker)
    await store.open()
    try:
        yield store
    finally:
        await store.close(limit_s=0.5)


@asynccontextmanager
async def minting(realtime: RealtimeSettings | None) -> AsyncIterator[SecretMinter | None]:
    """Open what mints, if there are settings for it."""
    if realtime is None:
        yield None
        return
    async with SecretMinter(realtime) as minter:
        yield minter
