"""``gateway web`` and dialplans: what it tells of those in force, and how it has them loaded."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.child_process import ChildProcess
from gateway.dialplan.model.plan import Dialplan
from gateway.rate_limit import TokenBuckets
from gateway.settings.sections import RealtimeSettings, WebSettings
from gateway.settings.sources import environment_for_child
from gateway.store.calls import RedisCallStore
from gateway.store.reload_requests import ReloadRequests
from gateway.upstream.realtime.access.secrets import SecretMinter
from gateway.web.auth import Clients
from gateway.web.dialplans import DialplansEndpoint
from gateway.web.secrets import SecretsEndpoint
from gateway.web.server import WebServer
from gateway.worker.live_plan import PlanState
from tests.fakes.minting import MintingService
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

TOKEN = "0123456789abcdef-shop"
TEXT = "agents:\n  {name}:\n    instructions: Be kind.\nroutes:\n  - name: all\n    agent: {name}\n"
PLAN = Dialplan.model_validate({"agents": {"a": {"instructions": "x"}}, "routes": [{"name": "all", "agent": "a"}]})


class Visitor:
    """Whoever asks."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self.headers: dict[str, str] = {}
        self.hang_up: Callable[[], None] = lambda: None

    async def ask(self, method: str, path: str, body: Any = None, *, token: str | None = TOKEN) -> tuple[int, Any]:
        """Return status and JSON; keep the headers."""
        given = {"Authorization": f"Bearer {token}"} if token is not None else {}
        async with self._http.request(method, f"{self._url}{path}", json=body, headers=given) as response:
            self.headers = dict(response.headers)
            assert response.headers["Cache-Control"] == "no-store"
            return response.status, await response.json()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
async def store(redis: RedisServer) -> AsyncIterator[RedisCallStore]:
    store = RedisCallStore(redis.settings(), "w1")
    await store.open()
    yield store
    await store.close(limit_s=0.1)


@asynccontextmanager
async def serving(redis: RedisServer, store: RedisCallStore, *, per_minute: int = 30) -> AsyncIterator[Visitor]:
    settings = WebSettings.model_validate({"port": 0, "clients": {"shop": TOKEN}})
    realtime = RealtimeSettings.model_validate({"url": "ws://127.0.0.1:9/", "api_key": "sk-none"})
    async with SecretMinter(realtime) as minter, aiohttp.ClientSession() as http:
        mint = SecretsEndpoint(settings=settings, dialplan=lambda: PLAN, minter=minter, audit=None)
        plan = DialplansEndpoint(
            clients=Clients(settings.clients),
            plans=store.dialplans,
            reload=ReloadRequests(redis.settings(), store).ask,
            audit=lambda fields: store.audit(**fields),
            buckets=TokenBuckets.per_minute(per_minute),
        )
        async with WebServer(settings, mint, plan, store.trunks) as server:
            yield Visitor(http, server.url)


async def test_a_client_is_told_how_every_plan_is_and_anybody_that_something_is_wrong(
    redis: RedisServer, store: RedisCallStore
) -> None:
    store.note_dialplan(**PlanState("0123456789ab", 12.5, 2, 7, 3, ("plan.yaml:3:5: no such thing",)).fields())
    await until(lambda: redis.keys() & {"{gateway}:dialplan:w1"})
    async with serving(redis, store) as visitor:
        status, told = await visitor.ask("GET", "/dialplan")
        (plan,) = told["dialplans"]
        assert status == 200
        assert plan.pop("at") > 0
        assert plan == {
            "worker": "w1",
            "state": "refused",
            "version": "0123456789ab",
            "loaded_at": 12.5,
            "agents": 2,
            "routes": 7,
            "failures": 3,
            "mistakes": ["plan.yaml:3:5: no such thing"],
            "mistake_count": 1,
        }
        status, told = await visitor.ask("GET", "/health", token=None)
        assert (status, told["status"]) == (200, "degraded")
        assert told["dialplans"] == [
            {"worker": "w1", "state": "refused", "version": "0123456789ab", "loaded_at": 12.5, "failures": 3}
        ]


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/dialplan"), ("POST", "/dialplan/reload")])
async def test_strangers_learn_nothing_and_move_nothing(
    redis: RedisServer, store: RedisCallStore, method: str, path: str, token: str | None
) -> None:
    async with serving(redis, store) as visitor:
        status, told = await visitor.ask(method, path, token=token)
        assert (status, told["error"]["code"]) == (401, "unauthorized")
        assert visitor.headers["WWW-Authenticate"] == "Bearer"
    assert not redis.keys() & {"{gateway}:reload"}


async def test_a_reload_is_asked_for_in_redis_and_audited(redis: RedisServer, store: RedisCallStore) -> None:
    async with serving(redis, store) as visitor:
        assert await visitor.ask("POST", "/dialplan/reload") == (202, {"status": "asked"})
        first = await ReloadRequests(redis.settings(), store).newest()
        assert await visitor.ask("POST", "/dialplan/reload") == (202, {"status": "asked"})
        assert await ReloadRequests(redis.settings(), store).newest() != first
        assert 80_000 < redis.ttl_s("{gateway}:reload") <= 86_400
        assert (await visitor.ask("GET", "/dialplan/reload"))[0] == 405
    await until(lambda: redis.keys() & {"{gateway}:audit"})
    with redis.client() as client:
        _, entry = client.xrange("{gateway}:audit")[0]
    assert {name: entry[name] for name in ("client", "source", "result", "worker")} == {
        "client": "shop",
        "source": "127.0.0.1",
        "result": "reload_asked",
        "worker": "w1",
    }


async def test_who_asks_too_often_is_told_when_to_come_back(redis: RedisServer, store: RedisCallStore) -> None:
    async with serving(redis, store, per_minute=1) as visitor:
        assert (await visitor.ask("POST", "/dialplan/reload"))[0] == 202
        assert (await visitor.ask("POST", "/dialplan/reload"))[0] == 429
        assert 1 <= int(visitor.headers["Retry-After"]) <= 60
        assert (await visitor.ask("GET", "/dialplan"))[0] == 200


async def test_without_redis_nobody_is_asked_and_that_is_said(redis: RedisServer, store: RedisCallStore) -> None:
    async with serving(redis, store) as visitor:
        redis.stop()
        for method, path in (("GET", "/dialplan"), ("POST", "/dialplan/reload")):
            status, told = await visitor.ask(method, path)
            assert (status, told["error"]["code"], visitor.headers["Retry-After"]) == (503, "redis_away", "5")


async def test_what_somebody_else_wrote_into_redis_breaks_nothing(redis: RedisServer, store: RedisCallStore) -> None:
    with redis.client() as client:
        for number, mistakes in enumerate(("{", '{"a": 1}', "[1]")):
            key = f"{{gateway}}:dialplan:x{number}"
            client.hset(key, mapping={"worker": f"x{number}", "mistakes": mistakes, "failures": "many"})
            client.sadd("{gateway}:dialplans", key)
    async with serving(redis, store) as visitor:
        status, told = await visitor.ask("GET", "/dialplan")
        assert status == 200
        assert [(plan["mistakes"], plan["failures"]) for plan in told["dialplans"]] == [
            ([], None),
            ([], None),
            (["1"], None),
        ]
        assert (await visitor.ask("GET", "/health"))[1]["status"] == "ok"


@asynccontextmanager
async def command(plan: Path, minting: MintingService, **variables: str) -> AsyncIterator[Visitor]:
    """Run ``gateway web`` as a process of its own."""
    await minting.server.start_server()
    given = {
        "GATEWAY_DIALPLAN": str(plan),
        "GATEWAY_REALTIME__URL": f"ws://127.0.0.1:{minting.server.port}/v1/realtime",
        "GATEWAY_REALTIME__API_KEY": "sk-test",
        "GATEWAY_WEB__CLIENTS__SHOP": TOKEN,
        "GATEWAY_WEB__MINT_LIMIT_PER_MINUTE": "1000",
        **variables,
    }
    command = (sys.executable, "-m", "gateway", "web", "--port", "0")
    process = ChildProcess(*command, environment=environment_for_child(given), folder=plan.parent, stop_limit_s=40)
    try:
        async with process, aiohttp.ClientSession() as http:
            found = await process.find(r"^ready: (http://127\.0\.0\.1:\d+), ", 40)
            visitor = Visitor(http, found[1])
            visitor.hang_up = lambda: process.send_signal(signal.SIGHUP)
            yield visitor
    finally:
        await minting.server.close()
    assert (process.exit_code, "Traceback" in process.output) == (0, False), process.output


@pytest.mark.parametrize("with_redis", [True, False])
async def test_the_command_mints_for_the_agents_of_the_newest_plan(
    redis: RedisServer, tmp_path: Path, with_redis: bool
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(TEXT.format(name="first"))
    service = MintingService()
    variables = {"GATEWAY_REDIS__URL": redis.url} if with_redis else {}
    async with command(plan, service, GATEWAY_DIALPLAN_EVERY_S="0.05", **variables) as visitor:

        async def plan_told() -> dict[str, Any]:
            status, told = await visitor.ask("GET", "/dialplan")
            assert status == 200, json.dumps(told)
            return dict(told["dialplans"][0]) if told["dialplans"] else {}

        assert (await visitor.ask("POST", "/v1/client-secrets", {"profile": "first"}))[0] == 200
        plan.write_text(TEXT.format(name="second"))
        async with asyncio.timeout(40):
            while (await visitor.ask("POST", "/v1/client-secrets", {"profile": "second"}))[0] != 200:
                await asyncio.sleep(0.3)
        plan.write_text("agents: []")
        async with asyncio.timeout(40):
            while (await plan_told()).get("failures") != 1:
                await asyncio.sleep(0.05)
        assert (await plan_told())["mistakes"]
        assert (await visitor.ask("POST", "/v1/client-secrets", {"profile": "second"}))[0] == 200
        visitor.hang_up()
        async with asyncio.timeout(40):
            while (await plan_told())["failures"] != 2:
                await asyncio.sleep(0.05)
        status, told = await visitor.ask("POST", "/dialplan/reload")
        assert (status, told.get("status") or told["error"]["code"]) == (
            (202, "asked") if with_redis else (503, "no_redis")
        )
