"""Client secrets over HTTP, against a service on loopback that answers as told."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from gateway.settings.sections import RealtimeSettings
from gateway.web.strangers import STRANGERS_PER_MINUTE
from tests.fakes.minting import MintingService
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until
from tests.rigs.web_api import WebApi, problem, serving

pytestmark = pytest.mark.integration

KEY = "sk-very-secret-1234567890"
PATH = "/v1/client-secrets"


@pytest.fixture
async def service() -> AsyncIterator[MintingService]:
    service = MintingService()
    await service.server.start_server()
    yield service
    await service.server.close()


@asynccontextmanager
async def minting(service: MintingService, redis: RedisServer, folder: Path, **web: Any) -> AsyncIterator[WebApi]:
    url = f"ws://127.0.0.1:{service.server.port}/v1/realtime"
    realtime = RealtimeSettings.model_validate({"url": url, "api_key": KEY, "connect_timeout_s": 0.3})
    async with serving(redis, folder, realtime=realtime, **web) as api:
        yield api


async def mint(api: WebApi, body: Any, token: str | None = "mint") -> httpx.Response:
    return await api.ask("POST", PATH, body, token=token)


def audited(redis: RedisServer) -> list[dict[str, str]]:
    with redis.client() as client:
        return [fields for _, fields in client.xrange("{gateway}:audit")]


async def test_a_known_client_gets_a_secret_for_a_profile_and_that_is_audited(
    service: MintingService, redis: RedisServer, tmp_path: Path
) -> None:
    with capture_logs() as logs:
        async with minting(service, redis, tmp_path) as api:
            response = await mint(api, {"profile": "hello", "seconds": 60})
            plan = api.services.dialplan.plan.dialplan
            await until(lambda: audited(redis))
    body = response.json()
    assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-store")
    assert body == {"value": "ek_1", "expires_at": body["expires_at"]}
    assert isinstance(body["expires_at"], int)
    (asked,) = service.bodies
    assert asked["expires_after"]["seconds"] == 60
    assert asked["session"]["model"] == plan.agents["hello"].model
    assert asked["session"]["audio"]["output"]["voice"] == "cedar"
    assert asked["session"]["tools"] == []
    (entry,) = audited(redis)
    assert {name: entry[name] for name in ("client", "action", "profile", "seconds", "source", "result")} == {
        "client": "mint",
        "action": "mint",
        "profile": "hello",
        "seconds": "60",
        "source": "127.0.0.1",
        "result": "minted",
    }
    assert int(float(entry["expires_at"])) == body["expires_at"]
    assert "ek_1" not in str((logs, entry))
    assert KEY not in str(logs)


async def test_without_seconds_a_secret_lives_for_ten_minutes_or_less_if_the_limit_is_lower(
    service: MintingService, redis: RedisServer, tmp_path: Path
) -> None:
    async with minting(service, redis, tmp_path) as api:
        assert (await mint(api, {"profile": "hello"})).status_code == 200
    async with minting(service, redis, tmp_path, mint_seconds_max=30) as api:
        assert (await mint(api, {"profile": "hello", "seconds": None})).status_code == 200
    async with minting(service, redis, tmp_path, mint_seconds_max=7200) as api:
        assert (await mint(api, {"profile": "hello", "seconds": 7200})).status_code == 200
        assert problem(await mint(api, {"profile": "hello", "seconds": 7201})) == (422, "invalid_request")
    assert [body["expires_after"]["seconds"] for body in service.bodies] == [600, 30, 7200]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"profile": "other"}, (404, "unknown_profile")),
        ({"profile": "night"}, (403, "profile_not_allowed")),
        ({"profile": "hello", "seconds": 601}, (422, "seconds_out_of_range")),
        ({"profile": "hello", "seconds": 9}, (422, "invalid_request")),
        ({"profile": "hello", "seconds": 10**18}, (422, "invalid_request")),
        ({"profile": "hello", "seconds": "60"}, (422, "invalid_request")),
        ({"profile": "hello", "seconds": 60.5}, (422, "invalid_request")),
        ({"profile": "hello", "instructions": "x"}, (422, "invalid_request")),
        ({"profile": 1}, (422, "invalid_request")),
        ({"profile": "x" * 129}, (422, "invalid_request")),
        ({}, (422, "invalid_request")),
        ([], (422, "invalid_request")),
    ],
)
async def test_a_wrong_request_is_refused_in_words(
    service: MintingService, redis: RedisServer, tmp_path: Path, body: Any, expected: tuple[int, str]
) -> None:
    async with minting(service, redis, tmp_path, profiles="hello") as api:
        assert problem(await mint(api, body)) == expected
        if expected[1] != "invalid_request":
            await until(lambda: audited(redis))
            assert [(entry["client"], entry["result"]) for entry in audited(redis)] == [("mint", expected[1])]
    assert service.bodies == []


async def test_places_in_an_agents_texts_are_filled_in_as_far_as_that_goes_without_a_call(
    service: MintingService, redis: RedisServer, tmp_path: Path
) -> None:
    async with minting(service, redis, tmp_path) as api:
        assert (await mint(api, {"profile": "clerk"})).status_code == 200
        assert problem(await mint(api, {"profile": "local"})) == (409, "profile_needs_a_call")
    (asked,) = service.bodies
    assert re.fullmatch(r"It is \d{4}\. You speak with a guest\.", asked["session"]["instructions"])


async def test_secrets_are_limited_for_each_client_alone(
    service: MintingService, redis: RedisServer, tmp_path: Path
) -> None:
    async with minting(service, redis, tmp_path, mint_limit_per_minute=2) as api:
        answers = [await mint(api, {"profile": "hello"}) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
        assert (await mint(api, {"profile": "hello"}, token="admin")).status_code == 200
        await until(lambda: len(audited(redis)) == 4)
        assert audited(redis)[2]["result"] == "too_many_requests"


async def test_strangers_cannot_push_the_clients_out_of_the_audit(
    service: MintingService, redis: RedisServer, tmp_path: Path
) -> None:
    async with minting(service, redis, tmp_path, refusals_per_minute=1000) as api:
        for _ in range(3 * STRANGERS_PER_MINUTE):
            assert (await api.ask("POST", "/v1/session", {"token": "x"})).status_code == 401
        assert (await mint(api, {"profile": "hello"})).status_code == 200
        await until(lambda: audited(redis) and audited(redis)[-1]["result"] == "minted")
        assert len(audited(redis)) < 2 * STRANGERS_PER_MINUTE  # more come with time


async def test_a_service_that_refuses_or_is_lost_is_told_without_its_words(
    service: MintingService, redis: RedisServer, tmp_path: Path
) -> None:
    service.answer = {"error": {"code": "invalid_api_key", "message": f"Incorrect API key provided: {KEY}"}}
    async with minting(service, redis, tmp_path) as api:
        service.status = 401
        response = await mint(api, {"profile": "hello"})
        assert problem(response) == (502, "upstream_refused")
        assert "key" not in response.json()["detail"]
        service.status = 500
        response = await mint(api, {"profile": "hello"})
        assert (problem(response), response.headers["Retry-After"]) == ((503, "upstream_lost"), "5")
        service.status, service.answer = 200, {"nothing": 1}
        assert problem(await mint(api, {"profile": "hello"})) == (502, "upstream_refused")
        service.answer, service.delay_s = None, 1
        assert problem(await mint(api, {"profile": "hello"})) == (503, "upstream_lost")
        await until(lambda: len(audited(redis)) == 4)
        assert "Incorrect API key provided: ***" in audited(redis)[0]["detail"]


async def test_without_a_key_of_the_service_nothing_is_minted(redis: RedisServer, tmp_path: Path) -> None:
    async with serving(redis, tmp_path) as api:
        assert problem(await mint(api, {"profile": "hello"})) == (503, "no_api_key")
