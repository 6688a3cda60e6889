"""Webhooks from a real Redis to a real HTTP server that takes, refuses, hangs, redirects and resets."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

from gateway.errors import ConfigError
from gateway.settings.sections import Settings
from gateway.store import webhook_queue
from gateway.store.reader import CallReader
from gateway.store.webhook_queue import DeadLetter, WebhookQueue
from gateway.webhooks import delivery
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

KEY = "whsec_" + base64.b64encode(bytes(range(32))).decode()
CALL = "019c0ffee"
STREAM = "{gateway}:events"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Receiver:
    """What an operator runs: answers as told, and keeps what it was sent."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.at: list[float] = []
        self.answer: Answering = self._take
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._receive)
        self.server = TestServer(app)

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        self.requests.append(request)
        self.at.append(time.monotonic())
        return await self.answer(request)

    async def _take(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=204)

    def will(self, *statuses: int, **more: Any) -> None:
        """Answer with these, one after the other, the last one for ever."""
        left = list(statuses)

        async def answer(request: web.Request) -> web.StreamResponse:
            return web.Response(status=left.pop(0) if len(left) > 1 else left[0], **more)

        self.answer = answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/hook"

    @property
    def ids(self) -> list[str]:
        return [request.headers["webhook-id"] for request in self.requests]

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.bodies]

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self.messages]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with a_receiver() as one:
        yield one


@asynccontextmanager
async def a_receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.server.start_server()
    try:
        yield receiver
    finally:
        await receiver.server.close()


def settings(redis: RedisServer, *urls: str, **changes: Any) -> Settings:
    """Settings with endpoints a, b, ..., which wait only briefly after a failure."""
    events = changes.pop("events", ["call.ended"])
    timeout_s = changes.pop("timeout_s", 5)
    endpoint = {"secret": "hook", "events": events, "timeout_s": timeout_s}
    given = {"allow_private": ["127.0.0.0/8"], "first_retry_s": 0.05, "last_retry_s": 0.2, "attempts": 4, **changes}
    endpoints = {chr(97 + number): {"url": url, **endpoint} for number, url in enumerate(urls)}
    return Settings.model_validate(
        {"redis": redis.settings(), "secrets": {"hook": KEY}, "webhooks": {"endpoints": endpoints, **given}}
    )


@asynccontextmanager
async def delivering(given: Settings, name: str) -> AsyncIterator[None]:
    async with CallReader(given.redis) as reader, delivery.delivering(given, name, reader):
        yield


class Calls:
    """Writes down what happens to calls, as workers do."""

    def __init__(self, redis: RedisServer) -> None:
        self._redis = redis

    def tell(self, event: str, call_id: str = CALL, **fields: str) -> str:
        entry = {"call_id": call_id, "event": event, "at": "1700000000.5", "worker": "w1", **fields}
        with self._redis.client() as client:
            client.xadd(f"{{gateway}}:call:{call_id}:events", entry)
            return str(client.xadd(STREAM, entry))

    def record(self, call_id: str = CALL, **fields: str) -> None:
        with self._redis.client() as client:
            client.hset(f"{{gateway}}:call:{call_id}", mapping={"call_id": call_id, **fields})

    def end(self, call_id: str = CALL) -> str:
        return self.tell("ended", call_id, state="ended", end_reason="caller_hung_up", ended_at="1700000009.0")

    async def group(self) -> None:
        """Wait until events are read."""

        def is_there() -> bool:
            with self._redis.client() as client:
                return bool(client.exists(STREAM)) and bool(client.xinfo_groups(STREAM))

        await until(is_there, what="the group of consumers")

    def pending(self) -> int:
        with self._redis.client() as client:
            return int(client.xpending(STREAM, "webhooks")["pending"])

    def queued(self) -> set[str]:
        there = self._redis.keys()
        return {key for key in there if ":webhooks:" in key}


@pytest.fixture
def calls(redis: RedisServer) -> Calls:
    return Calls(redis)


async def dead(given: Settings) -> list[DeadLetter]:
    async with WebhookQueue(given.redis, given.webhooks) as queue:
        return await queue.dead()


async def test_a_message_comes_signed_with_its_id_and_what_is_known_of_the_call(
    redis: RedisServer, receiver: Receiver, calls: Calls
) -> None:
    async with delivering(settings(redis, receiver.url), "web-1"):
        await calls.group()
        calls.record(caller="+4930123456", route="sales", state="ended", answered_at="1700000001.25", tokens_in="7")
        calls.tell("agent_heard", text="Hello")
        entry = calls.end()
        calls.tell("quality")
        await until(lambda: receiver.bodies, what="a message")
        await until(lambda: not calls.queued(), what="an empty queue")
        await until(lambda: not calls.pending(), what="every event acknowledged")
    (request,), (body,), (message,) = receiver.requests, receiver.bodies, receiver.messages
    assert Webhook(KEY).verify(body, dict(request.headers)) == message
    assert request.headers["webhook-id"] == f"msg_{entry}_ended"
    assert request.content_type == "application/json"
    assert (request.method, request.path) == ("POST", "/hook")
    assert "traceparent" not in request.headers
    assert (message["type"], message["timestamp"]) == ("call.ended", "2023-11-14T22:13:20.500Z")
    call = message["data"]["call"]
    assert (call["caller"], call["route"], call["answered_at"], call["tokens_in"]) == (
        "+4930123456",
        "sales",
        1700000001.25,
        7,
    )
    assert message["data"]["call_id"] == CALL
    assert message["data"]["end"]["fault"] == "nobody"


async def test_each_endpoint_gets_what_it_asked_for(redis: RedisServer, receiver: Receiver, calls: Calls) -> None:
    every = ["call.started", "call.answered", "call.ended", "call.transfer", "call.transcript", "call.recording"]
    async with delivering(settings(redis, receiver.url, events=every), "web-1"):
        await calls.group()
        calls.record(state="active")
        calls.tell("routing", state="routing", created_at="1700000000.0", caller="+4930123456", traceparent=PARENT)
        calls.tell("active", state="active", answered_at="1700000001.0")
        calls.tell("agent_heard", text="How can I help?", played_ms="900", item_id="i1", cut="false")
        calls.tell("caller_spoke", text="Put me through.", item_id="i2")
        calls.tell("transfer_asked", target="sales", warm="true", tool_call_id="t1")
        calls.tell("transfer_ended", code="486", reason="Busy Here", refused="false")
        calls.tell("recording_saved", recording="/recordings/a.wav", seconds="12.5")
        calls.end()
        await until(lambda: len(receiver.bodies) == 7, what="seven messages")
    by_type = {message["type"]: message["data"] for message in reversed(receiver.messages)}
    assert sorted(receiver.types) == sorted([*every, "call.transfer"])
    transfers = [each["data"]["transfer"] for each in receiver.messages if each["type"] == "call.transfer"]
    assert sorted(transfers, key=lambda one: str(one["state"])) == [
        {"state": "asked", "target": "sales", "warm": True},
        {"state": "ended", "code": 486, "reason": "Busy Here", "refused": False},
    ]
    assert by_type["call.recording"]["recording"] == {"path": "/recordings/a.wav", "seconds": 12.5}
    transcript = by_type["call.transcript"]["transcript"]
    assert transcript["complete"]
    assert [(one["speaker"], one["text"]) for one in transcript["entries"]] == [
        ("agent", "How can I help?"),
        ("caller", "Put me through."),
    ]
    started = receiver.requests[receiver.types.index("call.started")]
    assert started.headers["traceparent"] == PARENT
    assert by_type["call.started"]["call"]["caller"] == "+4930123456"


async def test_a_failed_attempt_is_made_again_with_the_same_id_and_body(
    redis: RedisServer, receiver: Receiver, calls: Calls
) -> None:
    receiver.will(500, 503, 204)
    async with delivering(settings(redis, receiver.url), "web-1"):
        await calls.group()
        calls.end()
        await until(lambda: len(receiver.bodies) == 3)
        await until(lambda: not calls.queued())
    assert len({*receiver.ids}) == len({*receiver.bodies}) == 1
    for request, body in zip(receiver.requests, receiver.bodies, strict=True):
        Webhook(KEY).verify(body, dict(request.headers))


async def test_a_pause_that_the_endpoint_asks_for_is_kept(redis: RedisServer, receiver: Receiver, calls: Calls) -> None:
    async def busy_once(request: web.Request) -> web.StreamResponse:
        first = len(receiver.requests) == 1
        return web.Response(status=429 if first else 200, headers={"Retry-After": "1"} if first else {})

    receiver.answer = busy_once
    async with delivering(settings(redis, receiver.url), "web-1"):
        await calls.group()
        calls.end()
        await until(lambda: len(receiver.bodies) == 2)
    assert receiver.at[1] - receiver.at[0] >= 1


async def test_what_is_given_up_can_be_listed_and_sent_again(
    redis: RedisServer, receiver: Receiver, calls: Calls
) -> None:
    receiver.will(500)
    given = settings(redis, receiver.url)
    async with delivering(given, "web-1"):
        await calls.group()
        calls.end()
        await until(lambda: len(receiver.bodies) == 4, what="the last attempt")
        while not (letters := await dead(given)):
            await asyncio.sleep(0.02)
        (letter,) = letters
        assert (letter.detail, letter.delivery.attempts, letter.delivery.endpoint) == ("answered 500", 4, "a")
        assert letter.delivery.call_id == CALL
        assert letter.fields()["type"] == "call.ended"
        assert 0 < letter.queued_at <= letter.dead_at
        receiver.will(204)
        async with WebhookQueue(given.redis, given.webhooks) as queue:
            assert not await queue.resend("another")
            assert await queue.resend(letter.delivery.id)
            assert not await queue.resend(letter.delivery.id), "it is on its way"
        await until(lambda: len(receiver.bodies) == 5, what="the message again")
        await until(lambda: not calls.queued(), what="an empty queue")
    assert len({*receiver.ids}) == 1


async def test_an_endpoint_that_is_gone_is_not_tried_again(
    redis: RedisServer, receiver: Receiver, calls: Calls
) -> None:
    receiver.will(410)
    given = settings(redis, receiver.url)
    async with delivering(given, "web-1"):
        await calls.group()
        calls.end()
        while not await dead(given):
            await asyncio.sleep(0.02)
    assert len(receiver.bodies) == 1


async def test_a_redirect_is_a_failure_and_is_not_followed(
    redis: RedisServer, receiver: Receiver, calls: Calls
) -> None:
    async with a_receiver() as other:
        receiver.will(307, headers={"Location": other.url})
        given = settings(redis, receiver.url, attempts=2)
        async with delivering(given, "web-1"):
            await calls.group()
            calls.end()
            while not (letters := await dead(given)):
                await asyncio.sleep(0.02)
        assert letters[0].detail == "answered with a redirect (307), which is not followed"
        assert other.requests == []


async def test_an_endpoint_that_hangs_delays_no_other(redis: RedisServer, receiver: Receiver, calls: Calls) -> None:
    forever = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        await forever.wait()
        return web.Response()

    async with a_receiver() as slow:
        slow.answer = hang
        try:
            given = settings(redis, slow.url, receiver.url, timeout_s=30)
            async with delivering(given, "web-1"):
                await calls.group()
                for number in range(3 * delivery.AT_ONCE):
                    calls.end(f"call-{number}")
                await until(lambda: len(receiver.bodies) == 3 * delivery.AT_ONCE, what="all at the other endpoint")
                await until(lambda: len(slow.requests) == delivery.AT_ONCE)
                assert len(slow.requests) == delivery.AT_ONCE, "no more at once"
        finally:
            forever.set()


async def test_an_answer_that_never_comes_and_one_without_end_are_failures_in_time(
    redis: RedisServer, receiver: Receiver, calls: Calls
) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        if len(receiver.requests) == 1:
            await asyncio.sleep(1)
        response = web.StreamResponse(status=200)
        await response.prepare(request)
        for _ in range(100):
            await response.write(b"x" * 65536)
        return response

    receiver.answer = drip
    async with delivering(settings(redis, receiver.url, timeout_s=0.3), "web-1"):
        await calls.group()
        calls.end()
        await until(lambda: len(receiver.bodies) == 2, what="a second attempt")
        await until(lambda: not calls.queued(), what="an answer of which only the head counts")


async def test_a_connection_that_is_reset_or_refused_is_tried_again(redis: RedisServer, calls: Calls) -> None:
    connections = 0

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    given = settings(redis, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", attempts=3)
    async with server, delivering(given, "web-1"):
        await calls.group()
        calls.end()
        while not (letters := await dead(given)):
            await asyncio.sleep(0.02)
        assert connections == 3
        assert "Error" in letters[0].detail or "Disconnected" in letters[0].detail
        server.close()
        calls.end("another")
        while len(letters := await dead(given)) < 2:
            await asyncio.sleep(0.02)
        assert "Cannot connect" in letters[0].detail


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://127.0.0.1:{port}/", "127.0.0.1 is no public address"),
        ("https://localhost:{port}/", "no public address"),
        ("https://[::ffff:127.0.0.1]:{port}/", "127.0.0.1 is no public address"),
        ("https://0.0.0.0:{port}/", "0.0.0.0 is no public address"),
        ("https://2130706433:{port}/", "no public address"),
        ("https://0x7f.1:{port}/", "no public address"),
    ],
)
async def test_addresses_that_are_not_public_are_refused_when_it_connects(
    redis: RedisServer, receiver: Receiver, calls: Calls, url: str, why: str
) -> None:
    given = settings(redis, url.format(port=receiver.server.port), allow_private=[], attempts=1)
    async with delivering(given, "web-1"):
        await calls.group()
        calls.end()
        while not (letters := await dead(given)):
            await asyncio.sleep(0.02)
    assert why in letters[0].detail
    assert "allow_private" in letters[0].detail
    assert receiver.requests == []


async def test_a_name_that_resolves_to_another_address_later_is_refused_then(
    redis: RedisServer, receiver: Receiver, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name server tells a public address to whoever checks, and ours to the connection (DNS rebinding)."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def lie(host: str, port: Any, *more: Any, **given: Any) -> Any:
        if host != "rebinding.example":
            return real(host, port, *more, **given)
        asked.append(host)
        told = "93.184.216.34" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (told, receiver.server.port))]

    monkeypatch.setattr(socket, "getaddrinfo", lie)
    assert socket.getaddrinfo("rebinding.example", 443)[0][4][0] == "93.184.216.34"
    given = settings(redis, f"https://rebinding.example:{receiver.server.port}/", allow_private=[], attempts=1)
    async with delivering(given, "web-1"):
        await calls.group()
        calls.end()
        while not (letters := await dead(given)):
            await asyncio.sleep(0.02)
    assert "127.0.0.1 is no public address" in letters[0].detail
    assert receiver.requests == []


async def test_of_several_processes_one_sends_each_message(
    redis: RedisServer, receiver: Receiver, calls: Calls
) -> None:
    given = settings(redis, receiver.url)
    async with delivering(given, "web-1"), delivering(given, "web-2"), delivering(given, "web-3"):
        await calls.group()
        for number in range(60):
            calls.end(f"call-{number}")
        await until(lambda: len(receiver.bodies) >= 60, what="all messages")
        await until(lambda: not calls.queued(), what="an empty queue")
        await until(lambda: not calls.pending())
    assert len(receiver.ids) == len({*receiver.ids}) == 60


async def test_what_a_dead_process_had_taken_another_one_sends(
    redis: RedisServer, receiver: Receiver, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_queue, "ORPHANED_S", 0.2)
    monkeypatch.setattr(webhook_queue, "BLOCK_S", 0.2)
    given = settings(redis, receiver.url)
    async with WebhookQueue(given.redis, given.webhooks) as died:
        reading = asyncio.create_task(died.entries("web-dead"))
        await calls.group()
        calls.end()
        assert len(await reading) == 1, "taken, and nothing done with it"
    async with delivering(given, "web-1"):
        await until(lambda: receiver.bodies, what="the message of the process that died")
        await until(lambda: not calls.pending())
    assert len(receiver.bodies) == 1


async def test_an_attempt_of_a_process_that_died_is_made_by_another(
    redis: RedisServer, receiver: Receiver, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "LEASE_MORE_S", 0.3)
    monkeypatch.setattr(delivery, "LOOK_EVERY_S", 0.2)
    stuck = asyncio.Event()

    async def hang_once(request: web.Request) -> web.StreamResponse:
        if len(receiver.requests) == 1:
            await stuck.wait()
        return web.Response()

    receiver.answer = hang_once
    given = settings(redis, receiver.url, timeout_s=1)
    async with delivering(given, "web-1"):
        await calls.group()
        calls.end()
        await until(lambda: receiver.requests, what="the first attempt")
    async with delivering(given, "web-2"):  # the first one ended in the middle of it
        await until(lambda: len(receiver.requests) == 2, what="the second attempt")
        await until(lambda: not calls.queued())
    stuck.set()
    assert len({*receiver.ids}) == 1


async def test_nothing_is_lost_when_redis_is_away_for_a_while(receiver: Receiver) -> None:
    redis = RedisServer(tcp=True, keep=True)
    calls = Calls(redis)
    try:
        given = settings(redis, receiver.url)
        async with delivering(given, "web-1"):
            await calls.group()
            calls.end("call-1")
            await until(lambda: len(receiver.bodies) == 1)
            redis.stop()
            await asyncio.sleep(0.5)
            redis.start()
            calls.end("call-2")
            await until(lambda: len(receiver.bodies) == 2, what="the message after the outage")
            await until(lambda: not calls.queued())
    finally:
        redis.close()
    assert len({*receiver.ids}) == 2


async def test_a_redis_that_lost_its_memory_gets_a_group_again(
    redis: RedisServer, receiver: Receiver, calls: Calls
) -> None:
    async with delivering(settings(redis, receiver.url), "web-1"):
        await calls.group()
        redis.stop()
        redis.start()
        calls.end()
        await until(lambda: len(receiver.bodies) == 1, what="what happened in the new one")


async def test_the_queue_of_an_endpoint_is_bounded(redis: RedisServer, receiver: Receiver, calls: Calls) -> None:
    receiver.will(500)
    given = settings(redis, receiver.url, backlog=5, first_retry_s=60, last_retry_s=60)
    async with delivering(given, "web-1"):
        await calls.group()
        for number in range(12):
            calls.end(f"call-{number}")
        await until(lambda: not calls.pending() and len(receiver.bodies) >= 5)
        while not (letters := await dead(given)):
            await asyncio.sleep(0.02)
        assert {letter.detail for letter in letters} == {"too many messages waited for this endpoint"}
        with redis.client() as client:
            assert client.zcard("{gateway}:webhooks:due:a") == 5
            assert client.zcard("{gateway}:webhooks:dead") <= 5
            hashes = [key for key in calls.queued() if ":delivery:" in key]
            assert len(hashes) <= 10
            assert all(client.ttl(key) > 0 for key in calls.queued())


async def test_http_goes_to_allowed_networks_alone_and_secrets_must_be_keys(redis: RedisServer) -> None:
    given = settings(redis, "https://hooks.example.com/")
    broken = given.model_copy(update={"secrets": {"hook": type(given.secrets["hook"])("whsec_?")}})
    with pytest.raises(
        ConfigError, match=r"secrets\.hook: of webhooks\.endpoints\.a: behind whsec_ there is no base64"
    ):
        async with delivering(broken, "web-1"):
            pass


async def test_without_endpoints_nothing_is_read(redis: RedisServer, calls: Calls) -> None:
    async with delivering(settings(redis), "web-1"):
        calls.end()
        await asyncio.sleep(0.1)
    with redis.client() as client:
        assert client.xinfo_groups(STREAM) == []
