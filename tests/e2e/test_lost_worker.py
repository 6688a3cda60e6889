"""
A worker killed in the middle of its calls without a supervisor, and Redis stopped in the middle of calls.

Run with ``-s`` to see the figures; ``TEST_OUTAGE_S`` makes the outage of Redis longer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.lab.callers.gateway_process import on_loopback
from gateway.lab.simulator import SimulatorOptions
from gateway.lab.speech import caller_speech
from gateway.settings.sections import RedisSettings
from gateway.store.reader import CallReader, CdrQuery
from tests.rigs.house import MakeHouse
from tests.rigs.lines import call, calls
from tests.rigs.redis_server import RedisServer
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import ANSWERED, invite, pause
from tests.rigs.waiting import until
from tests.rigs.warm import WarmGateway

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("timing")]

CALLS = 4
OUTAGE_S = float(os.environ.get("TEST_OUTAGE_S", "3"))
REDIS_IS_AWAY = (
    "redis is away|registry_not_written|commands_not_read|limits of routes are not counted|Error.*onnect|"
    "trunk_leases_not_renewed"
)
PLAN = """
agents: {tester: {instructions: Answer shortly., greeting: Say hello.}}
routes:
  - {name: everyone, agent: tester, limits: {max_calls: 4, per_caller: {max_calls: 4}}}
"""


def places(redis: RedisServer) -> int:
    with redis.client() as client:
        return sum(client.zcard(key) for key in client.keys("*:limits:*:live*"))


async def test_the_calls_of_a_killed_worker_end_within_ten_seconds_and_their_places_are_free(
    house: MakeHouse, tmp_path: Path
) -> None:
    redis = RedisServer()
    try:
        async with house(dialplan=PLAN, GATEWAY_REDIS__URL=redis.url) as here, redis.reader() as reader:
            given = on_loopback(tmp_path / "plan.yaml", here.simulator.url) | {"GATEWAY_REDIS__URL": redis.url}
            async with (
                WarmGateway(given | {"GATEWAY_SIP__LATE_PERCENT": "0"}) as victim,
                Sipp(victim.port, (invite(), ANSWERED, pause(60_000)), tmp_path / "sipp", calls=CALLS, at_once=CALLS),
            ):
                async with asyncio.timeout(40):
                    while [record.state for record in await reader.live_calls()] != ["active"] * CALLS:
                        await asyncio.sleep(0.05)
                assert places(redis) == 2 * CALLS
                os.kill(victim.pid, signal.SIGKILL)
                killed_at = time.monotonic()
                await until(lambda: not redis.live())
                took_s = time.monotonic() - killed_at
                assert places(redis) == 0
                page = await reader.cdrs(CdrQuery())
                workers = [worker.condition.worker for worker in await reader.workers()]
            print(
                f"\nkilled: its {CALLS} calls ended in the records after {took_s:.1f} s, {len(page.records)} CDRs",
                end="",
            )
            assert [record.end_reason for record in page.records] == ["worker_lost"] * CALLS
            assert all(record.answered_at and record.ended_at for record in page.records)
            assert {record.worker for record in page.records}.isdisjoint(workers)
    finally:
        redis.close()


async def test_calls_go_on_without_redis_and_nothing_of_them_is_lost_or_doubled(
    house: MakeHouse, tmp_path: Path
) -> None:
    redis = RedisServer(tcp=True, keep=True)
    seconds = OUTAGE_S + 6
    variables = {"GATEWAY_REDIS__URL": redis.url, "GATEWAY_SIP__QUALITY_EVERY_S": "1"}
    speech = caller_speech(seconds)

    async def outage() -> None:
        await until(lambda: len(redis.live()) == CALLS)
        await asyncio.sleep(2)
        redis.stop()
        await asyncio.sleep(OUTAGE_S)
        redis.start()

    try:
        async with house(foreseen=REDIS_IS_AWAY, simulator=SimulatorOptions(echo=True), **variables) as here:
            starts = [partial(call, here, tmp_path / f"call{n}", speech, seconds=seconds) for n in range(CALLS)]
            lines, _ = await asyncio.gather(calls(*starts, house=here), outage())
            gaps = [line.phone.reception.longest_gap_ms() for line in lines]
            lost = sum(line.phone.reception.counts().lost for line in lines)
            await until(lambda: not redis.live())
        settings = RedisSettings.model_validate({"url": redis.url})
        async with CallReader(settings) as reader:
            records = (await reader.cdrs(CdrQuery())).records
            stories = [await reader.events_of(record.call_id) for record in records]
            of_all = await reader.events(newest=10_000)
    finally:
        redis.close()
    print(f"\nRedis away for {OUTAGE_S:g} s: longest gap in a caller's RTP {max(gaps):.0f} ms, lost {lost}", end="")
    assert lost == 0
    assert [record.end_reason for record in records] == ["caller_hung_up"] * CALLS
    for record, entries in zip(records, stories, strict=True):
        names = [entry.fields["event"] for entry in entries]
        told_at = [float(entry.fields["at"]) for entry in entries]
        assert told_at == sorted(told_at), "not in order"
        assert Counter(names)["ended"] == Counter(names)["routing"] == 1
        assert names[-1] == "ended"
        assert names == [event["event"] for event in of_all if event["call_id"] == record.call_id]
        seen = [float(entry.fields["at"]) for entry in entries if entry.fields["event"] == "quality"]
        assert len(seen) == len(set(seen)) >= seconds
        steps = [later - sooner for sooner, later in pairwise(seen)]
        print(f"\n{len(entries)} events, one a second: {min(steps):.2f} to {max(steps):.2f} s apart", end="")
        assert max(steps) < 1.9, "an event of the outage is missing"
