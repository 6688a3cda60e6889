from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from gateway.call.ports import SessionStore
from gateway.errors import StoreError
from gateway.ids import CallId, new_call_id
from gateway.settings.sections import RedisSettings
from gateway.store.calls import RedisCallStore
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def durable() -> Iterator[RedisServer]:
    """On TCP, and keeps its data when it is stopped and started."""
    server = RedisServer(tcp=True, keep=True)
    yield server
    server.close()


@asynccontextmanager
async def opened(settings: RedisSettings, worker: str = "w1") -> AsyncIterator[RedisCallStore]:
    store = RedisCallStore(settings, worker)
    await store.open()
    try:
        yield store
    finally:
        await store.close(limit_s=0.5)


def test_the_store_is_what_a_call_asks_for() -> None:
    wanted: type[SessionStore] = RedisCallStore
    assert wanted is RedisCallStore


async def test_a_call_is_live_until_it_ends_and_is_kept_for_a_while_after(redis: RedisServer) -> None:
    call = new_call_id(time.time_ns())
    async with opened(redis.settings(retention_s=60)) as store:
        began = time.time()
        store.note(call, "routing", state="routing", from_uri="sip:a@x", to_uri="sip:1000@y", created_at=10.5)
        store.note(call, "active", state="active", codec="PCMU/8000", setup_ms=420, caller_mood="good")
        await until(lambda: redis.record(call).get("state") == "active")
        assert redis.live() == {call}
        assert 50 < redis.ttl_s(f"{{gateway}}:call:{call}") <= 60
        async with redis.reader() as reader:
            (record,) = await reader.live_calls()
        assert (record.call_id, record.worker, record.setup_ms, record.created_at) == (call, "w1", 420, 10.5)
        assert record.heartbeat_at is not None
        assert began <= record.heartbeat_at <= time.time()

        store.note(call, "ended", state="ended", end_reason="caller_hung_up", ended_at=12.0)
        await until(lambda: not redis.live())
    kept = redis.record(call)
    assert (kept["state"], kept["end_reason"], kept["from_uri"]) == ("ended", "caller_hung_up", "sip:a@x")
    assert "heartbeat_at" not in kept
    assert 50 < redis.ttl_s(f"{{gateway}}:call:{call}") <= 60
    assert "caller_mood" not in redis.record(call)
    assert [event["event"] for event in redis.events()] == ["routing", "active", "ended"]
    assert redis.events()[1]["caller_mood"] == "good"
    own = f"{{gateway}}:call:{call}"
    day = datetime.now(UTC).date().isoformat()
    of_all = {f"{{gateway}}:{name}" for name in ("events", "cdrs", f"totals:{day}", "metrics")}
    assert redis.keys() == {own, f"{own}:events", *of_all}
    assert 50 < redis.ttl_s(f"{own}:events") <= 60


async def test_a_heartbeat_keeps_a_silent_call_alive(redis: RedisServer) -> None:
    call = new_call_id(time.time_ns())
    async with opened(redis.settings(heartbeat_s=0.1, expiry_s=0.4)) as store:
        store.note(call, "routing", state="routing")
        await until(lambda: redis.record(call).get("state"))
        first = float(redis.record(call)["heartbeat_at"])
        await asyncio.sleep(1)
        assert float(redis.record(call)["heartbeat_at"]) > first + 0.5


async def test_a_call_that_nobody_answered_is_kept_briefly_unless_we_placed_it(redis: RedisServer) -> None:
    refused, placed, answered = new_call_id(time.time_ns()), new_call_id(time.time_ns()), new_call_id(time.time_ns())
    async with opened(redis.settings(unanswered_retention_s=100, retention_s=1000)) as store:
        store.note(refused, "refused", state="ended", direction="inbound")
        store.note(placed, "ended", state="ended", direction="outbound")
        store.note(answered, "ended", state="ended", direction="inbound", answered_at=3.5)
    assert 50 < redis.ttl_s(f"{{gateway}}:call:{refused}") <= 100
    assert 500 < redis.ttl_s(f"{{gateway}}:call:{placed}") <= 1000
    assert 500 < redis.ttl_s(f"{{gateway}}:call:{answered}") <= 1000


async def test_counts_are_added_up_while_redis_is_away_and_written_once(durable: RedisServer) -> None:
    async with opened(durable.settings()) as store:
        store.count("unanswered", "no_route 404")
        (key,) = await keys_of_counts(durable)
        durable.stop()
        for _ in range(2000):
            store.count("unanswered", "no_route 404")
        store.count("unanswered", "rejected 603")
        await until(lambda: store.away)
        assert store.backlog < 10
        durable.start()
        await until(lambda: not store.away)
    with durable.client() as client:
        assert client.hgetall(key) == {"no_route 404": "2001", "rejected 603": "1"}
    assert 86_400 < durable.ttl_s(key) <= 2 * 86_400


async def keys_of_counts(server: RedisServer) -> list[str]:
    found: list[str] = []

    def look() -> bool:
        with server.client() as client:
            found[:] = client.keys("*:unanswered:*")
        return bool(found)

    await until(look)
    return found


async def test_redis_stopped_and_started_in_mid_call_gets_every_event_once_and_in_order(durable: RedisServer) -> None:
    call, ended = new_call_id(time.time_ns()), new_call_id(time.time_ns())
    with structlog.testing.capture_logs() as logged:
        async with opened(durable.settings()) as store:
            store.note(call, "routing", state="routing", from_uri="sip:a@x")
            store.note(ended, "routing", state="routing", from_uri="sip:b@x")
            await until(lambda: len(durable.events()) == 2)
            durable.stop()
            for number in range(600):
                store.note(call, f"n{number}", turn=number)
            store.note(call, "active", state="active")
            store.note(ended, "ended", state="ended", end_reason="agent_closed")
            await until(lambda: store.away)
            await asyncio.sleep(1.2)  # longer than the records live
            durable.start()
            await until(lambda: not store.away and not store.backlog)
            assert durable.live() == {call}
            assert durable.record(call)["from_uri"] == "sip:a@x"
            assert durable.record(ended)["from_uri"] == "sip:b@x"
            assert durable.record(ended)["end_reason"] == "agent_closed"
    names = [event["event"] for event in durable.events()]
    assert names == ["routing", "routing", *(f"n{number}" for number in range(600)), "active", "ended"]
    assert [entry["event"] for entry in logged] == ["redis is away; calls go on, writes are kept", "redis is back"]


async def test_an_empty_redis_gets_live_calls_whole_again(redis: RedisServer) -> None:
    call = new_call_id(time.time_ns())
    async with opened(redis.settings()) as store:
        store.note(call, "routing", state="active", from_uri="sip:a@x")
        await until(lambda: redis.live() == {call})
        redis.stop()
        redis.start()  # it kept nothing
        await until(lambda: redis.live() == {call})
        assert redis.record(call)["from_uri"] == "sip:a@x"


async def test_a_paused_redis_blocks_nothing_and_nothing_is_written_twice(durable: RedisServer) -> None:
    call = new_call_id(time.time_ns())
    async with opened(durable.settings(expiry_s=30)) as store:
        store.note(call, "first", state="routing")
        await until(lambda: len(durable.events()) == 1)
        durable.pause()
        longest, end, count = 0.0, time.monotonic() + 3.5, 0
        while time.monotonic() < end:
            before = time.monotonic()
            store.note(call, f"n{count}", turn=count)
            count += 1
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)
        assert store.away
        store.note(call, "ended", state="ended")
        durable.resume()
        await until(lambda: not store.backlog and not store.away)
    assert longest < 2, "one wait for Redis would have lasted until it was resumed"
    assert [event["event"] for event in durable.events()] == ["first", *(f"n{n}" for n in range(count)), "ended"]
    assert durable.record(call)["state"] == "ended"
    assert durable.live() == set()


async def test_reading_from_a_paused_redis_is_an_error_and_not_a_wait(redis: RedisServer) -> None:
    async with opened(redis.settings()) as store:
        redis.pause()
        with pytest.raises(StoreError, match="does not answer"):
            await store.reap_calls_of("w9")
        async with redis.reader() as reader:
            with pytest.raises(StoreError, match="does not answer"):
                await reader.live_calls()
        redis.resume()


async def test_a_full_backlog_drops_the_oldest_events_and_counts_them(durable: RedisServer) -> None:
    call = new_call_id(time.time_ns())
    async with opened(durable.settings(backlog=100)) as store:
        durable.stop()
        for number in range(250):
            store.note(call, f"n{number}", state="active", setup_ms=number)
        await until(lambda: store.away)
        assert (store.backlog, store.dropped) == (100, 150)
        durable.start()
        await until(lambda: not store.backlog and not store.away)
    assert [event["event"] for event in durable.events()] == [f"n{number}" for number in range(150, 250)]
    assert durable.record(call)["setup_ms"] == "249"


async def test_ended_records_waiting_for_redis_are_bounded_too(durable: RedisServer) -> None:
    async with opened(durable.settings(backlog=100)) as store:
        durable.stop()
        for number in range(130):
            store.note(CallId(f"c{number}"), "ended", state="ended")
        assert store.dropped == 60
        durable.start()
        await until(lambda: not store.backlog and not store.away)
        await until(lambda: durable.record("c129"))
    assert durable.record("c29") == {}
    assert durable.record("c30")["state"] == "ended"


async def test_events_that_come_after_the_end_do_not_revive_a_call(redis: RedisServer) -> None:
    call = new_call_id(time.time_ns())
    async with opened(redis.settings(retention_s=60)) as store:
        store.note(call, "ended", state="ended")
        await until(lambda: redis.record(call))
        store.note(call, "late", state="active")
        await until(lambda: len(redis.events()) == 2)
        assert (redis.record(call)["state"], redis.live()) == ("ended", set())


async def test_odd_values_neither_raise_nor_stop_the_writer(redis: RedisServer) -> None:
    call = new_call_id(time.time_ns())
    async with opened(redis.settings()) as store:
        nothing: Any = None
        store.note(call, "odd", from_uri="\udcff\0é", to_uri="x" * 100_000, agent=nothing, event="mine", flag=True)
        store.note(call, "next", state="active")
        await until(lambda: len(redis.events()) == 2)
    odd = redis.events()[0]
    assert (odd["event"], odd["flag"], odd["call_id"]) == ("odd", "true", call)
    assert odd["from_uri"] == "?\0é"
    assert len(redis.record(call)["to_uri"]) == 8192


async def test_a_key_of_a_wrong_type_does_not_block_the_others(redis: RedisServer) -> None:
    bad, good = new_call_id(time.time_ns()), new_call_id(time.time_ns())
    with redis.client() as client:
        client.set("{gateway}:events", "not a stream")
    async with opened(redis.settings()) as store:
        with structlog.testing.capture_logs() as logged:
            store.note(bad, "routing", state="routing")
            store.note(good, "routing", state="routing")
            await until(lambda: redis.record(good))
        assert not store.away
    assert "WRONGTYPE" in str(logged)


async def test_a_redis_without_memory_is_waited_for(redis: RedisServer) -> None:
    call = new_call_id(time.time_ns())
    with redis.client() as client:
        async with opened(redis.settings()) as store:
            client.config_set("maxmemory", 1)
            store.note(call, "routing", state="routing")
            await until(lambda: store.away)
            client.config_set("maxmemory", 0)
            await until(lambda: redis.record(call))
    assert [event["event"] for event in redis.events()] == ["routing"]


async def test_the_stream_stays_near_its_length(redis: RedisServer) -> None:
    call = new_call_id(time.time_ns())
    async with opened(redis.settings(stream_length=100)) as store:
        for number in range(2000):
            store.note(call, f"n{number}")
        await until(lambda: not store.backlog)
        assert 100 <= len(redis.events()) <= 300


async def test_closing_writes_what_is_waiting(redis: RedisServer) -> None:
    call = new_call_id(time.time_ns())
    async with opened(redis.settings()) as store:
        for number in range(1000):
            store.note(call, f"n{number}", state="ended" if number == 999 else "active")
    store.note(call, "too late")
    assert len(redis.events()) == 1000
    assert redis.record(call)["state"] == "ended"


async def test_closing_without_redis_keeps_to_its_limit(redis: RedisServer) -> None:
    store = RedisCallStore(redis.settings(), "w1")
    await store.open()
    redis.stop()
    store.note(new_call_id(time.time_ns()), "routing", state="routing")
    async with asyncio.timeout(40):
        await store.close(limit_s=0.4)
        await store.close(limit_s=0.4)
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_no_redis_at_start_is_an_error_with_a_cure(redis: RedisServer) -> None:
    redis.stop()
    store = RedisCallStore(redis.settings(), "w1")
    with pytest.raises(StoreError, match=r"unix:///.* does not answer .*GATEWAY_REDIS__URL"):
        await store.open()


async def test_a_paused_redis_at_start_is_an_error_within_the_limit(redis: RedisServer) -> None:
    redis.pause()
    with pytest.raises(StoreError, match="does not answer"):
        await RedisCallStore(redis.settings(), "w1").open()
    redis.resume()


@pytest.mark.parametrize("login", ["", ":wrong-secret@"])
async def test_a_refused_login_is_told_without_the_password(login: str) -> None:
    server = RedisServer(tcp=True, password="right-secret")
    try:
        url = server.url.replace(":right-secret@", login)
        with pytest.raises(StoreError, match="refused the login") as caught:
            await RedisCallStore(server.settings(url=url), "w1").open()
        assert "secret" not in str(caught.value)
        async with opened(server.settings()) as store:
            store.note(new_call_id(time.time_ns()), "routing", state="routing")
            await until(lambda: not store.backlog)
    finally:
        server.close()


async def test_only_so_many_ended_calls_are_remembered(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.calls.REMEMBERED", 2)
    async with opened(redis.settings()) as store:
        for number in range(4):
            store.note(CallId(f"c{number}"), "ended", state="ended")
        store.note(CallId("c3"), "late", state="active")
        await until(lambda: len(redis.events()) == 5)
        assert redis.live() == set()


async def test_the_state_of_trunks_is_written_renewed_and_gone_with_the_worker(redis: RedisServer) -> None:
    async with opened(redis.settings(), "w1") as first, opened(redis.settings(), "w2") as second:
        first.note_trunk("main", state="failed", code=403, reason="Forbidden", retry_s=300)
        second.note_trunk("main", state="registered", code=200, expires_s=300)
        await until(lambda: len(redis.keys() & {"{gateway}:trunk:w1:main", "{gateway}:trunk:w2:main"}) == 2)
        first.note_trunk("main", state="registered", code=200, expires_s=300)
        await asyncio.sleep(1.2)  # longer than an expiry: the heartbeat renews it
        async with redis.reader() as reader:
            told = await reader.trunks()
        assert [(state["worker"], state["state"]) for state in told] == [("w1", "registered"), ("w2", "registered")]
        assert "retry_s" not in told[0]
        assert 0 < redis.ttl_s("{gateway}:trunk:w1:main") <= 1
    left = redis.keys()
    assert not [key for key in left if ":trunk" in key]


async def test_trunks_of_a_worker_that_died_are_forgotten(redis: RedisServer) -> None:
    with redis.client() as client:
        client.sadd("{gateway}:trunks", "{gateway}:trunk:dead:main")
    async with redis.reader() as reader:
        assert await reader.trunks() == []
        with redis.client() as client:
            assert client.smembers("{gateway}:trunks") == set()


async def test_trunks_are_written_when_redis_is_back(durable: RedisServer) -> None:
    async with opened(durable.settings()) as store:
        durable.stop()
        store.note_trunk("main", state="registered")
        await until(lambda: store.away)
        durable.start()
        await until(lambda: not store.away)
        async with durable.reader() as reader:
            (told,) = await reader.trunks()
        assert told["state"] == "registered"


async def test_a_store_needs_a_url() -> None:
    with pytest.raises(ValueError, match="start a private server"):
        RedisCallStore(RedisSettings(), "w1")


async def test_of_a_call_of_which_only_counts_are_kept_nothing_is_left_but_totals(redis: RedisServer) -> None:
    call = new_call_id(time.time_ns())
    async with opened(redis.settings()) as store:
        store.keep_live(call, state="active", route="sales", answered_at=10.0)
        await until(lambda: redis.record(call).get("state") == "active")
        assert redis.live() == {call}
        async with redis.reader() as reader:
            (record,) = await reader.live_calls(route="sales")
        assert (record.call_id, record.privacy) == (call, "counts")
        store.keep_live(call, state="ended", end_reason="caller_hung_up", ended_at=12.0)
        store.keep_live(call, sip_trace="too late")
        await until(lambda: redis.record(call).get("state") == "ended")
    assert redis.record(call) == {"call_id": call, "state": "ended", "privacy": "counts", "cdr": "-"}
    assert redis.ttl_s(f"{{gateway}}:call:{call}") <= 600
    day = datetime.now(UTC).date()
    assert redis.keys() == {f"{{gateway}}:call:{call}", f"{{gateway}}:totals:{day}"}
    async with redis.reader() as reader:
        (totals,) = await reader.totals(day, day)
    assert (totals.all.calls, totals.all.talk_s, totals.by_end_reason) == (1, 2.0, {"caller_hung_up": 1})


async def test_a_lost_worker_leaves_no_more_of_such_a_call(redis: RedisServer) -> None:
    call = new_call_id(time.time_ns())
    async with opened(redis.settings(), "lost") as lost:
        lost.keep_live(call, state="active", route="sales")
        await until(lambda: bool(redis.live()))
        async with opened(redis.settings(), "finder") as finder:
            assert await finder.reap_calls_of("lost") == [call]
            assert redis.record(call) == {"call_id": call, "state": "ended", "privacy": "counts", "cdr": "-"}
            assert not redis.keys() & {"{gateway}:events", "{gateway}:cdrs"}
            day = datetime.now(UTC).date()
            async with redis.reader() as reader:
                (totals,) = await reader.totals(day, day)
            assert totals.by_end_reason == {"worker_lost": 1}


async def test_old_entries_of_streams_are_removed_though_no_call_comes(redis: RedisServer) -> None:
    with redis.client() as client:
        for name in ("events", "cdrs", "audit"):
            client.xadd(f"{{gateway}}:{name}", {"call_id": "old"}, id="1000-1")
            client.xadd(f"{{gateway}}:{name}", {"call_id": "new"})
        async with opened(redis.settings()):
            await until(lambda: all(client.xlen(f"{{gateway}}:{name}") == 1 for name in ("events", "cdrs", "audit")))
        for name in ("events", "cdrs", "audit"):
            assert [told["call_id"] for _, told in client.xrange(f"{{gateway}}:{name}")] == ["new"], name
