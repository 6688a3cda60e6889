"""``gateway web`` and ``gateway token`` as processes."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.child_process import ChildProcess
from gateway.settings.sources import environment_for_child
from gateway.web.tokens import hash_of
from tests.fakes.minting import MintingService
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until
from tests.rigs.web_api import TOKENS

pytestmark = pytest.mark.integration

TEXT = "agents:\n  {name}:\n    instructions: Be kind.\nroutes:\n  - name: all\n    agent: {name}\n"
KEY = "sk-very-secret-1234567890"
ADMIN = {"Authorization": f"Bearer {TOKENS['admin']}"}


@asynccontextmanager
async def command(
    plan: Path, **variables: str
) -> AsyncIterator[tuple[httpx.AsyncClient, Callable[[signal.Signals], None]]]:
    """Run ``gateway web``; give a client of it, and what sends it a signal."""
    token = {"hash": hash_of(TOKENS["admin"]), "scopes": ["admin"]}
    given = {"GATEWAY_DIALPLAN": str(plan), "GATEWAY_WEB__TOKENS__DESK": json.dumps(token), **variables}
    command = (sys.executable, "-m", "gateway", "web", "--port", "0")
    process = ChildProcess(*command, environment=environment_for_child(given), folder=plan.parent, stop_limit_s=40)
    async with process:
        found = await process.find(r"^ready: (http://127\.0\.0\.1:\d+), tokens: desk$", 40)
        async with httpx.AsyncClient(base_url=found[1], headers=ADMIN, timeout=40) as http:
            yield http, process.send_signal
    assert (process.exit_code, "Traceback" in process.output) == (0, False), process.output
    assert process.output.endswith("gateway web stopped")
    assert not any(secret in process.output for secret in (KEY, TOKENS["admin"], "ek_1"))


async def test_it_serves_the_newest_plan_reloads_when_asked_and_stops_when_told(
    redis: RedisServer, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(TEXT.format(name="first"))
    service = MintingService()
    await service.server.start_server()
    variables = {
        "GATEWAY_REDIS__URL": redis.url,
        "GATEWAY_REALTIME__URL": f"ws://127.0.0.1:{service.server.port}/v1/realtime",
        "GATEWAY_REALTIME__API_KEY": KEY,
        "GATEWAY_WEB__MINT_LIMIT_PER_MINUTE": "1000",
        "GATEWAY_DIALPLAN_EVERY_S": "0.05",
    }
    async with command(plan, **variables) as (http, send_signal):

        async def mint(agent: str) -> int:
            return (await http.post("/v1/client-secrets", json={"profile": agent})).status_code

        async def plan_told() -> dict[str, Any]:
            told = (await http.get("/v1/dialplan")).json()["dialplans"]
            return dict(told[0]) if told else {}

        async def until_told(condition: Callable[[dict[str, Any]], object]) -> None:
            async with asyncio.timeout(40):
                while not condition(await plan_told()):
                    await asyncio.sleep(0.05)

        assert await mint("first") == 200
        plan.write_text(TEXT.format(name="second"))
        async with asyncio.timeout(40):
            while await mint("second") != 200:
                await asyncio.sleep(0.3)
        plan.write_text("agents: []")
        await until_told(lambda told: told.get("failures") == 1)
        assert (await plan_told())["mistakes"]
        assert (await http.get("/v1/health")).json()["status"] == "degraded"
        assert await mint("second") == 200
        send_signal(signal.SIGHUP)
        await until_told(lambda told: told["failures"] == 2)
        answer = await http.post("/v1/dialplan/reload")
        assert (answer.status_code, answer.json()) == (202, {"status": "asked"})
        await until_told(lambda told: told["failures"] == 3)
        (source,) = (await http.get("/v1/dialplan/source")).json()["files"]
        assert source["text"] == "agents: []"
    await service.server.close()


async def test_it_stops_soon_while_streams_are_open(redis: RedisServer, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(TEXT.format(name="first"))
    async with (
        command(plan, GATEWAY_REDIS__URL=redis.url) as (http, send_signal),
        http.stream("GET", "/v1/calls/stream") as response,
    ):
        send_signal(signal.SIGTERM)
        assert [line async for line in response.aiter_lines() if line and not line.startswith(":")] == []


async def test_dead_calls_are_ended_though_no_worker_is_left(redis: RedisServer, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(TEXT.format(name="first"))
    with redis.client() as client:
        client.hset("{gateway}:call:c1", mapping={"call_id": "c1", "worker": "w1", "state": "talking"})
        client.zadd("{gateway}:calls:live", {"c1": 1})
    async with command(plan, GATEWAY_REDIS__URL=redis.url) as (http, _):
        await until(lambda: not redis.live())
        call = (await http.get("/v1/calls/c1")).json()
        assert call["state"] == "ended"
        assert call["end"]["fault"] == "gateway"


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, "redis.url: this shows and steers what workers keep in Redis"),
        (
            {"GATEWAY_REDIS__URL": "redis://127.0.0.1:1", "GATEWAY_WEB__PROFILES": "nobody"},
            "has no agent nobody; it has first",
        ),
        ({"GATEWAY_REDIS__URL": "redis://127.0.0.1:1"}, "Redis at redis://127.0.0.1:1 does not answer"),
    ],
)
async def test_it_does_not_start_with_settings_that_cannot_work(
    variables: dict[str, str], told: str, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(TEXT.format(name="first"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "web"),
        env=environment_for_child({"GATEWAY_DIALPLAN": str(plan), **variables}),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await asyncio.wait_for(process.communicate(), 40)
    assert process.returncode == 1
    assert told in err.decode()


def test_a_new_token_is_shown_once_with_what_goes_into_the_settings(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "gateway", "token", "Desk", "--scopes", "read,control"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment_for_child({}),
    )
    first, _, rest = run.stdout.partition("\n\nin gateway.toml:\n\n")
    toml, _, variable = rest.partition("\n\nor as a variable:\n\n")
    token = first.removeprefix("token, shown only now: ")
    given = tomllib.loads(toml)["web"]["tokens"]["desk"]
    assert given == {"hash": hash_of(token), "scopes": ["read", "control"]}
    name, _, value = variable.strip().partition("=")
    assert name == "GATEWAY_WEB__TOKENS__DESK"
    assert json.loads(value.strip("'")) == {"hash": given["hash"], "scopes": "read,control"}
    assert token not in rest


@pytest.mark.parametrize("words", [("desk", "--scopes", "all"), ("a b",), ("desk", "--scopes", "")])
def test_a_token_that_would_be_no_use_is_not_made(words: tuple[str, ...], tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "gateway", "token", *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment_for_child({}),
    )
    assert (run.returncode, run.stdout) == (1, "")
    assert "give some of read, control, dial, mint, admin" in run.stderr.replace("\n", " ")
