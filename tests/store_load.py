"""
``python -m tests.store_load``: what calls cost in Redis, and how long it takes to read them.

Writes many calls through the real writer, each with the events of a short real conversation, into a server of its own.
Prints the memory per call by kind of key, and the 95th percentile of what the page and the API ask for: the list of 500
live calls, a page of CDRs, and a page of a rare caller's. ``--plain`` leaves the server's settings at their defaults.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from gateway.ids import CallId, new_call_id
from gateway.store.calls import RedisCallStore
from gateway.store.embedded import SMALL
from gateway.store.reader import CallReader, CdrQuery
from tests.rigs.redis_server import RedisServer, servers

LIVE = 500
RUNS = 200
WAITING = 2000
SHOWN_OF_EACH = 50
Fields = dict[str, str | int | float]


def story(number: int) -> Iterator[tuple[str, Fields]]:
    """Give the events of a call: those of a real one, with a turn more."""
    at = time.time()
    item = f"item_{number:020x}"
    used: Fields = {f"{kind}_tokens_{way}": 80 + number % 50 for kind in ("text", "audio") for way in ("in", "out")}
    used |= {"tokens_in": 160, "tokens_out": 230, "cost_usd": 0.006 + number % 7 / 1000, "agents": "tester"}
    yield (
        "routing",
        {
            **{"state": "routing", "created_at": at, "sip_call_id": f"{number:032x}@192.0.2.{number % 250}"},
            **{
                "from_uri": f"sip:+4930{number:08}@carrier.example;user=phone",
                "to_uri": "sip:+498912345@192.0.2.10:5060",
            },
            **{"source": f"192.0.2.{number % 250}:5060", "direction": "inbound", "caller": f"+4930{number:08}"},
            **{"called": "+498912345", "transport": "udp", "dialplan": "b423de55e8b2", "trunk": "main"},
            **{"metadata": '{"queue": "sales", "tenant": "example", "priority": 3, "language": "en-GB"}'},
            **{"route": f"route {number % 5}", "agent": "tester"},
        },
    )
    yield "step", {"action": "agent", "target": "tester", "agent": "tester"}
    yield "ringing", {"state": "ringing", "ringing_at": at}
    yield "session", {"session_id": f"sess_{number:020x}", "open_ms": 5, "ready_ms": 6, "attempt": 1}
    yield "answering", {"state": "answering", "upstream_session_id": f"sess_{number:020x}"}
    yield "active", {"state": "active", "codec": "PCMU/8000", "answered_at": at, "setup_ms": 220}
    for turn in range(2):
        text = "Hello, this is the gateway's practice agent. What can I do for you?"
        yield "agent_spoke", {"item_id": f"{item}{turn}", "text": text, "first_audio_ms": 169}
        yield "usage", used
        heard: Fields = {"item_id": f"{item}{turn}", "text": text, "played_ms": 3796, "cut": "false"}
        yield "agent_heard", {**heard, "began_at": at, "over_at": at + 4}
        yield "caller_spoke", {"item_id": f"{item}c{turn}", "text": "I would like to know when you are open."}
    yield "turn", {"item_id": item, "turn_latency_ms": 640}
    quality: Fields = {"rx_packets": 400, "rx_lost": 0, "rx_jitter_ms": 1.5, "tx_packets": 400, "tx_lost": 0}
    yield "quality", {**quality, "rtt_ms": 21.5, "mos": 4.4, "late_frames": 0, "underruns": 1}
    why: Fields = {"end_reason": "caller_hung_up", "end_detail": "200 Normal call clearing", "ended_by": "caller"}
    ended: Fields = {"talk_ms": 8005, "ended_at": at + 8, "transcript_entries": 4, "turns": 2, "sip_code": 200}
    yield "ended", {"state": "ended", **why, **ended, "fault": "nobody", **used}


async def write(store: RedisCallStore, calls: int) -> None:
    """Play calls one after the other, as fast as Redis takes them."""
    for number in range(calls):
        call = new_call_id(time.time_ns())
        for event, fields in story(number):
            store.note(call, event, **fields)
        while store.backlog > WAITING:
            await asyncio.sleep(0.001)
    while store.backlog:
        await asyncio.sleep(0.01)


async def p95_ms(ask: Callable[[], Awaitable[Any]], runs: int = RUNS) -> str:
    """Return median and 95th percentile of how long an answer takes."""
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        await ask()
        took.append((time.perf_counter() - began) * 1000)
    took.sort()
    return f"median {took[len(took) // 2]:.1f} ms, p95 {took[int(len(took) * 0.95)]:.1f} ms, longest {took[-1]:.1f} ms"


def sizes(server: RedisServer) -> dict[str, float]:
    """Return the memory of one call by kind of key: the mean of a few."""
    found: dict[str, list[int]] = defaultdict(list)
    with server.client() as client:
        for key in client.scan_iter("{gateway}:call:*", count=500):
            kind = "own events" if key.endswith(":events") else "record"
            if len(found[kind]) < SHOWN_OF_EACH:
                found[kind].append(int(client.memory_usage(key, samples=0)))
            elif all(len(each) >= SHOWN_OF_EACH for each in found.values()) and len(found) == 2:
                break
        means = {kind: sum(each) / len(each) for kind, each in found.items()}
        means["CDR"] = client.memory_usage("{gateway}:cdrs", samples=0) / max(1, client.xlen("{gateway}:cdrs"))
    return means


async def run(calls: int, server: RedisServer) -> None:
    """Write, read, and print."""
    settings = server.settings(heartbeat_s=2, expiry_s=6)
    store = RedisCallStore(settings, "load")
    await store.open()
    with server.client() as client:
        before = client.info("memory")["used_memory"]
        began = time.monotonic()
        await write(store, calls)
        took_s = time.monotonic() - began
        grown = client.info("memory")["used_memory"] - before
        cpu = client.info("cpu")
        say(f"{calls} calls written in {took_s:.1f} s ({calls / took_s:.0f} a second), dropped {store.dropped}")
        say(f"Redis's CPU: {(cpu['used_cpu_user'] + cpu['used_cpu_sys']) / calls * 1e6:.0f} us per call")
        say(f"memory per call, all together: {grown / calls:.0f} bytes")
        for kind, size in sizes(server).items():
            say(f"  {kind}: {size:.0f} bytes")
        record = next(key for key in client.scan_iter("{gateway}:call:*") if not key.endswith(":events"))
        say(f"  a record is a {client.object('encoding', record)}")
    for number in range(LIVE):
        first = dict(next(story(number))[1])
        store.note(CallId(f"live{number}"), "active", **(first | {"state": "active", "answered_at": time.time()}))
    while store.backlog:
        await asyncio.sleep(0.01)
    async with CallReader(settings) as reader:
        assert len(await reader.live_calls()) == LIVE
        say(f"list of {LIVE} live calls: {await p95_ms(reader.live_calls)}")
        say(f"page of 100 CDRs: {await p95_ms(lambda: reader.cdrs(CdrQuery()))}")
        busy, rare = CdrQuery(route="route 3"), CdrQuery(caller="+4930nobody")
        say(f"page of 100 CDRs of a route: {await p95_ms(lambda: reader.cdrs(busy))}")
        say(f"page without a hit (one request of many): {await p95_ms(lambda: reader.cdrs(rare))}")
    await store.close()


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--server", choices=list(servers()), default="redis")
    parser.add_argument("--plain", action="store_true")
    given = parser.parse_args()
    server = RedisServer(binary=servers()[given.server], options={} if given.plain else SMALL)
    try:
        asyncio.run(run(given.calls, server))
    finally:
        server.close()


if __name__ == "__main__":
    main()
