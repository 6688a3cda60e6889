from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import structlog

from gateway.ids import new_call_id
from gateway.settings.sections import RedisSettings
from gateway.store.calls import RedisCallStore
from gateway.store.connection import end_task
from gateway.store.limits import ADMIT_LIMIT_S, Caps, RedisLimits, RouteAdmission, RouteLimits
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

DAY = "2026-03-01"
LIVE, COUNTED = "{gateway}:limits:sales:live", f"{{gateway}}:limits:sales:day:{DAY}"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


@dataclass(frozen=True, slots=True)
class Desk:
    """The limits of one worker, asked as a test wants it."""

    limits: RedisLimits

    async def ask(self, limits: RouteLimits, call_id: str = "", **changes: str) -> RouteAdmission:
        asked = {"route": "sales", "caller": "+15550100", "day": DAY, **changes}
        return await self.limits.admit(call_id or new_call_id(time.time_ns()), limits=limits, **asked)


def calm(redis: RedisServer, **changes: Any) -> RedisSettings:
    """Return settings under which nothing expires because the machine is slow."""
    return redis.settings(**{"expiry_s": 30, **changes})


@asynccontextmanager
async def opened(settings: RedisSettings, worker: str = "w1", admit_limit_s: float = 10) -> AsyncIterator[Desk]:
    """Open a worker's store and its limits."""
    store = RedisCallStore(settings, worker)
    await store.open()
    try:
        async with RedisLimits(store, settings, admit_limit_s=admit_limit_s) as limits:
            yield Desk(limits)
    finally:
        await store.close(limit_s=0.5)


async def die(desk: Desk) -> None:
    """Stop the heartbeat as a killed process would: nothing is released."""
    task = desk.limits._task
    assert task is not None
    await end_task(task)
    desk.limits._live.clear()


def hash_of(redis: RedisServer, key: str = COUNTED) -> dict[str, int]:
    with redis.client() as client:
        return {name: int(value) for name, value in client.hgetall(key).items() if name != "places"}


def places(redis: RedisServer, key: str = LIVE) -> set[str]:
    with redis.client() as client:
        return set(client.zrange(key, 0, -1))


def commands(redis: RedisServer) -> int:
    """Return how many scripts the server has run."""
    with redis.client() as client:
        stats: dict[str, Any] = client.info("commandstats")
    return int(stats.get("cmdstat_eval", {"calls": 0})["calls"])


async def test_of_fifty_calls_at_once_over_two_workers_exactly_ten_get_in(redis: RedisServer) -> None:
    limits = RouteLimits(Caps(max_calls=10))
    async with opened(calm(redis), "w1") as one, opened(calm(redis), "w2") as two:
        for _ in range(3):
            ids = [new_call_id(time.time_ns()) for _ in range(50)]
            desks = [one, two] * 25
            answers = await asyncio.gather(*(desk.ask(limits, call) for desk, call in zip(desks, ids, strict=True)))
            inside = {call for call, answer in zip(ids, answers, strict=True) if answer.admitted}
            assert len(inside) == 10
            assert places(redis) == inside
            assert {answer.exceeded for answer in answers if not answer.admitted} == {"max_calls 10"}
            for desk, call in zip(desks, ids, strict=True):
                desk.limits.release(call, 1)
            await until(lambda: not places(redis))
    assert hash_of(redis) == {"calls": 30, "ms": 30_000}


async def test_a_burst_beyond_the_connections_of_a_worker_is_still_counted(redis: RedisServer) -> None:
    with structlog.testing.capture_logs() as logs:
        async with opened(calm(redis)) as desk:
            answers = await asyncio.gather(*(desk.ask(RouteLimits(Caps(max_calls=10))) for _ in range(150)))
    assert sum(answer.admitted for answer in answers) == 10
    assert not logs


async def test_of_a_call_that_nobody_answered_a_mark_is_kept_briefly(redis: RedisServer) -> None:
    async with opened(calm(redis, unanswered_retention_s=100, retention_s=1000)) as desk:
        for call, seconds in (("short", 0), ("long", 3)):
            assert (await desk.ask(RouteLimits(Caps(calls_per_day=9)), call)).admitted
            desk.limits.release(call, seconds)
    assert 50 < redis.ttl_s("{gateway}:limits:call:short") <= 100
    assert 500 < redis.ttl_s("{gateway}:limits:call:long") <= 1000


async def test_a_day_has_so_many_calls_and_the_next_day_as_many_again(redis: RedisServer) -> None:
    limits = RouteLimits(Caps(calls_per_day=2))
    async with opened(calm(redis)) as desk:
        for call in ("a", "b"):
            assert (await desk.ask(limits, call)).admitted
            desk.limits.release(call, 1)
        assert await desk.ask(limits) == RouteAdmission(admitted=False, exceeded="calls_per_day 2")
        assert (await desk.ask(limits, day="2026-03-02")).admitted
        assert (await desk.ask(limits, route="support")).admitted
    assert hash_of(redis)["calls"] == 2
    assert 2 * 86400 - 60 < redis.ttl_s(COUNTED) <= 2 * 86400


async def test_each_caller_has_limits_of_his_own(redis: RedisServer) -> None:
    limits = RouteLimits(Caps(max_calls=3), Caps(max_calls=1, calls_per_day=2))
    async with opened(calm(redis)) as desk:
        assert (await desk.ask(limits, "a", caller="+1")).admitted
        assert (await desk.ask(limits, caller="+1")).exceeded == "per_caller.max_calls 1"
        assert (await desk.ask(limits, "b", caller="+2")).admitted
        desk.limits.release("a", 1)
        await until(lambda: places(redis) == {"b"})
        assert (await desk.ask(limits, "c", caller="+1")).admitted
        desk.limits.release("c", 1)
        await until(lambda: places(redis) == {"b"})
        assert (await desk.ask(limits, caller="+1")).exceeded == "per_caller.calls_per_day 2"
        assert (await desk.ask(limits, caller="+3")).admitted
        assert (await desk.ask(limits, caller="")).admitted
        assert (await desk.ask(limits, caller="+4")).exceeded == "max_calls 3"


async def test_a_refused_call_books_nothing(redis: RedisServer) -> None:
    limits = RouteLimits(Caps(max_calls=5, calls_per_day=5), Caps(calls_per_day=0))
    async with opened(calm(redis)) as desk:
        assert (await desk.ask(limits, "a")).exceeded == "per_caller.calls_per_day 0"
        desk.limits.release("a", 60)
        await asyncio.sleep(0.5)
        assert not [key for key in sorted(redis.keys()) if ":limits:" in key]


async def test_the_minutes_of_a_day_run_out(redis: RedisServer) -> None:
    limits = RouteLimits(Caps(minutes_per_day=10), Caps(minutes_per_day=2.5))
    async with opened(calm(redis)) as desk:
        assert await desk.ask(limits, "a", caller="+1") == RouteAdmission(admitted=True, minutes_left=2.5)
        desk.limits.release("a", 90)
        await until(lambda: not places(redis))
        again = await desk.ask(limits, "b", caller="+1")
        assert again.minutes_left == pytest.approx(1)
        desk.limits.release("b", 60)
        await until(lambda: not places(redis))
        refused = await desk.ask(limits, caller="+1")
        assert refused == RouteAdmission(admitted=False, exceeded="per_caller.minutes_per_day 2.5")
        assert (await desk.ask(limits, "c", caller="+2")).minutes_left == 2.5
        desk.limits.release("c", 450)
        await until(lambda: not places(redis))
        assert (await desk.ask(limits, caller="+3")).exceeded == "minutes_per_day 10"
    assert hash_of(redis) == {"calls": 3, "ms": 600_000}


async def test_a_call_released_twice_counts_once(redis: RedisServer) -> None:
    async with opened(calm(redis)) as desk:
        assert (await desk.ask(RouteLimits(Caps(max_calls=1)), "a")).admitted
        for seconds in (30, 40, 50):
            desk.limits.release("a", seconds)
        desk.limits.release("never seen", 10)
        await until(lambda: not places(redis))
        desk.limits.release("a", 60)
        await asyncio.sleep(0.3)
    assert hash_of(redis) == {"calls": 1, "ms": 30_000}


async def test_a_call_asked_for_again_keeps_its_place_and_counts_once(redis: RedisServer) -> None:
    limits = RouteLimits(Caps(max_calls=1, calls_per_day=1, minutes_per_day=3))
    async with opened(calm(redis)) as desk:
        first = await desk.ask(limits, "a")
        again = await desk.ask(limits, "a")
        assert again.admitted
        assert first.minutes_left == 3
        assert hash_of(redis)["calls"] == 1
        assert places(redis) == {"a"}


async def test_heartbeats_keep_the_place_and_count_the_time_so_far(redis: RedisServer) -> None:
    limits = RouteLimits(Caps(max_calls=1))
    async with opened(calm(redis, heartbeat_s=0.1, expiry_s=1.5)) as desk:
        began = time.monotonic()
        assert (await desk.ask(limits, "a")).admitted
        await asyncio.sleep(2.5)
        assert places(redis) == {"a"}
        assert 1000 < hash_of(redis)["ms"] <= 1000 * (time.monotonic() - began) + 50
        assert not (await desk.ask(limits)).admitted
        desk.limits.release("a", 0.25)
        await until(lambda: not places(redis))
        assert hash_of(redis) == {"calls": 1, "ms": 250}


async def test_the_places_of_a_dead_worker_are_free_again_and_its_minutes_are_kept(redis: RedisServer) -> None:
    limits = RouteLimits(Caps(max_calls=2))
    settings = calm(redis, heartbeat_s=0.2, expiry_s=1.5)
    async with opened(settings, "lives") as other:
        async with opened(settings, "dies") as one:
            assert (await one.ask(limits, "a")).admitted
            assert (await other.ask(limits, "b")).admitted
            await until(lambda: hash_of(redis).get("ms", 0) > 600)
            await die(one)
        counted = hash_of(redis)["ms"]
        assert (await other.ask(limits)).exceeded == "max_calls 2"
        end = time.monotonic() + 40
        while not (await other.ask(limits, "c")).admitted:
            assert time.monotonic() < end
            await asyncio.sleep(0.1)
        assert places(redis) == {"b", "c"}
        assert hash_of(redis)["ms"] >= counted


async def test_a_worker_that_stops_in_order_leaves_no_place_taken(redis: RedisServer) -> None:
    async with opened(calm(redis)) as desk:
        assert (await desk.ask(RouteLimits(Caps(max_calls=1)), "a")).admitted
        assert (await desk.ask(RouteLimits(Caps(max_calls=2)), "b")).admitted
        desk.limits.release("b", 5)
    assert not places(redis)
    assert hash_of(redis)["calls"] == 2
    assert hash_of(redis)["ms"] >= 5000


async def test_calls_are_admitted_while_redis_hangs_and_counted_when_it_is_back(redis: RedisServer) -> None:
    limits = RouteLimits(Caps(max_calls=1, minutes_per_day=30))
    with structlog.testing.capture_logs() as logs:
        async with opened(calm(redis), admit_limit_s=ADMIT_LIMIT_S) as desk:
            redis.pause()
            try:
                began = time.monotonic()
                answers = await asyncio.gather(*(desk.ask(limits, f"call-{i}") for i in range(40)))
                took_s = time.monotonic() - began
            finally:
                redis.resume()
            assert {(answer.admitted, answer.minutes_left) for answer in answers} == {(True, 30)}
            assert 0.25 < took_s < 0.5 * 40 * ADMIT_LIMIT_S, "they wait side by side"
            desk.limits.release("call-0", 7)
            await until(lambda: len(places(redis)) == 39)
            await until(lambda: hash_of(redis)["calls"] == 40)
            assert (await desk.ask(limits)).exceeded == "max_calls 1"
    told = [entry["event"] for entry in logs if "limits" in entry["event"]]
    assert told == ["limits of routes are not counted; calls are admitted", "limits of routes are counted again"]


async def test_what_is_released_while_redis_is_away_is_counted_later(redis: RedisServer) -> None:
    async with opened(calm(redis, backlog=100)) as desk:
        redis.stop()
        for number in range(120):
            assert (await desk.ask(RouteLimits(Caps(calls_per_day=1)), f"call-{number}")).admitted
            desk.limits.release(f"call-{number}", 1)
        await asyncio.sleep(0.5)
        assert desk.limits.dropped == 20
        redis.start()
        await until(lambda: hash_of(redis) == {"calls": 100, "ms": 100_000})


async def test_a_caller_who_gives_up_while_he_waits_is_released(redis: RedisServer) -> None:
    limits = RouteLimits(Caps(max_calls=1))
    async with opened(calm(redis)) as desk:
        redis.pause()
        asked = asyncio.create_task(desk.ask(limits, "a"))
        await asyncio.sleep(0.05)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        redis.resume()
        await until(lambda: hash_of(redis, "{gateway}:limits:call:a").get("ended") == 1)
        assert not places(redis)
        assert (await desk.ask(limits, "b")).admitted


@pytest.mark.parametrize(
    "caller",
    ["", "x" * 100_000, "+1:live", "a b\r\nFLUSHALL\r\n", "\x00\udcff\ud800", "*", "{tag}", "1' or '1'='1", "電話☎"],
    ids=["none", "long", "colon", "lines", "broken", "star", "tag", "quote", "wide"],
)
async def test_a_caller_s_number_may_be_any_text(redis: RedisServer, caller: str) -> None:
    limits = RouteLimits(per_caller=Caps(max_calls=1))
    route = f"odd:{caller}"[:64]
    async with opened(calm(redis)) as desk:
        assert (await desk.ask(limits, "a", caller=caller, route=route)).admitted
        assert not (await desk.ask(limits, caller=caller, route=route)).admitted
        assert (await desk.ask(limits, "b", caller=f"{caller}.", route=route)).admitted
        keys = [key for key in sorted(redis.keys()) if ":limits:" in key]
        assert len(keys) == 6
        assert all(len(key) < 1000 and key.isascii() and key.isprintable() and " " not in key for key in keys)


async def test_a_route_without_limits_costs_no_round_trip(redis: RedisServer) -> None:
    async with opened(calm(redis, heartbeat_s=60, expiry_s=200)) as desk:
        await asyncio.sleep(0.1)
        before = commands(redis)
        for number in range(20):
            assert await desk.ask(RouteLimits(), f"call-{number}") == RouteAdmission(admitted=True)
            desk.limits.release(f"call-{number}", 9)
        await asyncio.sleep(0.1)
        assert commands(redis) == before
        assert (await desk.ask(RouteLimits(Caps(max_calls=1)))).admitted
        assert commands(redis) > before


async def test_a_key_of_another_kind_is_told_and_does_no_harm_to_other_routes(redis: RedisServer) -> None:
    limits = RouteLimits(Caps(max_calls=1))
    with redis.client() as client:
        client.set(LIVE, "not ours")
    with structlog.testing.capture_logs() as logs:
        async with opened(calm(redis)) as desk:
            assert (await desk.ask(limits, "a")).admitted
            assert (await desk.ask(limits, "b", route="support")).admitted
            desk.limits.release("a", 2)
            desk.limits.release("b", 3)
            await until(lambda: hash_of(redis, f"{{gateway}}:limits:support:day:{DAY}").get("ms") == 3000)
    assert any("WRONGTYPE" in str(entry) for entry in logs)


async def test_many_calls_are_renewed_in_few_round_trips(redis: RedisServer) -> None:
    limits = RouteLimits(Caps(max_calls=600), Caps(max_calls=600))
    async with AsyncExitStack() as stack:
        desk = await stack.enter_async_context(opened(calm(redis, heartbeat_s=0.5, expiry_s=2.5)))
        for number in range(600):
            assert (await desk.ask(limits, f"call-{number}", caller=f"+{number % 7}")).admitted
        assert (await desk.ask(limits)).exceeded == "max_calls 600"
        await asyncio.sleep(3)
        before = commands(redis)
        await asyncio.sleep(1)
        assert len(places(redis)) == 600
        assert commands(redis) - before < 30


# Money

MONEY = RouteLimits(Caps(usd_per_day=1.0), reserve_usd=0.25)


class Purse:
    """What a call heard of what it may spend."""

    def __init__(self) -> None:
        self.told: list[tuple[float, str]] = []

    def __call__(self, usd: float, limit: str) -> None:
        self.told.append((round(usd, 6), limit))

    async def hears(self, usd: float, limit: str) -> None:
        await until(lambda: self.told[-1:] == [(usd, limit)])


async def test_of_many_calls_at_once_each_books_its_own_part_of_the_days_money(redis: RedisServer) -> None:
    async with opened(calm(redis), "w1") as one, opened(calm(redis), "w2") as two:
        ids = [new_call_id(time.time_ns()) for _ in range(40)]
        desks = [one, two] * 20
        answers = await asyncio.gather(*(desk.ask(MONEY, call) for desk, call in zip(desks, ids, strict=True)))
        assert sum(answer.admitted for answer in answers) == 4
        assert {answer.exceeded for answer in answers if not answer.admitted} == {"usd_per_day 1"}
        assert hash_of(redis)["micro"] == 1_000_000
        for desk, call in zip(desks, ids, strict=True):
            desk.limits.spend(call, 0.1, Purse())
            desk.limits.release(call, 1)
        await until(lambda: not places(redis))
        await until(lambda: hash_of(redis)["micro"] == 400_000)
        assert (await one.ask(MONEY)).admitted


async def test_a_call_books_more_when_half_of_it_is_spent_and_hears_when_there_is_no_more(redis: RedisServer) -> None:
    purse = Purse()
    async with opened(calm(redis)) as desk:
        await desk.ask(MONEY, "a")
        desk.limits.spend("a", 0.12, purse)
        await asyncio.sleep(0.3)
        assert purse.told == []
        for spent, told in ((0.2, (0.45, "")), (0.5, (0.75, "")), (0.9, (1.0, "usd_per_day 1"))):
            desk.limits.spend("a", spent, purse)
            await purse.hears(*told)
        assert (await desk.ask(MONEY)).exceeded == "usd_per_day 1"
        desk.limits.spend("a", 1.2, purse)
        await until(lambda: purse.told[-1] == (1.2, "usd_per_day 1"))
        desk.limits.release("a", 60)
        await until(lambda: not places(redis))
    assert hash_of(redis) == {"calls": 1, "ms": 60_000, "micro": 1_200_000}


async def test_what_another_call_gives_back_can_be_booked(redis: RedisServer) -> None:
    purse = Purse()
    async with opened(calm(redis)) as desk:
        for call in ("a", "b", "c", "d"):
            assert (await desk.ask(MONEY, call)).admitted
        desk.limits.spend("a", 0.2, purse)
        await until(lambda: purse.told == [(0.25, "usd_per_day 1")])
        desk.limits.release("b", 1)
        await until(lambda: places(redis) == {"a", "c", "d"})
        desk.limits.spend("a", 0.21, purse)
        await until(lambda: purse.told[-1] == (0.46, ""))


async def test_money_of_a_caller_and_of_all_calls_is_counted_for_themselves(redis: RedisServer) -> None:
    limits = RouteLimits(per_caller=Caps(usd_per_day=0.3), gateway=Caps(usd_per_day=0.5), reserve_usd=0.25)
    purse = Purse()
    async with opened(calm(redis)) as desk:
        assert (await desk.ask(limits, "a", caller="+1")).admitted
        desk.limits.spend("a", 0.2, purse)
        await until(lambda: purse.told == [(0.3, "per_caller.usd_per_day 0.3")])
        assert (await desk.ask(limits, caller="+1")).exceeded == "per_caller.usd_per_day 0.3"
        assert (await desk.ask(limits, "b", caller="+2", route="support")).admitted
        desk.limits.spend("b", 0.2, purse)
        await until(lambda: purse.told[-1] == (0.2, "cost.usd_per_day 0.5"))
        assert (await desk.ask(limits, caller="+3", route="another")).exceeded == "cost.usd_per_day 0.5"
        assert (await desk.ask(limits, caller="+3", day="2026-03-02")).admitted


async def test_a_route_without_a_limit_of_money_shows_what_it_cost_and_books_nothing(redis: RedisServer) -> None:
    purse = Purse()
    async with opened(calm(redis)) as desk:
        assert (await desk.ask(RouteLimits(Caps(max_calls=3)), "a")).admitted
        desk.limits.spend("a", 7.5, purse)
        desk.limits.release("a", 2)
        await until(lambda: not places(redis))
    assert hash_of(redis) == {"calls": 1, "ms": 2000, "micro": 7_500_000}
    assert purse.told == []


async def test_what_was_spent_while_redis_was_away_is_counted_when_it_is_back(redis: RedisServer) -> None:
    purse = Purse()
    async with opened(calm(redis), admit_limit_s=ADMIT_LIMIT_S) as desk:
        redis.stop()
        assert (await desk.ask(MONEY, "a")).admitted
        desk.limits.spend("a", 0.7, purse)
        await asyncio.sleep(0.5)
        assert purse.told == []
        redis.start()
        await until(lambda: purse.told == [(0.95, "")])
        assert hash_of(redis)["micro"] == 950_000


async def test_what_a_dead_worker_had_booked_stays_counted_until_its_calls_are_ended(redis: RedisServer) -> None:
    async with opened(redis.settings()) as desk, opened(redis.settings(), "w2") as other:
        await desk.ask(MONEY, "a")
        desk.limits.spend("a", 0.1, Purse())
        await die(desk)
        await until(lambda: not places(redis))
        assert hash_of(redis)["micro"] == 250_000
        assert (await other.ask(MONEY)).admitted


async def test_calls_that_spend_side_by_side_stay_within_the_day_but_for_one_answer_each(redis: RedisServer) -> None:
    answer_usd, cap = 0.03, 1.0
    spent: dict[str, float] = {}

    def more(purse: Purse, heard: int) -> bool:
        return len(purse.told) > heard

    async def talk(desk: Desk) -> None:
        """Speak, as a call does: each answer costs; once nothing more can be booked, it ends at what it booked."""
        call = new_call_id(time.time_ns())
        if not (await desk.ask(MONEY, call)).admitted:
            return
        spent[call], purse = 0.0, Purse()
        while not (purse.told and purse.told[-1][1] and spent[call] >= purse.told[-1][0]):
            spent[call] += answer_usd
            heard = len(purse.told)
            desk.limits.spend(call, spent[call], purse)
            if desk.limits._live[call].asks:
                await until(partial(more, purse, heard))
        desk.limits.release(call, 1)

    async with opened(calm(redis), "w1") as one, opened(calm(redis), "w2") as two:
        await asyncio.gather(*(talk(desk) for desk in [one, two] * 10))
        await until(lambda: not places(redis))
        counted = hash_of(redis)["micro"] / 1e6
    assert counted == pytest.approx(sum(spent.values()))
    print(f"{len(spent)} calls spent {counted:.2f} of {cap} US dollars")
    assert cap <= counted + 0.001
    assert counted <= cap + len(spent) * answer_usd
