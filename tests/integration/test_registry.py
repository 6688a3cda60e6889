from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
import structlog

from gateway.condition import State, WorkerCondition
from gateway.settings.sections import RedisSettings
from gateway.store.registry import RegisteredWorker, RegistryWriter, follow_workers
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


class Reader:
    """Follows the registry as an edge does, and keeps every list it was given."""

    def __init__(self) -> None:
        self.lists: list[tuple[RegisteredWorker, ...]] = []

    async def follow(self, settings: RedisSettings) -> None:
        async with aclosing(follow_workers(settings, poll_s=0.2)) as lists:
            async for workers in lists:
                self.lists.append(workers)

    def states(self) -> dict[str, State]:
        """Return the states of those that have not ended."""
        conditions = [each.condition for each in self.lists[-1]] if self.lists else []
        return {each.worker: each.state for each in conditions if each.state != "ended"}


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


@asynccontextmanager
async def host(settings: RedisSettings, *workers: str) -> AsyncIterator[RegistryWriter]:
    """A machine with these workers."""
    async with RegistryWriter(settings) as writer:
        writer.set_workers(map(condition, workers))
        yield writer


def die(writer: RegistryWriter) -> None:
    """Write no more, without a farewell, as a machine without power."""
    assert writer._task is not None
    writer._task.cancel()
    writer._workers = {}


async def test_workers_join_change_and_leave_before_all_readers(redis: RedisServer) -> None:
    settings = redis.settings()
    async with reading(settings) as one, reading(settings) as other:
        await until(lambda: one.lists == other.lists == [()])
        async with host(settings, "w1") as first:
            async with host(settings, "w2", "w3"):
                await until(lambda: one.states() == other.states() == {"w1": "ready", "w2": "ready", "w3": "ready"})
                worker = one.lists[-1][0]
                assert (worker.condition.sip, worker.condition.capacity) == ("127.0.0.1:5071", 4)
                assert worker.host
                assert worker.heartbeat_at <= time.time()
                first.set_workers([condition("w1", "overloaded")])
                await until(lambda: one.states()["w1"] == other.states()["w1"] == "overloaded")
                first.set_workers([condition("w1", "draining")])
                await until(lambda: one.states()["w1"] == other.states()["w1"] == "draining")
            await until(lambda: one.states() == other.states() == {"w1": "draining"})
            first.set_workers([condition("w1", "ended")])
            await until(lambda: one.lists[-1] == other.lists[-1] == ())
        for reader in (one, other):
            states = [
                each.condition.state for workers in reader.lists for each in workers if each.condition.worker == "w1"
            ]
            assert states[-1] == "ended"
    assert redis.keys() == set()


async def test_changes_are_told_by_message_and_not_only_by_the_next_look(redis: RedisServer) -> None:
    settings, lists = redis.settings(), list[tuple[RegisteredWorker, ...]]()
    async with aclosing(follow_workers(settings, poll_s=600)) as followed:
        lists.append(await anext(followed))
        async with host(settings, "w1"):
            lists.append(await anext(followed))
        lists.append(await anext(followed))
    assert [[each.condition.state for each in workers] for workers in lists] == [[], ["ready"], ["ended"]]


async def test_the_workers_of_a_host_that_dies_are_gone_and_those_of_others_stay(redis: RedisServer) -> None:
    settings = redis.settings()
    async with host(settings, "w1", "w2") as dead, host(settings, "w3"), reading(settings) as reader:
        await until(lambda: len(reader.states()) == 3)
        die(dead)
        await until(lambda: reader.states() == {"w3": "ready"})
        await asyncio.sleep(settings.worker_expiry_s + 1)
        assert reader.states() == {"w3": "ready"}


async def test_the_number_of_calls_comes_with_the_heartbeat_which_alone_is_no_news(redis: RedisServer) -> None:
    settings = redis.settings()
    async with host(settings, "w1") as writer, reading(settings) as reader:
        await until(lambda: reader.states() == {"w1": "ready"})
        lists = len(reader.lists)
        writer.set_workers([condition("w1", calls=1)])
        await until(lambda: reader.lists[-1][0].condition.live_calls == 1)
        writer.set_workers([condition("w1")])
        await until(lambda: reader.lists[-1][0].condition.live_calls == 0)
        await asyncio.sleep(0.5)  # two looks
        assert len(reader.lists) == lists + 2


async def test_the_last_list_stays_while_redis_is_away_and_a_new_redis_learns_all_again(redis: RedisServer) -> None:
    settings = redis.settings()
    everyone = {f"w{number}": "ready" for number in range(3)}
    with structlog.testing.capture_logs() as logged:
        async with (
            host(settings, "w0") as one,
            host(settings, "w1") as dead,
            host(settings, "w2"),
            reading(settings) as reader,
        ):
            await until(lambda: reader.states() == everyone)
            before = len(reader.lists)
            redis.stop()
            await until(lambda: any(entry["event"] == "registry_away" for entry in logged))
            await asyncio.sleep(settings.worker_expiry_s + 1)
            redis.start()  # it kept nothing
            await until(lambda: all(redis.ttl_s(f"{{gateway}}:worker:{name}") > 0 for name in everyone))
            await until(lambda: any(entry["event"] == "registry_is_back" for entry in logged))
            one.set_workers([condition("w0", "draining")])
            await until(lambda: reader.states() == {**everyone, "w0": "draining"})
            for workers in reader.lists[before:]:
                assert len(workers) == 3, "a worker was missing although it lived"
            die(dead)
            await until(lambda: "w1" not in reader.states())


async def test_a_redis_that_hung_until_all_entries_expired_takes_no_worker_away(redis: RedisServer) -> None:
    settings = redis.settings()
    async with host(settings, "w1"), reading(settings) as reader:
        await until(lambda: reader.states() == {"w1": "ready"})
        redis.pause()
        await asyncio.sleep(settings.worker_expiry_s + 2)  # the entry expires meanwhile
        redis.resume()
        await until(lambda: redis.ttl_s("{gateway}:worker:w1") > 0)
        await asyncio.sleep(0.5)
        assert reader.states() == {"w1": "ready"}
        assert all(reader.lists[1:]), "the list was empty once"


async def test_a_reader_that_comes_before_redis_gets_its_list_when_that_is_there(redis: RedisServer) -> None:
    settings = redis.settings()
    redis.stop()
    async with reading(settings) as reader, host(settings, "w1"):
        await asyncio.sleep(0.5)
        assert reader.lists == []
        redis.start()
        await until(lambda: reader.states() == {"w1": "ready"})


async def test_what_something_else_wrote_is_passed_over_and_expired_names_leave_the_set(redis: RedisServer) -> None:
    settings = redis.settings()
    with redis.client() as client:
        client.sadd("{gateway}:workers", "{gateway}:worker:w8", "{gateway}:worker:w9")
        client.hset("{gateway}:worker:w9", mapping={"worker": "w9", "sip": "203.0.113.9:5060\n", "state": "ready"})
        async with reading(settings) as reader, host(settings, "w1"):
            await until(lambda: reader.states() == {"w1": "ready"})
            assert client.smembers("{gateway}:workers") == {"{gateway}:worker:w1", "{gateway}:worker:w9"}


async def test_two_gateways_with_different_prefixes_do_not_see_each_other(redis: RedisServer) -> None:
    settings, others = redis.settings(), redis.settings(prefix="other")
    async with reading(others) as other, reading(settings) as own, host(settings, "w1"):
        await until(lambda: own.states() == {"w1": "ready"})
        await asyncio.sleep(0.5)
        assert other.lists == [()]


async def test_what_changed_while_redis_was_away_is_written_when_it_is_back(redis: RedisServer) -> None:
    settings = redis.settings()
    async with host(settings, "w1", "w2") as writer:
        await until(lambda: redis.ttl_s("{gateway}:worker:w2") > 0)
        with structlog.testing.capture_logs() as logged:
            redis.pause()
            writer.set_workers([condition("w2", "ended"), condition("w1", "draining", calls=3)])
            await until(lambda: any(entry["event"] == "registry_not_written" for entry in logged))
            redis.resume()
        with redis.client() as client:
            await until(lambda: client.hget("{gateway}:worker:w1", "state") == "draining")
            assert client.hget("{gateway}:worker:w1", "live_calls") == "3"
            assert client.hget("{gateway}:worker:w2", "state") == "ended"
            await until(lambda: not client.exists("{gateway}:worker:w2"))


async def test_names_of_workers_that_died_unread_are_taken_off_the_set_by_the_next_worker(redis: RedisServer) -> None:
    with redis.client() as client:
        client.sadd("{gateway}:workers", "{gateway}:worker:w8")
        async with host(redis.settings(), "w1"):
            await until(lambda: client.smembers("{gateway}:workers") == {"{gateway}:worker:w1"})
