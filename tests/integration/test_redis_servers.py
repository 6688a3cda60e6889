"""The store against the servers that operators have: Redis 6.2 and 7, Valkey, Cluster, Sentinel, TLS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from redis.asyncio.client import PubSub

from gateway.condition import WorkerCondition
from gateway.errors import StoreError
from gateway.ids import CallId
from gateway.settings.sections import RedisSettings
from gateway.store.calls import RedisCallStore
from gateway.store.commands import Command, CommandAnswer, CommandInbox, CommandSender, done
from gateway.store.connection import ask, connect
from gateway.store.erase import erase_caller
from gateway.store.limits import Caps, RedisLimits, RouteLimits
from gateway.store.reader import CallReader, CdrQuery
from gateway.store.registry import RegistryWriter, follow_workers
from tests.rigs.redis_server import RedisServer, Sentinels, cluster, servers
from tests.rigs.tls import self_signed
from tests.rigs.waiting import until
from tests.rigs.web_api import serving

pytestmark = pytest.mark.integration


@asynccontextmanager
async def opened(settings: RedisSettings, worker: str = "w1") -> AsyncIterator[RedisCallStore]:
    store = RedisCallStore(settings, worker)
    await store.open()
    try:
        yield store
    finally:
        await store.close(limit_s=5)


@contextmanager
def places(kind: str, folder: Path) -> Iterator[RedisSettings]:
    """Run what a URL leads to."""
    times = {"heartbeat_s": 0.2, "expiry_s": 1.0, "worker_heartbeat_s": 0.2, "worker_expiry_s": 3.0}
    match kind.split():
        case ["cluster", nodes]:
            with cluster(int(nodes)) as started:
                where = ",".join(f"127.0.0.1:{node.port}" for node in reversed(started))  # the owner is asked last
                yield RedisSettings.model_validate({"url": f"redis+cluster://{where}", **times})
        case ["sentinel", *tls]:
            files = self_signed(folder) if tls else None
            sentinels = Sentinels(password="of-the-master", tls=files)
            try:
                yield sentinels.settings(ca_file=files and files.certificate)
            finally:
                sentinels.close()
        case ["tls"]:
            files = self_signed(folder)
            server = RedisServer(tls=files, password="p@ss:word/")
            try:
                url = f"rediss://:p%40ss%3Aword%2F@127.0.0.1:{server.port}/0"
                yield server.settings(url=url, ca_file=files.certificate)
            finally:
                server.close()
        case _:
            server = RedisServer(tcp=True, binary=servers()[kind])
            try:
                yield server.settings()
            finally:
                server.close()


KINDS = [*servers(), "tls", "sentinel", "sentinel tls", "cluster 1", "cluster 3"]


@pytest.mark.parametrize("kind", KINDS)
async def test_everything_works_on_each_kind_of_server(kind: str, tmp_path: Path) -> None:
    with places(kind, tmp_path) as settings:
        async with opened(settings) as store, CallReader(settings) as reader:
            await calls_are_written_and_read(store, reader)
            await lost_calls_are_ended(settings, reader)
            await limits_are_counted(store, settings)
            await a_person_is_erased(store, reader, settings, tmp_path)
        await workers_are_followed(settings)
        await commands_are_answered(settings)
        await messages_are_heard(settings)


async def calls_are_written_and_read(store: RedisCallStore, reader: CallReader) -> None:
    async with aclosing(reader.follow_events("a", "0")) as following:
        store.note(CallId("a"), "routing", state="routing", route="sales", trunk="main", created_at=time.time())
        assert (await anext(following)).fields["event"] == "routing"
        waiting = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0.3)  # inside XREAD BLOCK
        assert not waiting.done()
        (live,) = await reader.live_calls(worker="w1", trunk="main", route="sales")
        assert live.call_id == "a"
        ended = {"answered_at": time.time() - 7, "ended_at": time.time(), "cost_usd": 0.25}
        store.note(CallId("a"), "ended", state="ended", end_reason="completed", **ended)
        assert (await waiting).fields["end_reason"] == "completed"
        assert [entry async for entry in following] == []
    assert await reader.live_calls() == []
    (cdr,) = (await reader.cdrs(CdrQuery(route="sales", until=time.time() + 3600))).records
    assert (cdr.call_id, cdr.cdr) == ("a", (await reader.call("a") or cdr).cdr)
    assert [entry.fields["event"] for entry in await reader.events_of("a")] == ["routing", "ended"]


async def lost_calls_are_ended(settings: RedisSettings, reader: CallReader) -> None:
    async with opened(settings, "dead") as dead:
        dead.note(CallId("b"), "active", state="active")
        await until(lambda: not dead.backlog)
    async with asyncio.timeout(40):
        while (found := await reader.call("b")) is None or found.end_reason != "worker_lost":
            await asyncio.sleep(0.05)


async def limits_are_counted(store: RedisCallStore, settings: RedisSettings) -> None:
    caps = RouteLimits(Caps(max_calls=1, minutes_per_day=5), Caps(max_calls=1))
    async with RedisLimits(store, settings, admit_limit_s=10) as limits:
        asked = {"route": "sales", "caller": "+49", "day": "2026-01-31"}
        assert (await limits.admit("c", **asked, limits=caps)).minutes_left == 5
        assert (await limits.admit("d", **asked, limits=caps)).exceeded == "max_calls 1"


async def a_person_is_erased(store: RedisCallStore, reader: CallReader, settings: RedisSettings, folder: Path) -> None:
    called: dict[str, str | float] = {"state": "ended", "direction": "inbound", "caller": "+493012345678"}
    store.note(CallId("e"), "ended", created_at=time.time(), **called)
    store.keep_live(CallId("f"), state="ended")
    async with asyncio.timeout(40):
        while await reader.call("e") is None or await reader.call("f") is None:
            await asyncio.sleep(0.05)
    assert [cdr.call_id for cdr in (await reader.cdrs(CdrQuery(caller="+493012345678"))).records] == ["e"]
    erased = await erase_caller(settings, "+493012345678", recordings=folder, traces=folder)
    assert (erased.calls, erased.records, erased.events, erased.cdrs) == (("e",), 1, 1, 1)
    assert await reader.call("e") is None
    assert (await reader.cdrs(CdrQuery(caller="+493012345678"))).records == ()


async def workers_are_followed(settings: RedisSettings) -> None:
    async with RegistryWriter(settings) as registry, aclosing(follow_workers(settings, poll_s=30)) as lists:
        assert await anext(lists) == ()
        registry.set_workers([WorkerCondition("w1", "ready", 0, 4, "127.0.0.1:5060")])
        async with asyncio.timeout(40):  # a message on the channel, or else it takes the 30 s
            (worker,) = await anext(lists)
        assert worker.condition.worker == "w1"


async def commands_are_answered(settings: RedisSettings) -> None:
    async def obey(command: Command) -> CommandAnswer:
        return done(command, "at once")

    async with CommandInbox(settings, "w1", obey), CommandSender(settings) as sender:
        async with asyncio.timeout(40):
            while (answer := await sender.send("w1", "reload", by="test", wait_s=5)).state != "done":
                await asyncio.sleep(0.1)
        assert answer.detail == "at once"


async def messages_are_heard(settings: RedisSettings) -> None:
    redis = connect(settings)
    heard: PubSub = redis.pubsub()
    await heard.subscribe("{gateway}:audio:a")
    await heard.get_message(timeout=5)
    assert await ask(redis, "PUBLISH", "{gateway}:audio:a", "sound") == 1
    assert await ask(redis, "PUBLISH", "{gateway}:audio:b", "sound") == 0
    message = await heard.get_message(ignore_subscribe_messages=True, timeout=5)
    assert message is not None
    assert message["data"] == "sound"
    await heard.aclose()  # type: ignore[no-untyped-call]
    await redis.aclose()


async def story(store: RedisCallStore, end: Callable[[], None]) -> list[str]:
    """Write down a call over a failure; return the names of its events."""
    names = [f"n{number}" for number in range(400)]
    for number, name in enumerate(names):
        store.note(CallId("a"), name, state="active")
        if number == 50:
            await until(lambda: not store.backlog)
            await asyncio.sleep(0.5)  # the replica has it
            end()
        await asyncio.sleep(0.005)
    store.note(CallId("a"), "ended", state="ended")
    await until(lambda: not store.backlog and not store.away, what="all to be written")
    return [*names, "ended"]


async def read_names(settings: RedisSettings) -> list[str]:
    async with CallReader(settings) as reader:
        assert [record.call_id for record in (await reader.cdrs(CdrQuery())).records] == ["a"]
        return [event["event"] for event in await reader.events()]


async def test_a_failover_by_sentinels_loses_and_doubles_nothing() -> None:
    sentinels = Sentinels()
    try:
        settings = sentinels.settings(expiry_s=30)
        async with opened(settings) as store:
            names = await story(store, sentinels.master.kill)
        assert await read_names(settings) == names
        with sentinels.replica.client() as client:
            assert client.info("replication")["role"] == "master"
    finally:
        sentinels.close()


async def test_a_failover_in_a_cluster_loses_and_doubles_nothing() -> None:
    with cluster(3, replicas=1) as nodes:
        where = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        settings = nodes[0].settings(url=f"redis+cluster://{where}", expiry_s=30)
        async with opened(settings) as store:
            names = await story(store, nodes[0].kill)
        assert await read_names(settings) == names


async def test_a_slot_that_moves_to_another_node_is_followed() -> None:
    with cluster(2) as nodes:
        settings = nodes[0].settings(url=f"redis+cluster://127.0.0.1:{nodes[0].port}", expiry_s=30)
        async with opened(settings) as store:
            names = await story(store, lambda: move_slot(nodes[0], nodes[1]))
        assert await read_names(settings) == names
        with nodes[1].client() as client:
            assert client.keys("{gateway}:events")


def move_slot(source: RedisServer, target: RedisServer) -> None:
    """Move the gateway's slot with its keys (redis.io, CLUSTER SETSLOT)."""
    with source.client() as old, target.client() as new:
        slot = old.execute_command("CLUSTER", "KEYSLOT", "{gateway}:events")
        ids = {"old": old.execute_command("CLUSTER", "MYID"), "new": new.execute_command("CLUSTER", "MYID")}
        new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids["old"])
        old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids["new"])
        while keys := old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            old.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for client in (new, old):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids["new"])


@pytest.mark.parametrize("binary", servers())
async def test_a_server_that_takes_no_writes_is_waited_for(binary: str) -> None:
    """As a replica (READONLY) and without memory (OOM): nothing is lost, nothing doubled."""
    server = RedisServer(tcp=True, binary=servers()[binary])
    try:
        settings = server.settings(expiry_s=30)
        async with opened(settings) as store, opened(settings, "w2") as other:
            for refuse, allow in (
                (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
                (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
            ):
                with server.client() as client:
                    client.execute_command(*refuse)
                    for number in range(20):
                        store.note(CallId("a"), f"{refuse[0]} {number}", state="active")
                    await until(lambda: store.away and other.away)
                    assert store.condition.degraded
                    client.execute_command(*allow)
                await until(lambda: not store.backlog and not store.away)
            store.note(CallId("a"), "ended", state="ended")
        names = await read_names(settings)
    finally:
        server.close()
    assert names == [*(f"REPLICAOF {n}" for n in range(20)), *(f"CONFIG {n}" for n in range(20)), "ended"]


async def test_health_is_degraded_while_redis_takes_no_writes(tmp_path: Path) -> None:
    server = RedisServer(tcp=True)
    try:
        async with serving(server, tmp_path) as api:

            async def told() -> tuple[str, str]:
                health = (await api.ask("GET", "/v1/health", token="read")).json()
                return health["status"], health["redis"]

            assert await told() == ("ok", "ok")
            with server.client() as client:
                client.config_set("maxmemory", 1)
                await until(lambda: api.services.store.away)
                assert await told() == ("degraded", "refuses_writes")
                client.config_set("maxmemory", 0)
            await until(lambda: not api.services.store.away)
            assert await told() == ("ok", "ok")
    finally:
        server.close()


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    server = RedisServer(tls=self_signed(tmp_path))
    try:
        with pytest.raises(StoreError, match="certificate verify failed"):
            await RedisCallStore(server.settings(), "w1").open()
    finally:
        server.close()


async def test_no_sentinel_and_no_node_that_answers_is_an_error_with_the_place() -> None:
    for url in ("redis+sentinel://127.0.0.1:1,127.0.0.1:2/mymaster", "redis+cluster://u:secret@127.0.0.1:1"):
        with pytest.raises(StoreError, match=r"127\.0\.0\.1:1.* does not answer") as caught:
            await RedisCallStore(RedisSettings.model_validate({"url": url}), "w1").open()
        assert "secret" not in str(caught.value)
