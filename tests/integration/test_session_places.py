"""Sessions of a model, counted over all workers in a real Redis."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from gateway.errors import SessionsFull
from gateway.ids import CallId, new_call_id
from gateway.settings.sections import RedisSettings
from gateway.store.calls import RedisCallStore
from gateway.store.connection import end_task
from gateway.store.limits import RedisLimits
from gateway.worker.session_place import LimitedPlace
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

MOST = {"big": 5, "small": 3}


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


@asynccontextmanager
async def worker(settings: RedisSettings, name: str) -> AsyncIterator[tuple[RedisCallStore, RedisLimits]]:
    store = RedisCallStore(settings, name)
    await store.open()
    try:
        async with RedisLimits(store, settings, admit_limit_s=10) as limits:
            yield store, limits
    finally:
        await store.close(limit_s=0.5)


def place(opened: tuple[RedisCallStore, RedisLimits], *wanted: str, call: str = "") -> LimitedPlace:
    store, limits = opened
    return LimitedPlace(
        CallId(call or new_call_id(time.time_ns())), 1, wanted or ("big", "small"), MOST, limits, store, time.time
    )


async def taken(mine: LimitedPlace) -> str:
    try:
        return await mine.take()
    except SessionsFull:
        return "none"


def in_use(redis: RedisServer, model: str) -> int:
    with redis.client() as client:
        return int(client.zcard(f"{{gateway}}:limits:model%3A{model}:live"))


async def test_of_many_agents_at_once_no_model_gets_more_than_it_may(redis: RedisServer) -> None:
    settings = redis.settings(expiry_s=30)
    async with worker(settings, "w1") as one, worker(settings, "w2") as two:
        places = [place(each) for each in [one, two] * 30]
        models = await asyncio.gather(*map(taken, places))
        print(f"\n60 agents at once on two workers, {MOST} sessions at most:", dict(Counter(models)))
        assert Counter(models) == {"big": 5, "small": 3, "none": 52}
        assert [await taken(mine) for mine, model in zip(places, models, strict=True) if model != "none"] == [
            model for model in models if model != "none"
        ], "another session of the same agent has the same place"
        assert (in_use(redis, "big"), in_use(redis, "small")) == (5, 3)
        for mine in places:
            mine.give_back()
        await until(lambda: in_use(redis, "big") == in_use(redis, "small") == 0)
        assert await taken(place(two)) == "big"


async def test_the_places_of_a_dead_worker_are_free_again(redis: RedisServer) -> None:
    settings = redis.settings()
    async with worker(settings, "w1") as one, worker(settings, "w2") as two:
        assert [await taken(place(one, "small")) for _ in range(4)] == ["small"] * 3 + ["none"]
        task = one[1]._task
        assert task is not None
        await end_task(task)  # as if it had been killed: nothing is given back
        one[1]._live.clear()
        began = time.monotonic()
        while await taken(mine := place(two, "small")) == "none":
            mine.give_back()
            assert time.monotonic() < began + 40
            await asyncio.sleep(0.1)


async def test_the_places_of_a_lost_workers_calls_are_given_back_with_their_records(redis: RedisServer) -> None:
    settings = redis.settings(expiry_s=60)
    async with worker(settings, "w2") as two, worker(settings, "w1") as one:
        mine = [place(one, "small", call=f"c{number}") for number in range(3)]
        for number, each in enumerate(mine):
            one[0].note(CallId(f"c{number}"), "active", state="active", direction="inbound", answered_at=1.0)
            await each.take()
        await until(lambda: not one[0].backlog)
        await until(lambda: in_use(redis, "small") == 3)
        assert await taken(place(two, "small")) == "none"
        for task in (one[0]._task, one[1]._task):
            assert task is not None
            await end_task(task)
        one[1]._live.clear()
        assert sorted(await two[0].reap_calls_of("w1")) == ["c0", "c1", "c2"]
        assert in_use(redis, "small") == 0
        assert await taken(place(two, "small")) == "small"


async def test_without_redis_every_agent_has_its_first_choice(redis: RedisServer) -> None:
    async with worker(redis.settings(), "w1") as one:
        redis.stop()
        assert [await taken(place(one)) for _ in range(7)] == ["big"] * 7
