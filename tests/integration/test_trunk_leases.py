"""One worker of many registers a trunk: leases in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gateway.store.calls import RedisCallStore
from gateway.store.trunk_leases import LEASE_S, MARGIN_S, RENEW_S, TrunkLeases
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


@dataclass
class Desk:
    """A worker, and what it was told."""

    leases: TrunkLeases
    store: RedisCallStore
    held: dict[str, float] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    @property
    def token(self) -> int:
        return self.leases.held.get("main", 0)


@asynccontextmanager
async def worker(redis: RedisServer, name: str, *trunks: str) -> AsyncIterator[Desk]:
    settings = redis.settings(expiry_s=30)
    store = RedisCallStore(settings, name)
    await store.open()
    made: list[Desk] = []
    leases = TrunkLeases(
        *(store, settings, name, trunks or ("main",)),
        hold=lambda trunk, until_s: made[0].held.update({trunk: until_s}),
        let_go=lambda trunk: made[0].lost.append(trunk),
    )
    made.append(Desk(leases, store))
    try:
        async with leases:
            yield made[0]
    finally:
        await store.close(limit_s=0.5)


def names(redis: RedisServer) -> set[str]:
    """Return the keys there are."""
    return redis.keys()


def now() -> float:
    return asyncio.get_running_loop().time()  # the monotonic clock


async def test_one_has_the_lease_and_renews_it_and_another_takes_it_when_it_is_freed(redis: RedisServer) -> None:
    async with worker(redis, "b") as second:
        await until(lambda: second.token)
        async with worker(redis, "a") as first:
            before = second.held["main"]
            await until(lambda: second.held["main"] > before)
            assert second.held["main"] - now() <= LEASE_S - MARGIN_S
            assert (first.token, first.held) == (0, {})
            old = second.token
            assert await second.leases.leave() == {}
            freed_at = now()
            await until(lambda: first.token)
            assert now() - freed_at < RENEW_S + 1
            assert first.token > old
    assert not [key for key in names(redis) if ":trunk:" in key]


async def test_a_holder_that_died_is_followed_by_another_after_its_own_time_is_over(redis: RedisServer) -> None:
    async with AsyncExitStack() as dying, worker(redis, "b") as second:
        first = await dying.enter_async_context(worker(redis, "a"))
        await until(lambda: first.token or second.token)
        holder, other = (first, second) if first.token else (second, first)
        assert holder.leases._task is not None
        holder.leases._task.cancel()  # as one that is stopped: no word to Redis
        await until(lambda: other.token)
        assert now() > holder.held["main"]
        assert other.token > holder.token


async def test_a_state_is_the_holders_alone(redis: RedisServer) -> None:
    key = "{gateway}:trunk:registrar:main"
    async with worker(redis, "a") as first:
        await until(lambda: first.token)
        first.leases.note("main", state="registered", code=200)
        await until(lambda: key in names(redis))
        async with redis.reader() as reader:
            (told,) = await reader.trunks()
        assert (told["trunk"], told["worker"], told["state"]) == ("main", "a", "registered")
        assert told["token"] == str(first.token)
        with redis.client() as client:  # another took over meanwhile
            client.hset("{gateway}:registrar:main", mapping={"holder": "b x", "token": first.token + 1})
        first.leases.note("main", state="failed", code=503)
        await until(lambda: first.lost == ["main"])
        with redis.client() as client:
            assert client.hget(key, "state") == "registered"


async def test_a_late_holder_with_an_old_token_writes_nothing(redis: RedisServer) -> None:
    async with worker(redis, "a") as first:
        await until(lambda: first.token)
        with redis.client() as client:  # its lease ran out, and it is taken anew with the next turn
            client.hset("{gateway}:registrar:main", "until", 0)
        old = first.token
        first.leases.note("main", state="registered")
        await until(lambda: first.token > old)
        async with redis.reader() as reader:
            await reader.trunks()
        assert "{gateway}:trunk:registrar:main" not in names(redis)


async def test_the_last_one_learns_that_nobody_is_left(redis: RedisServer) -> None:
    async with worker(redis, "a", "main", "other") as first, worker(redis, "b", "main") as second:
        await until(lambda: "other" in first.held and (first.token or second.token))
        left = await first.leases.leave()
        assert set(left) == {"other"}
        assert left["other"] > now()
        await first.leases.release()
        assert set(await second.leases.leave()) == {"main"}


async def test_who_leaves_last_need_not_have_had_the_lease(redis: RedisServer) -> None:
    async with worker(redis, "a") as first, worker(redis, "b") as second:
        await until(lambda: first.token or second.token)
        holder, other = (first, second) if first.token else (second, first)
        await asyncio.sleep(RENEW_S)  # both have told that they want it
        leaving = await asyncio.gather(holder.leases.leave(), other.leases.leave())
        assert sorted(len(each) for each in leaving) == [0, 1]


async def test_cut_off_from_redis_the_time_is_over_before_another_can_begin(redis: RedisServer) -> None:
    async with worker(redis, "a") as first:
        await until(lambda: first.token)
        redis.pause()
        last = first.held["main"]
        await asyncio.sleep(LEASE_S)
        assert first.held["main"] == last < now()
        assert await first.leases.leave() == {}  # perhaps others are there
        redis.resume()


async def test_tokens_grow_over_a_loss_of_memory(redis: RedisServer) -> None:
    async with worker(redis, "a") as first:
        await until(lambda: first.token)
        old = first.token
        redis.stop()
        redis.start()
        await until(lambda: first.token > old)
