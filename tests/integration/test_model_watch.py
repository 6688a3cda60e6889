"""Until when models are offered: asked of the service, kept in Redis, by one worker of all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import structlog

from gateway.cost.model_life import Listed, ModelLife, lives_of
from gateway.dialplan.model.plan import Dialplan
from gateway.errors import AgentError, AgentLost, AgentRefused, WireError
from gateway.free_port import free_port
from gateway.ids import CallId
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.settings.sections import RealtimeSettings
from gateway.store.calls import RedisCallStore
from gateway.store.limits import RedisLimits
from gateway.store.model_lives import TRY_AGAIN_S
from gateway.store.reader import CallReader
from gateway.upstream.realtime.access.models import list_models
from gateway.worker.model_watch import ModelWatch
from gateway.worker.session_place import LimitedPlace
from tests.rigs.redis_server import RedisServer
from tests.rigs.web_api import problem, serving

pytestmark = pytest.mark.integration

SOON = datetime.now(UTC).date() + timedelta(30)
MODEL = "gpt-realtime-2.1"


def plan(model: str = MODEL) -> Dialplan:
    agents = {"front": {"instructions": "x", "model": model, "transcription": None}}
    return Dialplan.model_validate({"agents": agents, "routes": [{"name": "all", "agent": "front"}]})


def settings(url: str, key: str | None = "sk-test") -> RealtimeSettings:
    return RealtimeSettings.model_validate({"url": url, "api_key": key, "connect_timeout_s": 5})


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


@asynccontextmanager
async def opened(redis: RedisServer, worker: str) -> AsyncIterator[RedisCallStore]:
    store = RedisCallStore(redis.settings(), worker)
    await store.open()
    try:
        yield store
    finally:
        await store.close(limit_s=0.5)


async def read_lives(redis: RedisServer) -> list[ModelLife]:
    async with CallReader(redis.settings()) as reader:
        return await reader.models()


class Service:
    """Counts how often it is asked."""

    def __init__(self, listed: Listed | AgentError) -> None:
        self.listed = listed
        self.asked = 0

    async def ask(self) -> Listed:
        self.asked += 1
        await asyncio.sleep(0)
        if isinstance(self.listed, AgentError):
            raise self.listed
        return self.listed


def watch(store: RedisCallStore, ask: Callable[[], Awaitable[Listed]], model: str = MODEL) -> ModelWatch:
    return ModelWatch(store, "gateway", "w1", partial(plan, model), ask)


async def test_the_simulator_says_until_when_its_models_are_offered() -> None:
    options = SimulatorOptions(key="sk-test", shutdown={MODEL: str(SOON), "gpt-realtime": ""})
    async with Simulator(options) as simulator:
        listed = await list_models(settings(simulator.url))
        assert (listed[MODEL], listed["gpt-realtime"]) == (SOON, None)
        assert listed["gpt-realtime-mini"] == date(2027, 1, 20)
        with pytest.raises(AgentRefused) as refused:
            await list_models(settings(simulator.url, "sk-other"))
        assert refused.value.http_status == 401
        assert "sk-other" not in str(refused.value)
        with pytest.raises(AgentRefused, match="no API key"):
            await list_models(settings(simulator.url, None))


async def test_a_service_that_is_not_there_or_has_no_list_is_said_to_be_so() -> None:
    with pytest.raises(AgentLost, match="cannot ask for the models"):
        await list_models(settings(f"ws://127.0.0.1:{free_port()}/v1/realtime"))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(WireError, match="no list of models"):
            await list_models(settings(f"ws://127.0.0.1:{port}/v1/realtime"))


async def test_one_worker_of_all_looks_up_and_all_see_what_it_found(redis: RedisServer) -> None:
    service = Service({MODEL: SOON})
    async with opened(redis, "w1") as one, opened(redis, "w2") as two:
        with structlog.testing.capture_logs() as logs:
            found = await asyncio.gather(*(watch(store, service.ask).look() for store in [one, two] * 4))
        assert service.asked == 1
        assert sum(bool(each) for each in found) == 1
        (told,) = logs
        assert (told["event"], told["log_level"]) == ("model_retires", "warning")
        assert (told["model"], told["shutdown_date"], told["days_left"]) == (MODEL, str(SOON), 30)
        (life,) = await read_lives(redis)
        assert (life.model, life.shutdown_date, life.source, life.agents) == (MODEL, SOON, "service", ("front",))
        assert await watch(two, service.ask).look() == []


async def test_a_plan_with_other_models_is_looked_up_at_once(redis: RedisServer) -> None:
    service = Service({MODEL: None, "gpt-realtime": SOON})
    async with opened(redis, "w1") as store:
        await watch(store, service.ask).look()
        await watch(store, service.ask, "gpt-realtime").look()
        assert service.asked == 2
        assert [life.model for life in await read_lives(redis)] == ["gpt-realtime"]


async def test_where_the_service_cannot_be_asked_the_dates_that_ship_are_known_and_it_is_asked_again(
    redis: RedisServer,
) -> None:
    service = Service(AgentLost("no way"))
    async with opened(redis, "w1") as store:
        await watch(store, service.ask, "gpt-realtime").look()
        lives = await read_lives(redis)
        assert lives == lives_of({"gpt-realtime": ("front",)}, None, 0)
        assert lives[0].shutdown_date == date(2027, 1, 20)
        (lease,) = filter(lambda key: ":looked_up:" in key, redis.keys())
        assert redis.ttl_s(lease) <= TRY_AGAIN_S


async def test_the_api_tells_the_models_with_their_sessions(redis: RedisServer, tmp_path: Path) -> None:
    realtime = RealtimeSettings.model_validate({"sessions_max": {MODEL: 2, "another": 9}})
    async with serving(redis, tmp_path, realtime=realtime) as api, opened(redis, "w1") as store:
        assert (await api.ask("GET", "/v1/models", token="read")).json() == {"models": []}
        await watch(store, Service({MODEL: SOON}).ask).look()
        async with RedisLimits(store, redis.settings(), admit_limit_s=10) as limits:
            place = LimitedPlace(CallId("c1"), 1, [MODEL], realtime.sessions_max, limits, store, time.time)
            await place.take()
            (told,) = (await api.ask("GET", "/v1/models", token="read")).json()["models"]
            assert told.pop("looked_up_at") == pytest.approx(time.time(), abs=60)
            assert told == {
                "model": MODEL,
                "agents": ["front"],
                "shutdown_date": str(SOON),
                "source": "service",
                "sessions": 1,
                "sessions_max": 2,
            }
            place.give_back()
        assert problem(await api.ask("GET", "/v1/models", token="dial"))[0] == 403


async def test_what_is_no_life_in_redis_is_passed_over(redis: RedisServer) -> None:
    assert await read_lives(redis) == []
    with redis.client() as client:
        client.hset("{gateway}:models", "m", "not ours")
    assert await read_lives(redis) == []
