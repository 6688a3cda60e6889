"""Minting ephemeral client secrets, against a service on loopback that answers as told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import connect

from gateway.dialplan.model.agent import AgentProfile
from gateway.errors import AgentError, AgentLost, AgentRefused, WireError
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.settings.sections import RealtimeSettings
from gateway.upstream.realtime.access.secrets import SecretMinter, secrets_url
from gateway.upstream.realtime.config import session_config
from tests.fakes.minting import MintingService

pytestmark = pytest.mark.integration

KEY = "sk-very-secret-1234567890"
SESSION = session_config(AgentProfile(instructions="Be brief.", voice="cedar"))


@pytest.fixture
async def service() -> AsyncIterator[MintingService]:
    service = MintingService()
    await service.server.start_server()
    yield service
    await service.server.close()


def settings(service: MintingService, **given: Any) -> RealtimeSettings:
    url = f"ws://127.0.0.1:{service.server.port}/v1/realtime?model=x"
    return RealtimeSettings.model_validate({"url": url, "api_key": KEY, **given})


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "https://api.openai.com/v1/realtime/client_secrets"),
        ({"url": "wss://user:pass@h:8443/v1/realtime/?model=m"}, "https://h:8443/v1/realtime/client_secrets"),
        (
            {"url": "wss://r.example.com/openai/v1/realtime?deployment=d&a=b%20c", "model_parameter": "deployment"},
            "https://r.example.com/openai/v1/realtime/client_secrets?a=b+c",
        ),
        ({"url": "ws://127.0.0.1:9/v1/realtime"}, "http://127.0.0.1:9/v1/realtime/client_secrets"),
        ({"secrets_url": "http://127.0.0.1:8/mint"}, "http://127.0.0.1:8/mint"),
    ],
)
def test_the_address_follows_from_the_services_or_is_given(given: dict[str, str], url: str) -> None:
    assert secrets_url(RealtimeSettings.model_validate(given)) == url


async def test_a_secret_is_minted_for_a_session(service: MintingService) -> None:
    async with SecretMinter(settings(service, headers={"X-Team": "phone"})) as minter:
        secret = await minter.mint(SESSION, model="gpt-realtime-2.1", seconds=60, safety_identifier="hash-of-ann")
    assert secret.value.get_secret_value() == "ek_1"
    assert secret.expires_at == pytest.approx(time.time() + 60, abs=5)
    assert "ek_1" not in repr(secret)
    (request,), (body,) = service.requests, service.bodies
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["X-Team"] == "phone"
    assert request.headers["OpenAI-Safety-Identifier"] == "hash-of-ann"
    assert "OpenAI-Beta" not in request.headers
    assert body["expires_after"] == {"anchor": "created_at", "seconds": 60}
    assert body["session"] == {
        **SESSION.model_dump(mode="json", exclude_unset=True),
        "type": "realtime",
        "model": "gpt-realtime-2.1",
    }
    assert body["session"]["audio"]["output"]["voice"] == "cedar"


async def test_azure_gets_the_key_in_its_own_header(service: MintingService) -> None:
    async with SecretMinter(settings(service, auth="api-key")) as minter:
        await minter.mint(SESSION)
    assert service.requests[0].headers["api-key"] == KEY
    assert "Authorization" not in service.requests[0].headers
    assert "OpenAI-Safety-Identifier" not in service.requests[0].headers
    assert "model" not in service.bodies[0]["session"]
    assert service.bodies[0]["expires_after"]["seconds"] == 600


@pytest.mark.parametrize("seconds", [9, 7201, 0, -1])
async def test_a_life_that_the_service_does_not_grant_is_not_asked_for(service: MintingService, seconds: int) -> None:
    async with SecretMinter(settings(service)) as minter:
        with pytest.raises(ValueError, match="outside 10 to 7200"):
            await minter.mint(SESSION, seconds=seconds)
    assert service.requests == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, AgentRefused),
        (401, AgentRefused),
        (403, AgentRefused),
        (404, AgentRefused),
        (302, AgentRefused),
        (422, AgentRefused),
        (408, AgentLost),
        (429, AgentLost),
        (500, AgentLost),
        (503, AgentLost),
    ],
)
async def test_a_refusal_is_told_apart_from_a_loss_and_never_repeats_the_key(
    service: MintingService, status: int, kind: type[AgentError]
) -> None:
    service.status = status
    service.answer = {"error": {"code": "some_code", "message": f"wrong: {KEY}", "param": "session.audio.speed"}}
    async with SecretMinter(settings(service)) as minter:
        with pytest.raises(AgentError) as caught:
            await minter.mint(SESSION)
    assert type(caught.value) is kind
    assert (caught.value.http_status, caught.value.code) == (status, "some_code")
    assert caught.value.detail == (
        f"the service answered HTTP {status} to a request for a client secret: wrong: *** (session.audio.speed)"
    )


@pytest.mark.parametrize(
    "answer", ["", "<html>", "[]", '{"value": "ek_1"}', '{"value": "", "expires_at": 1}', "x" * (2 << 20)]
)
async def test_an_answer_without_a_secret_is_told(service: MintingService, answer: str) -> None:
    service.answer = answer
    async with SecretMinter(settings(service)) as minter:
        with pytest.raises(WireError):
            await minter.mint(SESSION)


async def test_a_refusal_without_words_is_told_by_its_status(service: MintingService) -> None:
    service.status, service.answer = 403, "<html>"
    async with SecretMinter(settings(service)) as minter:
        with pytest.raises(AgentRefused, match=r"HTTP 403 to a request for a client secret$"):
            await minter.mint(SESSION)


async def test_a_service_that_is_slow_or_not_there_is_lost(service: MintingService) -> None:
    service.delay_s = 1
    async with SecretMinter(settings(service, connect_timeout_s=0.1)) as minter:
        with pytest.raises(AgentLost, match=r"within 0\.1 s"):
            await minter.mint(SESSION)
    gone = settings(service)
    await service.server.close()
    async with SecretMinter(gone) as minter:
        with pytest.raises(AgentLost, match="cannot reach the service"):
            await minter.mint(SESSION)


async def test_without_a_key_nothing_is_asked(service: MintingService) -> None:
    async with SecretMinter(settings(service, api_key=None)) as minter:
        with pytest.raises(AgentRefused, match="no API key"):
            await minter.mint(SESSION)
    assert service.requests == []


async def test_environment_proxies_do_not_see_the_key(service: MintingService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with SecretMinter(settings(service)) as minter:
        assert await minter.mint(SESSION)


async def test_a_proxy_that_was_asked_for_is_used(service: MintingService) -> None:
    proxy = f"http://127.0.0.1:{service.server.port}"
    url = "ws://service.invalid/v1/realtime"
    async with SecretMinter(settings(service, url=url, proxy=proxy)) as minter:
        assert await minter.mint(SESSION)
    assert service.requests[0].host == "service.invalid"


async def test_a_kept_secret_is_used_until_four_fifths_of_its_life_are_over(service: MintingService) -> None:
    now = 1000.0
    async with SecretMinter(settings(service), monotonic=lambda: now) as minter:
        first = await minter.cached(SESSION, seconds=100)
        now += 79
        assert await minter.cached(SESSION, seconds=100) == first
        now += 2
        second = await minter.cached(SESSION, seconds=100)
    assert second != first
    assert len(service.requests) == 2


@pytest.mark.parametrize(("life_s", "fresh_s"), [(50, 38), (5000, 79), (-4000, 79)])
async def test_neither_a_shorter_life_nor_a_clock_that_is_wrong_leads_to_a_dead_secret(
    service: MintingService, life_s: float, fresh_s: float
) -> None:
    now = 1000.0
    service.life_s = life_s
    async with SecretMinter(settings(service), monotonic=lambda: now) as minter:
        await minter.cached(SESSION, seconds=100)
        now += fresh_s
        await minter.cached(SESSION, seconds=100)
        assert len(service.requests) == 1
        now += 4
        await minter.cached(SESSION, seconds=100)
        assert len(service.requests) == 2


async def test_each_session_model_and_end_user_has_a_secret_of_its_own(service: MintingService) -> None:
    other = session_config(AgentProfile(instructions="Be long."))
    async with SecretMinter(settings(service)) as minter:
        found = {
            (await minter.cached(SESSION)).value.get_secret_value(),
            (await minter.cached(other)).value.get_secret_value(),
            (await minter.cached(SESSION, model="m")).value.get_secret_value(),
            (await minter.cached(SESSION, safety_identifier="a")).value.get_secret_value(),
            (await minter.cached(SESSION)).value.get_secret_value(),
        }
    assert found == {"ek_1", "ek_2", "ek_3", "ek_4"}


async def test_many_who_ask_at_once_lead_to_one_request_and_a_failure_is_not_kept(service: MintingService) -> None:
    service.delay_s = 0.05
    async with SecretMinter(settings(service)) as minter:
        found = await asyncio.gather(*(minter.cached(SESSION) for _ in range(20)))
        assert len(set(found)) == len(service.requests) == 1
        other = session_config(AgentProfile(instructions="Be long."))
        service.status = 500
        with pytest.raises(AgentLost):
            await minter.cached(other)
        service.status = 200
        assert await minter.cached(other)


async def test_the_simulator_mints_a_secret_that_opens_a_session_with_the_profiles_voice() -> None:
    async with Simulator(SimulatorOptions(key=KEY)) as simulator:
        given = RealtimeSettings.model_validate({"url": simulator.url, "api_key": KEY})
        assert secrets_url(given) == simulator.secrets_url
        async with SecretMinter(given) as minter:
            secret = await minter.mint(SESSION, model="gpt-realtime-2.1", seconds=10)
        headers = {"Authorization": f"Bearer {secret.value.get_secret_value()}"}
        url = f"{simulator.url}?model=gpt-realtime-2.1"
        async with connect(url, additional_headers=headers, proxy=None) as socket:
            created = json.loads(await socket.recv())
    assert created["type"] == "session.created"
    assert created["session"]["audio"]["output"]["voice"] == "cedar"


async def test_the_simulator_refuses_a_wrong_key_and_a_wrong_session() -> None:
    async with Simulator(SimulatorOptions(key=KEY)) as simulator:
        wrong = RealtimeSettings.model_validate({"url": simulator.url, "api_key": "sk-wrong-wrong"})
        async with SecretMinter(wrong) as minter:
            with pytest.raises(AgentRefused) as caught:
                await minter.mint(SESSION)
        assert (caught.value.http_status, caught.value.code) == (401, "invalid_api_key")
        right = RealtimeSettings.model_validate({"url": simulator.url, "api_key": KEY})
        async with SecretMinter(right) as minter:
            with pytest.raises(AgentRefused, match=r"\(session\.audio\.output\.voice\)") as caught:
                await minter.mint(session_config(AgentProfile(instructions="Be brief.", voice="tenor")))
        assert caught.value.http_status == 400
