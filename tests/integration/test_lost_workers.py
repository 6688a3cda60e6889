"""Calls of workers that are lost: ended once, by whoever looks first, with a CDR; nothing of a worker that lives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
import structlog

from gateway.settings.sections import RedisSettings
from gateway.store.calls import RedisCallStore
from gateway.store.limits import Caps, RedisLimits, RouteLimits
from gateway.store.reader import CdrQuery
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer(tcp=True, keep=True)
    yield server
    server.close()


@asynccontextmanager
async def opened(
    settings: RedisSettings, worker: str, *, now: Callable[[], float] = time.time
) -> AsyncIterator[RedisCallStore]:
    store = RedisCallStore(settings, worker, now=now)
    await store.open()
    try:
        yield store
    finally:
        await store.close(limit_s=0.5)


@asynccontextmanager
async def killed(
    redis: RedisServer, *calls: str, now: Callable[[], float] = time.time, **fields: str | float
) -> AsyncIterator[None]:
    """Have a worker that answers these calls, and is gone without a word."""
    async with opened(redis.settings(), "dead", now=now) as store:
        for call in calls:
            store.note(call, "active", state="active", answered_at=now() - 60, **fields)  # type: ignore[arg-type]
        await until(lambda: redis.live() >= set(calls))
    yield


def ends_of(redis: RedisServer, call: str) -> list[dict[str, str]]:
    return [event for event in redis.events() if event["call_id"] == call and event.get("state") == "ended"]


async def cdrs(redis: RedisServer) -> list[tuple[str, str | None]]:
    async with redis.reader() as reader:
        return [(record.call_id, record.end_reason) for record in (await reader.cdrs(CdrQuery())).records]


async def test_the_calls_of_a_lost_worker_end_once_with_a_cdr_and_are_kept_like_any_other(redis: RedisServer) -> None:
    async with (
        opened(redis.settings(), "w1") as one,
        opened(redis.settings(), "w2") as two,
        killed(redis, "a", "b", from_uri="sip:a@x", route="sales"),
    ):
        one.note("mine", "active", state="active")  # type: ignore[arg-type]
        await until(lambda: redis.live() == {"mine"})
        await asyncio.gather(one.reap_dead_calls(), two.reap_dead_calls())
    record = redis.record("a")
    assert (record["state"], record["end_reason"], record["ended_by"]) == ("ended", "worker_lost", "gateway")
    assert (record["from_uri"], record["worker"], record["fault"]) == ("sip:a@x", "dead", "gateway")
    assert 59 < float(record["ended_at"]) - float(record["answered_at"]) < 100
    assert redis.ttl_s("{gateway}:call:a") > 86_000
    assert [[event["event"] for event in ends_of(redis, call)] for call in "ab"] == [["orphaned"], ["orphaned"]]
    assert sorted(await cdrs(redis)) == [("a", "worker_lost"), ("b", "worker_lost")]
    async with redis.reader() as reader:
        (page,) = [await reader.cdrs(CdrQuery(route="sales"))]
        assert {each.call_id: each.cdr for each in page.records}["a"] == record["cdr"]
        (today,) = await reader.totals(datetime.now(UTC).date(), datetime.now(UTC).date())
        assert (today.all.calls, today.by_end_reason, today.by_route["sales"].answered) == (2, {"worker_lost": 2}, 2)
        assert [event.fields["event"] for event in await reader.events_of("a")] == ["active", "orphaned"]
        assert (await reader.metrics())["gateway_calls_ended_total worker_lost gateway other"] == "2"
    live = "{gateway}:calls:live"
    assert {key for key in redis.keys() if ":live" in key} == {live, f"{live}:worker:w1"}  # noqa: SIM118 - a server


async def test_the_clock_of_a_worker_may_be_an_hour_off(redis: RedisServer) -> None:
    """Neither does it lose calls that it renews, nor are those of a dead one kept, nor do lengths come out wrong."""
    for number, skew in enumerate((3600, -3600)):

        def now(skew: int = skew) -> float:
            return time.time() + skew

        living, dead = f"living{number}", f"dead{number}"
        async with opened(redis.settings(), "w1") as right, opened(redis.settings(), "skewed", now=now) as wrong:
            wrong.note(living, "active", state="active")  # type: ignore[arg-type]
            async with killed(redis, dead, now=now):
                await until(lambda dead=dead: redis.record(dead).get("state") == "ended")  # type: ignore[misc]
            await asyncio.sleep(1.5)  # longer than an expiry
            assert await right.reap_dead_calls() == []
            assert redis.live() == {living}
            wrong.note(living, "ended", state="ended", end_reason="completed")  # type: ignore[arg-type]
        record = redis.record(dead)
        assert 59 < float(record["ended_at"]) - float(record["answered_at"]) < 100
    since = time.time() - 600
    async with redis.reader() as reader:
        page = await reader.cdrs(CdrQuery(since=since, until=time.time() + 600))
        assert sorted(record.call_id for record in page.records) == ["dead0", "dead1", "living0", "living1"]


async def test_a_worker_that_comes_back_has_its_call_again_and_there_is_one_cdr(redis: RedisServer) -> None:
    settings = redis.settings(heartbeat_s=20, expiry_s=40)
    async with opened(settings, "slow") as slow, opened(redis.settings(), "w2"):
        slow.note("a", "active", state="active", answered_at=time.time())  # type: ignore[arg-type]
        await until(lambda: redis.live() == {"a"})
        with redis.client() as client:
            client.zadd("{gateway}:calls:live", {"a": 1})  # it has not renewed it for long
        await until(lambda: not redis.live())
        assert await cdrs(redis) == [("a", "worker_lost")]
        cdr = redis.record("a")["cdr"]
        slow.note("a", "turn", codec="PCMU/8000")  # type: ignore[arg-type]
        await until(lambda: redis.live() == {"a"})
        assert redis.record("a")["state"] == "active"
        assert not {"end_reason", "ended_at", "ended_by"} & redis.record("a").keys()
        slow.note("a", "ended", state="ended", end_reason="caller_hung_up", ended_at=time.time())  # type: ignore[arg-type]
        await until(lambda: not redis.live())
    assert (redis.record("a")["end_reason"], redis.record("a")["cdr"]) == ("caller_hung_up", cdr)
    assert await cdrs(redis) == [("a", "worker_lost")]
    assert [event["event"] for event in redis.events()] == ["active", "orphaned", "turn", "ended"]


async def test_a_heartbeat_brings_back_a_call_that_was_taken_for_lost(redis: RedisServer) -> None:
    async with opened(redis.settings(), "w1") as store:
        store.note("a", "active", state="active", from_uri="sip:a@x")  # type: ignore[arg-type]
        await until(lambda: redis.live() == {"a"})
        with redis.client() as client:
            client.delete("{gateway}:call:a", "{gateway}:calls:live")
        await until(lambda: redis.record("a").get("from_uri") == "sip:a@x")
        assert redis.live() == {"a"}


async def test_after_an_outage_nobody_is_taken_for_lost_who_had_no_time_to_come_back(redis: RedisServer) -> None:
    settings = redis.settings()
    async with opened(settings, "w1") as one, opened(settings, "w2") as two:
        one.note("a", "active", state="active")  # type: ignore[arg-type]
        two.note("b", "active", state="active")  # type: ignore[arg-type]
        await until(lambda: redis.live() == {"a", "b"})
        for stop, start in ((redis.stop, redis.start), (redis.pause, redis.resume)):
            stop()
            await asyncio.sleep(2.5)  # more than two expiries
            await until(lambda: one.away and two.away)
            assert one.condition.degraded
            start()
            async with opened(settings, "new") as new:  # it has seen nothing of the outage
                assert await new.reap_dead_calls() == []
                await until(lambda: not one.away and not two.away)
            await asyncio.sleep(1.5)
        assert not one.condition.degraded
        assert redis.live() == {"a", "b"}
    assert not [event for event in redis.events() if event["event"] == "orphaned"]
    assert await cdrs(redis) == []


async def test_the_calls_of_a_worker_that_is_known_to_be_dead_end_at_once(redis: RedisServer) -> None:
    async with opened(redis.settings(expiry_s=60), "w1") as store:
        async with opened(redis.settings(expiry_s=60), "dead") as dead:
            dead.note("a", "active", state="active")  # type: ignore[arg-type]
            store.note("b", "active", state="active")  # type: ignore[arg-type]
            await until(lambda: redis.live() == {"a", "b"})
        with structlog.testing.capture_logs() as logged:
            assert await store.reap_calls_of("dead") == ["a"]
        assert [(entry["event"], entry["lost"]) for entry in logged] == [("call_orphaned", "dead")]
        assert await store.reap_calls_of("dead") == []
        assert redis.live() == {"b"}


async def test_the_places_of_a_lost_call_are_free_at_once(redis: RedisServer) -> None:
    settings = redis.settings(expiry_s=60)
    caps = RouteLimits(Caps(max_calls=1), Caps(max_calls=1))
    day = "2026-01-31"

    def places() -> int:
        with redis.client() as client:
            return sum(client.zcard(key) for key in client.keys("*:limits:*:live*"))

    async with opened(settings, "w1") as store:
        limits = RedisLimits(store, settings)
        dead = RedisCallStore(settings, "dead")
        await dead.open()
        dead.note("a", "active", state="active", route="a route: sales")  # type: ignore[arg-type]
        held = RedisLimits(dead, settings)
        for call, route in (("a", "a route: sales"), ("a:line", "trunk:main")):
            assert (await held.admit(call, route=route, caller="+49", day=day, limits=caps)).admitted
        assert places() == 4
        assert not (await limits.admit("b", route="a route: sales", caller="+49", day=day, limits=caps)).admitted
        await until(lambda: redis.live() == {"a"})
        await dead.close()
        assert await store.reap_calls_of("dead") == ["a"]
        assert places() == 0
        assert (await limits.admit("b", route="a route: sales", caller="+49", day=day, limits=caps)).admitted


async def test_places_of_calls_that_were_admitted_without_redis_are_given_back_too(redis: RedisServer) -> None:
    settings = redis.settings(expiry_s=60)
    caps = RouteLimits(Caps(max_calls=9))
    async with opened(settings, "w1") as store:
        dead = RedisCallStore(settings, "dead")
        await dead.open()
        async with RedisLimits(dead, settings) as limits:
            redis.stop()
            assert (await limits.admit("a", route="sales", caller="", day="2026-01-31", limits=caps)).admitted
            redis.start()
            dead.note("a", "active", state="active", route="sales")  # type: ignore[arg-type]

            def places() -> int:
                with redis.client() as client:
                    return int(client.zcard("{gateway}:limits:sales:live"))

            await until(lambda: places() == 1 and redis.live() == {"a"})
            limits._live.clear()  # it dies without a word
        await dead.close()
        await until(lambda: not store.away)
        assert await store.reap_calls_of("dead") == ["a"]
        assert places() == 0


async def test_a_record_of_a_wrong_type_does_not_keep_others_from_ending(redis: RedisServer) -> None:
    async with killed(redis, "a", "z"):
        with redis.client() as client:
            client.delete("{gateway}:call:a")
            client.set("{gateway}:call:a", "not a record")
        with structlog.testing.capture_logs() as logged:
            async with opened(redis.settings(), "w1"):
                await until(lambda: not redis.live())
    assert redis.record("z")["end_reason"] == "worker_lost"
    assert "WRONGTYPE" in str(logged)


async def test_many_calls_of_lost_workers_end_in_one_look(redis: RedisServer) -> None:
    calls = [f"c{number}" for number in range(200)]
    async with killed(redis, *calls), opened(redis.settings(heartbeat_s=0.4), "w1"):
        await until(lambda: not redis.live())
    assert len(await cdrs(redis)) == 100  # the first page
    with redis.client() as client:
        assert client.xlen("{gateway}:cdrs") == 200
