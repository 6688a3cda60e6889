from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import pytest
import structlog

from gateway.condition import State, WorkerCondition
from gateway.ids import new_call_id
from gateway.settings.sections import RedisSettings
from gateway.store.calls import RedisCallStore
from gateway.store.registry import RegisteredWorker, follow_workers
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer(tcp=True)
    yield server
    server.close()


class Reader:
    """Follows the registry as an edge does, and keeps every list it was given."""

    def __init__(self) -> None:
        self.lists: list[tuple[RegisteredWorker, ...]] = []

    async def follow(self, settings: RedisSettings) -> None:
        async with aclosing(follow_workers(settings, poll_s=0.2)) as lists:
            async for workers in lists:
                self.lists.append(workers)

    def states(self) -> dict[str, State]:
        return {each.condition.worker: each.condition.state for each in self.lists[-1]} if self.lists else {}


@asynccontextmanager
async def reading(settings: RedisSettings) -> AsyncIterator[Reader]:
    reader = Reader()
    task = asyncio.create_task(reader.follow(settings))
    try:
        yield reader
    finally:
        assert not task.done(), task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def condition(name: str, state: State = "ready", calls: int = 0) -> WorkerCondition:
    return WorkerCondition(name, state, calls, 4, f"127.0.0.1:{5070 + int(name[1:])}")


async def join(settings: RedisSettings, name: str) -> RedisCallStore:
    store = RedisCallStore(settings, name)
    await store.open()
    store.note_worker(condition(name))
    return store


def die(store: RedisCallStore) -> None:
    """Write no more, without a farewell, as a process that was killed."""
    assert store._task is not None
    store._task.cancel()


async def test_workers_join_change_and_leave_before_all_readers(redis: RedisServer) -> None:
    settings = redis.settings()
    async with reading(settings) as one, reading(settings) as other:
        await until(lambda: one.lists == other.lists == [()])
        first, second = await join(settings, "w1"), await join(settings, "w2")
        await until(lambda: one.states() == other.states() == {"w1": "ready", "w2": "ready"})
        (worker, _) = one.lists[-1]
        assert (worker.condition.sip, worker.condition.capacity) == ("127.0.0.1:5071", 4)
        assert worker.host
        assert worker.heartbeat_at <= time.time()
        first.note_worker(condition("w1", "overloaded"))
        await until(lambda: one.states() == other.states() == {"w1": "overloaded", "w2": "ready"})
        first.note_worker(condition("w1", "draining"))
        await until(lambda: one.states() == other.states() == {"w1": "draining", "w2": "ready"})
        first.note_worker(condition("w1", "ended"))
        await until(lambda: one.states() == other.states() == {"w2": "ready"})
        await second.close()
        await until(lambda: one.states() == other.states() == {})
        await first.close()
    left = redis.keys()
    assert not [key for key in left if ":worker" in key]


async def test_changes_are_told_by_message_and_not_only_by_the_next_look(redis: RedisServer) -> None:
    settings, lists = redis.settings(), list[tuple[RegisteredWorker, ...]]()
    async with aclosing(follow_workers(settings, poll_s=600)) as followed:
        lists.append(await anext(followed))
        store = await join(settings, "w1")
        lists.append(await anext(followed))
        await store.close()
        lists.append(await anext(followed))
    assert [len(workers) for workers in lists] == [0, 1, 0]


async def test_a_worker_that_dies_is_gone_with_its_entry_and_one_that_beats_stays(redis: RedisServer) -> None:
    settings = redis.settings()
    dead, alive = await join(settings, "w1"), await join(settings, "w2")
    async with reading(settings) as reader:
        await until(lambda: reader.states() == {"w1": "ready", "w2": "ready"})
        die(dead)
        await until(lambda: reader.states() == {"w2": "ready"})
        await asyncio.sleep(2 * settings.worker_expiry_s)
        assert reader.states() == {"w2": "ready"}
    await alive.close()
    await dead.close()


async def test_the_number_of_calls_is_current_and_no_news(redis: RedisServer) -> None:
    settings = redis.settings(worker_heartbeat_s=600, worker_expiry_s=3600, heartbeat_s=600, expiry_s=3600)
    call = new_call_id(time.time_ns())
    async with reading(settings) as reader:
        store = await join(settings, "w1")
        await until(lambda: reader.states() == {"w1": "ready"})
        lists = len(reader.lists)
        store.note_worker(condition("w1", calls=1))
        store.note(call, "routing", state="routing")
        with redis.client() as client:
            await until(lambda: client.hget("gateway:worker:w1", "live_calls") == "1")
            store.note_worker(condition("w1"))
            store.note(call, "ended", state="ended")
            await until(lambda: client.hget("gateway:worker:w1", "live_calls") == "0")
        await asyncio.sleep(0.5)  # two looks
        assert len(reader.lists) == lists
        await store.close()


async def test_the_last_list_stays_while_redis_is_away_and_a_new_redis_learns_all_again(redis: RedisServer) -> None:
    settings = redis.settings()
    with structlog.testing.capture_logs() as logged:
        async with reading(settings) as reader:
            stores = [await join(settings, f"w{number}") for number in range(3)]
            everyone = {f"w{number}": "ready" for number in range(3)}
            await until(lambda: reader.states() == everyone)
            before = len(reader.lists)
            redis.stop()
            await until(lambda: any(entry["event"] == "registry_away" for entry in logged))
            await asyncio.sleep(2 * settings.worker_expiry_s)
            redis.start()  # it kept nothing
            await until(lambda: all(redis.ttl_s(f"gateway:worker:{name}") > 0 for name in everyone))
            await until(lambda: any(entry["event"] == "registry_is_back" for entry in logged))
            stores[0].note_worker(condition("w0", "draining"))
            await until(lambda: reader.states() == {**everyone, "w0": "draining"})
            for workers in reader.lists[before:]:
                assert len(workers) == 3, "a worker was missing although it lived"
            die(stores[1])
            await until(lambda: "w1" not in reader.states())
            for store in stores:
                await store.close()


async def test_a_redis_that_hung_until_all_entries_expired_takes_no_worker_away(redis: RedisServer) -> None:
    settings = redis.settings()
    async with reading(settings) as reader:
        store = await join(settings, "w1")
        await until(lambda: reader.states() == {"w1": "ready"})
        redis.pause()
        await asyncio.sleep(3)  # the entry expires meanwhile
        redis.resume()
        await until(lambda: redis.ttl_s("gateway:worker:w1") > 0)
        await asyncio.sleep(0.5)
        assert reader.states() == {"w1": "ready"}
        assert all(reader.lists[1:]), "the list was empty once"
        await store.close()


async def test_a_reader_that_comes_before_redis_gets_its_list_when_that_is_there(redis: RedisServer) -> None:
    settings = redis.settings()
    redis.stop()
    async with reading(settings) as reader:
        await asyncio.sleep(0.5)
        assert reader.lists == []
        redis.start()
        store = await join(settings, "w1")
        await until(lambda: reader.states() == {"w1": "ready"})
        await store.close()


async def test_what_something_else_wrote_is_passed_over_and_expired_names_leave_the_set(redis: RedisServer) -> None:
    settings = redis.settings()
    with redis.client() as client:
        client.sadd("gateway:workers", "gateway:worker:w8", "gateway:worker:w9")
        client.hset("gateway:worker:w9", mapping={"worker": "w9", "sip": "203.0.113.9:5060\n", "state": "ready"})
        async with reading(settings) as reader:
            store = await join(settings, "w1")
            await until(lambda: reader.states() == {"w1": "ready"})
            assert client.smembers("gateway:workers") == {"gateway:worker:w1", "gateway:worker:w9"}
            await store.close()


async def test_two_gateways_with_different_prefixes_do_not_see_each_other(redis: RedisServer) -> None:
    async with reading(redis.settings(prefix="other")) as other, reading(redis.settings()) as own:
        store = await join(redis.settings(), "w1")
        await until(lambda: own.states() == {"w1": "ready"})
        await asyncio.sleep(0.5)
        assert other.lists == [()]
        await store.close()


async def test_a_condition_is_replaced_while_redis_is_away_and_the_newest_is_written(redis: RedisServer) -> None:
    settings = redis.settings()
    store = await join(settings, "w1")
    await until(lambda: redis.ttl_s("gateway:worker:w1") > 0)
    redis.stop()
    for calls in range(4):
        store.note_worker(replace(condition("w1"), live_calls=calls))
    await until(lambda: store.away)
    redis.start()
    with redis.client() as client:
        await until(lambda: client.hget("gateway:worker:w1", "live_calls") == "3")
    await store.close()
