"""Metrics of several workers, counted in a real Redis and read by promtool and Prometheus."""

from __future__ import annotations

import asyncio
import re
from datetime import date

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from gateway.call.events import Scalar
from gateway.condition import WorkerCondition
from gateway.cost.model_life import ModelLife
from gateway.ids import CallId
from gateway.metrics import definitions as of
from gateway.metrics.fields import added, observed
from gateway.settings.webhooks import WebhooksSettings
from gateway.store.calls import RedisCallStore
from gateway.store.model_lives import write_lives
from gateway.store.registry import RegistryWriter
from gateway.store.webhook_queue import Delivery, WebhookQueue
from gateway.web.metrics import metrics_page
from gateway.worker.call_log import CallLog
from gateway.worker.worker import LoopClock
from tests.rigs.prometheus import promtool
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

Samples = dict[str, float]


async def scrape(redis: RedisServer) -> Samples:
    """Return every sample of a scrape, by its name and labels as Prometheus writes them."""
    async with redis.reader() as reader:
        body = (await metrics_page(reader)).body.decode()
    found = {}
    for family in read_text(body):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def open_store(redis: RedisServer, worker: str, **changes: object) -> RedisCallStore:
    store = RedisCallStore(redis.settings(**changes), worker)
    await store.open()
    return store


def play_call(store: RedisCallStore, name: str) -> None:
    """Let a worker write down one call, with a turn, a tool, tokens and a fault of the service."""
    log, call = CallLog(store, LoopClock()), CallId(name)
    log.note(call, "routing", state="routing", created_at=100.0, direction="inbound")
    log.note(call, "active", state="active", answered_at=101.0, setup_ms=1000, first_audio_ms=250)
    log.note(call, "turn", item_id="i", turn_latency_ms=640)
    log.note(call, "usage", text_in=12, audio_in=100, audio_out=50)
    log.note(call, "tool_finished", name="hours", failed=False, took_ms=80)
    log.note(call, "upstream_error", code="server_error", detail="?")
    log.note(call, "quality", rx_packets=500, rx_lost=3, tx_packets=490, late_frames=2, underruns=1)
    end: dict[str, Scalar] = {
        "state": "ended",
        "ended_at": 161.0,
        "end_reason": "caller_hung_up",
        "fault": "nobody",
        "cost_usd": 0.125,
    }
    log.note(call, "ended", **end)


async def test_the_figures_of_all_workers_are_added_up_and_outlive_them(redis: RedisServer) -> None:
    for worker in ("one", "two", "one"):  # the last is the first, started again
        store = await open_store(redis, worker)
        for number in range(5):
            play_call(store, f"{worker}-{number}")
        await store.close()
    samples = await scrape(redis)
    assert samples["gateway_calls_started_total{direction=inbound}"] == 15
    assert samples["gateway_calls_ended_total{direction=inbound,end_reason=caller_hung_up,fault=nobody}"] == 15
    assert samples["gateway_turn_latency_seconds_bucket{le=0.6}"] == 0
    assert samples["gateway_turn_latency_seconds_bucket{le=0.8}"] == 15
    assert samples["gateway_turn_latency_seconds_count"] == 15
    assert samples["gateway_turn_latency_seconds_sum"] == pytest.approx(15 * 0.64)
    assert samples["gateway_call_talk_seconds_sum{direction=inbound}"] == 15 * 60
    assert samples["gateway_upstream_tokens_total{kind=audio_in}"] == 1500
    assert samples["gateway_cost_dollars_total"] == 15 * 0.125
    assert samples["gateway_rtp_lost_packets_total{way=received}"] == 45
    assert samples["gateway_upstream_errors_total{code=server_error}"] == 15
    assert samples["gateway_redis_up"] == 1


async def test_a_count_is_added_once_although_redis_comes_and_goes(redis: RedisServer) -> None:
    store = await open_store(redis, "one", backlog=100)
    redis.pause()  # whether what is sent now arrives, the worker cannot know
    for _ in range(300):
        store.add(added(of.COST, amount=0.5) | observed(of.TOOL_SECONDS, 0.3))
        await asyncio.sleep(0.005)
    redis.resume()
    await until(lambda: not store.away and not store.backlog, what="all to be written")
    store.add(added(of.COST, amount=0.5))
    await store.close()
    samples = await scrape(redis)
    assert samples["gateway_cost_dollars_total"] == 150.5
    assert samples["gateway_tool_seconds_count"] == 300
    assert samples["gateway_redis_outages_total"] == 1
    assert samples["gateway_redis_away_seconds_total"] > 0


async def test_lag_is_measured_without_keeping_the_writer_awake(redis: RedisServer) -> None:
    store = await open_store(redis, "one", heartbeat_s=0.5, expiry_s=10)
    store.note(CallId("a"), "routing", state="ended", created_at=1.0)
    await until(lambda: not store.backlog)
    with redis.client() as client:
        before = client.info("commandstats")["cmdstat_eval"]["calls"]
        await asyncio.sleep(1.2)
        assert client.info("commandstats")["cmdstat_eval"]["calls"] - before <= 3  # heartbeats
    samples = await scrape(redis)
    await store.close()
    assert samples["gateway_journal_lag_seconds_count"] == 1


async def test_how_things_are_is_read_from_the_states_and_the_registry(redis: RedisServer) -> None:
    store = await open_store(redis, "one")
    other = await open_store(redis, "two")
    async with RegistryWriter(redis.settings()) as registry:
        registry.set_workers([WorkerCondition("one", "ready", 2, 4, ""), WorkerCondition("two", "draining", 1, 4, "")])
        for each in (store, other):
            each.note_trunk("main", state="registered", code=200)
            each.note_dialplan(state="current", version="v1")
        other.note_trunk("spare", state="of tomorrow", code=0)
        other.note_upstream("gpt-realtime", state="away", losses=5)
        other.note_dialplan(state="refused", version="v2")
        lives = [ModelLife("gpt-realtime", date(2027, 1, 2), "service"), ModelLife("gpt-other")]
        await write_lives(store, "gateway", lives, again_s=60)
        store.note(CallId("a"), "active", state="active", direction="inbound", created_at=1.0)
        store.note(CallId("b"), "active", state="active", direction="outbound", created_at=1.0)
        other.note(CallId("c"), "active", state="ringing", direction="inbound", created_at=1.0)
        samples: Samples = {}
        async with asyncio.timeout(40):
            while samples.get("gateway_workers{state=draining}") != 1 or not samples.get("gateway_dialplan_versions"):
                samples = await scrape(redis)
    await store.close()
    await other.close()
    assert samples["gateway_workers{state=ready}"] == 1
    assert samples["gateway_workers{state=overloaded}"] == 0
    assert samples["gateway_worker_calls{state=ready}"] == 2
    assert samples["gateway_worker_capacity_calls{state=draining}"] == 4
    assert samples["gateway_trunk_workers{state=registered,trunk=main}"] == 2
    assert samples["gateway_trunk_workers{state=failed,trunk=main}"] == 0
    assert samples["gateway_trunk_workers{state=other,trunk=spare}"] == 1
    assert samples["gateway_upstream_workers{model=gpt-realtime,state=away}"] == 1
    assert samples["gateway_dialplan_workers{state=refused}"] == 1
    assert samples["gateway_dialplan_versions"] == 2
    assert samples["gateway_model_shutdown_timestamp_seconds{model=gpt-realtime}"] == 1_798_848_000
    assert "gateway_model_shutdown_timestamp_seconds{model=gpt-other}" not in samples
    assert samples["gateway_live_calls{direction=inbound,state=active}"] == 1
    assert samples["gateway_live_calls{direction=inbound,state=ringing}"] == 1
    assert samples["gateway_live_calls{direction=outbound,state=active}"] == 1


async def test_promtool_finds_no_fault_in_the_text_and_a_parser_none_in_openmetrics(redis: RedisServer) -> None:
    store = await open_store(redis, "one")
    play_call(store, "a")
    await until(lambda: not store.backlog)
    async with redis.reader() as reader:
        text = await metrics_page(reader)
        opened = await metrics_page(reader, accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    await store.close()
    assert text.content_type.startswith("text/plain; version=0.0.4")
    ours = b"".join(line for line in text.body.splitlines(keepends=True) if b"gateway_" in line)
    assert promtool("check", "metrics", given=ours) == ""
    assert opened.content_type.startswith("application/openmetrics-text")
    assert opened.body.endswith(b"# EOF\n")
    families = {family.name for family in read_openmetrics(opened.body.decode())}  # type: ignore[no-untyped-call]
    assert {name.removesuffix("_total") for name in re.findall(r"# HELP (gateway_\w+)", text.body.decode())} <= families
    assert "process_resident_memory_bytes" in text.body.decode()


async def test_attempts_with_webhooks_are_counted_as_they_are_settled_once(redis: RedisServer) -> None:
    store = await open_store(redis, "one")
    async with WebhookQueue(redis.settings(), WebhooksSettings()) as queue:
        reading = asyncio.create_task(queue.entries("web"))
        async with asyncio.timeout(40):
            while not reading.done():  # the group reads what comes after it was made
                store.note(CallId("a"), "ended", state="ended", created_at=1.0)
                await asyncio.sleep(0.05)
        entry, *_ = await reading
        told = [Delivery(f"m{each}.shop", "shop", f"m{each}", "call.ended", "a", "{}") for each in range(4)]
        assert await queue.put(entry, told)
        arrived, late, lost, _ = (await queue.claim("shop", 8, 30))[0]
        for _ in range(2):  # the answer of the first may have got lost
            await queue.done(arrived)
            await queue.bury(arrived, "too late")
        await queue.again(late, "503", 60)
        await queue.bury(lost, "410")
    samples = await scrape(redis)
    await store.close()
    assert samples["gateway_webhooks_total{result=delivered}"] == 1
    assert samples["gateway_webhooks_total{result=failed}"] == 1
    assert samples["gateway_webhooks_total{result=given_up}"] == 1
    assert samples["gateway_webhook_dead_entries"] == 1


async def test_a_scrape_without_redis_says_so_and_succeeds(redis: RedisServer) -> None:
    redis.stop()
    async with redis.reader() as reader:
        body = (await metrics_page(reader)).body.decode()
    redis.start()
    assert "gateway_redis_up 0.0" in body
    assert "gateway_build_info" in body
    assert "process_cpu_seconds_total" in body
    assert "gateway_calls_started_total" not in body
