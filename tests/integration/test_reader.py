"""What is read of calls: live ones, events as they happen, CDRs page by page, totals of days."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, date, datetime, timedelta

import pytest

from gateway.errors import StoreError
from gateway.ids import CallId
from gateway.settings.sections import RedisSettings
from gateway.store import reader as module
from gateway.store.calls import RedisCallStore
from gateway.store.lua import _CALLS
from gateway.store.reader import CallReader, CdrQuery, DayTotals, Page, Totals, day_totals
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer(tcp=True)
    yield server
    server.close()


@asynccontextmanager
async def writing(redis: RedisServer, worker: str = "w1") -> AsyncIterator[RedisCallStore]:
    store = RedisCallStore(redis.settings(), worker)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def end(store: RedisCallStore, call: str, **fields: str | float) -> None:
    store.note(CallId(call), "ended", state="ended", **fields)
    await until(lambda: not store.backlog)


def ids(page: Page) -> list[str]:
    return [record.call_id for record in page.records]


async def test_live_calls_are_found_by_worker_trunk_and_route_as_these_change(redis: RedisServer) -> None:
    async with writing(redis) as one, writing(redis, "w2") as two, redis.reader() as reader:
        one.note(CallId("a"), "routing", state="routing", created_at=1.0)
        one.note(CallId("b"), "active", state="active", route="sales", trunk="main", created_at=2.0)
        two.note(CallId("c"), "active", state="active", route="sales", trunk="a: trunk", created_at=3.0)
        await until(lambda: redis.live() == {"a", "b", "c"})

        async def found(**by: str) -> list[str]:
            return [record.call_id for record in await reader.live_calls(**by)]

        assert await found() == ["a", "b", "c"]
        assert await found(route="sales") == ["b", "c"]
        assert await found(worker="w1") == ["a", "b"]
        assert await found(worker="w2", trunk="a: trunk", route="sales") == ["c"]
        assert await found(worker="w1", trunk="a: trunk") == []
        one.note(CallId("a"), "routed", route="sales")
        one.note(CallId("b"), "routed", route="other")
        await until(lambda: not one.backlog)
        assert await found(route="sales") == ["a", "c"]
        for store, call in ((one, "a"), (one, "b"), (two, "c")):
            await end(store, call)
        assert not [key for key in sorted(redis.keys()) if ":live" in key]


async def test_a_foreign_hash_among_the_live_calls_is_passed_over(redis: RedisServer) -> None:
    with redis.client() as client:
        client.zadd("{gateway}:calls:live", {"strange": 1e14, "newer": 1e14, "gone": 1e14, "lost": 1})
        client.hset("{gateway}:call:strange", mapping={"setup_ms": "soon"})
        client.hset("{gateway}:call:newer", mapping={"call_id": "newer", "a_field_of_tomorrow": "1"})
        client.hset("{gateway}:call:lost", mapping={"call_id": "lost"})
    async with redis.reader() as reader:
        assert [record.call_id for record in await reader.live_calls()] == ["newer"]
        assert await reader.call("none") is None


async def test_many_live_calls_are_read(redis: RedisServer) -> None:
    async with writing(redis) as store, redis.reader() as reader:
        for number in range(300):
            store.note(CallId(f"c{number:03}"), "active", state="active", created_at=float(number))
        await until(lambda: len(redis.live()) == 300)
        assert [record.call_id for record in await reader.live_calls()] == [f"c{number:03}" for number in range(300)]


async def test_the_newest_events_are_read_oldest_first(redis: RedisServer) -> None:
    async with writing(redis) as store, redis.reader() as reader:
        for number in range(5):
            store.note(CallId("a"), f"n{number}", turn=number)
        await until(lambda: not store.backlog)
        events = await reader.events(newest=3)
    assert [event["event"] for event in events] == ["n2", "n3", "n4"]
    assert events[0].keys() == {"call_id", "event", "at", "worker", "turn"}


async def test_the_events_of_a_call_are_its_own_and_only_the_newest(redis: RedisServer) -> None:
    settings = redis.settings(call_stream_length=20)
    store = RedisCallStore(settings, "w1")
    await store.open()
    for number in range(300):
        store.note(CallId("a"), f"n{number}", turn=number)
        store.note(CallId("b"), "other")
    await store.close()
    async with redis.reader() as reader:
        entries = await reader.events_of("a")
        assert 20 <= len(entries) < 200
        assert entries[-1].fields.keys() == {"call_id", "event", "at", "turn"}
        assert {entry.fields["call_id"] for entry in entries} == {"a"}
        assert await reader.events_of("a", entries[-3].id) == entries[-2:]
        assert await reader.events_of("none") == []
        for wrong in ("", "x", "1-2-3", "1-18446744073709551616", "²", "-"):
            with pytest.raises(ValueError, match="should be digits-digits"):
                await reader.events_of("a", wrong)


async def test_events_of_all_calls_are_followed_without_polling(redis: RedisServer) -> None:
    async with writing(redis) as store, redis.reader() as reader:
        store.note(CallId("a"), "before")
        await until(lambda: not store.backlog)
        async with aclosing(reader.follow_events(None)) as following:
            coming = asyncio.ensure_future(anext(following))
            with redis.client() as client:
                await until(lambda: client.info("clients")["blocked_clients"] == 1)
                reads = client.info("commandstats")["cmdstat_xread"]["calls"]
                await asyncio.sleep(1)
                assert client.info("commandstats")["cmdstat_xread"]["calls"] == reads
            store.note(CallId("b"), "after")
            assert (await coming).fields["event"] == "after"
            coming = asyncio.ensure_future(anext(following))
            await asyncio.sleep(0.1)
            redis.stop()
            with pytest.raises(StoreError, match="does not answer"):
                await coming
            redis.start()


async def test_to_follow_a_call_that_is_over_or_unknown_ends(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_S", 0.2)
    async with writing(redis) as store, redis.reader() as reader:
        store.note(CallId("a"), "routing", state="routing")
        await end(store, "a")
        assert [entry.fields["event"] async for entry in reader.follow_events("a", "0")] == ["routing", "ended"]
        last = (await reader.events_of("a"))[-1].id
        assert [entry async for entry in reader.follow_events("a", last)] == []
        assert [entry async for entry in reader.follow_events("none", "0")] == []


async def test_a_consumer_group_handles_each_event_once_and_takes_over_from_one_that_died(redis: RedisServer) -> None:
    """As in docs/redis.md."""
    group = ("{gateway}:events", "crm")
    with redis.client() as client:
        client.xgroup_create(*group, id="$", mkstream=True)
        async with writing(redis) as store:
            for number in range(10):
                store.note(CallId("a"), f"n{number}")
        read = {name: client.xreadgroup("crm", name, {"{gateway}:events": ">"}, count=5) for name in ("one", "two")}
        told = {name: [fields["event"] for _, fields in entries] for name, [[_, entries]] in read.items()}
        assert told == {"one": [f"n{n}" for n in range(5)], "two": [f"n{n}" for n in range(5, 10)]}
        client.xack(*group, *(entry for entry, _ in read["two"][0][1]))
        taken = client.xautoclaim(*group, "two", min_idle_time=0, start_id="0")[1]  # one has died
        assert [fields["event"] for _, fields in taken] == told["one"]


async def test_cdrs_are_read_newest_first_page_by_page(redis: RedisServer) -> None:
    async with writing(redis) as store, redis.reader() as reader:
        for number in range(7):
            await end(store, f"c{number}", route="sales" if number % 2 else "support", caller=f"+{number}")
        pages, cursor = [], ""
        while True:
            page = await reader.cdrs(CdrQuery(), cursor, limit=3)
            pages.append(ids(page))
            if page.next_cursor is None:
                break
            cursor = page.next_cursor
        assert pages == [["c6", "c5", "c4"], ["c3", "c2", "c1"], ["c0"]]
        assert ids(await reader.cdrs(CdrQuery(route="sales"))) == ["c5", "c3", "c1"]
        assert ids(await reader.cdrs(CdrQuery(route="sales", caller="+3"))) == ["c3"]
        assert ids(await reader.cdrs(CdrQuery(route="support", caller="+3"))) == []
        assert ids(await reader.cdrs(CdrQuery(agent="nobody"))) == []


async def test_cdrs_are_found_by_when_the_call_ended_on_the_clock_of_redis(redis: RedisServer) -> None:
    async with redis.reader() as reader:
        with redis.client() as client:
            for ms in (1000, 2000, 2999, 3000):
                client.xadd("{gateway}:cdrs", {"call_id": f"c{ms}"}, id=f"{ms}-1")
        assert ids(await reader.cdrs(CdrQuery(since=2, until=3))) == ["c2999", "c2000"]
        assert ids(await reader.cdrs(CdrQuery(since=2.0001))) == ["c3000", "c2999"]
        assert ids(await reader.cdrs(CdrQuery(until=2.999))) == ["c2000", "c1000"]
        page = await reader.cdrs(CdrQuery(since=1.5, until=3), limit=1)
        assert ids(page) == ["c2999"]
        assert ids(await reader.cdrs(CdrQuery(since=1.5, until=3), page.next_cursor or "")) == ["c2000"]


async def test_a_request_for_cdrs_looks_at_a_bounded_number_and_says_where_it_stopped(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SCAN_AT_ONCE", 10)
    monkeypatch.setattr(module, "SCAN_MOST", 30)
    with redis.client() as client:
        for number in range(100):
            route = "rare" if number in (5, 95) else "common"
            client.xadd("{gateway}:cdrs", {"call_id": f"c{number}", "route": route}, id=f"{number + 1}-0")
    async with redis.reader() as reader:
        pages, cursor = [], ""
        while True:
            page = await reader.cdrs(CdrQuery(route="rare"), cursor)
            pages.append(ids(page))
            if page.next_cursor is None:
                break
            cursor = page.next_cursor
    assert pages == [["c95"], [], [], ["c5"]]


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), 1e12])
def test_times_that_cannot_be_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="since should be a time in Unix seconds"):
        CdrQuery(since=wrong)


async def test_queries_that_cannot_be_meant_are_refused(redis: RedisServer) -> None:
    with pytest.raises(ValueError, match="until 1 should be later than since 2"):
        CdrQuery(since=2, until=1)
    with pytest.raises(ValueError, match="caller is longer than 256 characters"):
        CdrQuery(caller="x" * 257)
    async with redis.reader() as reader:
        for limit in (0, -1, 501):
            with pytest.raises(ValueError, match="limit should be between 1 and 500"):
                await reader.cdrs(CdrQuery(), limit=limit)
        for cursor in ("x", "+", "1-99999999999999999999", "(1-1"):
            with pytest.raises(ValueError, match="cursor should be digits-digits"):
                await reader.cdrs(CdrQuery(), cursor)
        for until_day in (date(2026, 1, 1), date(2027, 3, 1)):
            with pytest.raises(ValueError, match="totals of 1 to 400 days"):
                await reader.totals(date(2026, 1, 2), until_day)


async def test_the_totals_of_days_are_added_up_and_days_without_calls_are_empty(redis: RedisServer) -> None:
    today = datetime.now(UTC).date()
    async with writing(redis) as store, redis.reader() as reader:
        await end(store, "a", route="a:b", end_reason="completed", answered_at=10.0, ended_at=72.5, cost_usd=0.125)
        await end(store, "b", route="a:b", end_reason="busy", ended_at=72.5)
        await end(store, "c", end_reason="completed", answered_at=10.0, ended_at=9.0)  # a clock that was set back
        if datetime.now(UTC).date() == today:
            found = await reader.totals(today - timedelta(days=1), today)
            assert found == [
                DayTotals(today - timedelta(days=1)),
                DayTotals(
                    today,
                    Totals(3, 2, 62.5, 0.125),
                    {"a:b": Totals(2, 1, 62.5, 0.125)},
                    {"busy": 1, "completed": 2},
                ),
            ]
    assert 399 * 86400 < redis.ttl_s(f"{{gateway}}:totals:{today}") <= 400 * 86400


def test_odd_fields_of_a_days_totals_are_passed_over() -> None:
    flat = {"calls": "2", "route:sales:calls": "1", "route:x": "3", "end_reason:busy": "-1", "note": "mine"}
    told = day_totals(date(2026, 1, 1), flat)
    assert (told.all.calls, told.by_route["sales"].calls, told.by_end_reason) == (2, 1, {"busy": -1})


def test_redis_counts_days_as_the_calendar_does(redis: RedisServer) -> None:
    script = _CALLS + "local days = {} for i = 8, #ARGV do days[#days + 1] = day_of(tonumber(ARGV[i])) end return days"
    days = [date(1970, 1, 1) + timedelta(days=number) for number in (*range(19000, 23000, 7), 11016, 11017, 47540, 0)]
    edges = [
        datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000 + more
        for day in days
        for more in (0, 86_399_999)
    ]
    with redis.client() as client:
        told = client.eval(script, 0, *["x"] * 7, *(int(ms) for ms in edges))
    assert told == [day.isoformat() for day in days for _ in range(2)]


async def test_a_paused_redis_is_an_error_and_not_a_wait(redis: RedisServer) -> None:
    async with redis.reader() as reader:
        assert await reader.live_calls() == []
        redis.pause()
        for asked in (reader.live_calls(), reader.cdrs(CdrQuery()), reader.totals(date(2026, 1, 1), date(2026, 1, 2))):
            with pytest.raises(StoreError, match="does not answer"):
                await asked
        redis.resume()


def test_a_reader_needs_a_url() -> None:
    with pytest.raises(ValueError, match="start a private server"):
        CallReader(RedisSettings())
