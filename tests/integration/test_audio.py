"""The sound of calls through a real Redis: heard by everyone who listens, never waited for, kept by nobody."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import pytest

from gateway.ids import CallId
from gateway.settings.sections import RedisSettings
from gateway.store.audio import (
    HEARD_MOST,
    WAITING_MOST,
    AudioBlock,
    AudioPublisher,
    audio_channel,
    follow_levels,
    levels_channel,
    listen_to,
)
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

CALL = CallId("019c0ffee")
PCM = bytes(1280)


class Heard:
    """Somebody who listens to the call."""

    def __init__(self) -> None:
        self.blocks: list[AudioBlock] = []
        self.begun = 0
        self.ended = False

    async def begin(self) -> None:
        self.begun += 1

    async def listen(self, settings: RedisSettings) -> None:
        async with aclosing(listen_to(settings, CALL, self.begin)) as messages:
            async for message in messages:
                self.blocks.append(AudioBlock.unpacked(message))
        self.ended = True

    @property
    def numbers(self) -> list[int]:
        return [block.number for block in self.blocks]


@asynccontextmanager
async def running(*work: Awaitable[None]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Counts:
    """How many heard each message."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, listeners: int) -> None:
        self.seen.append(listeners)


def block(number: int, pcm: bytes = PCM) -> AudioBlock:
    return AudioBlock(number, number * 40, pcm)


async def test_everyone_who_listens_hears_every_block_and_the_end(redis: RedisServer) -> None:
    settings = redis.settings()
    one, two, counts = Heard(), Heard(), Counts()
    async with AudioPublisher(settings) as publisher, running(one.listen(settings), two.listen(settings)):
        await until(lambda: one.begun and two.begun, what="two listeners")
        for number in range(5):
            publisher.offer_block(CALL, block(number, bytes([number, 255]) * 640), counts)
        publisher.offer_block(CALL, block(5, b""), counts)
        await until(lambda: one.ended and two.ended, what="the end of the call")
    assert one.blocks == two.blocks
    assert one.numbers == list(range(6))
    assert one.blocks[3] == block(3, bytes([3, 255]) * 640), "bytes as they are"
    assert counts.seen == [2] * 6
    assert redis.keys() == set()


async def test_the_publisher_learns_that_nobody_listens(redis: RedisServer) -> None:
    settings, counts = redis.settings(), Counts()
    async with AudioPublisher(settings) as publisher:
        publisher.offer_block(CALL, block(0), counts)
        await until(lambda: counts.seen == [0])
        heard = Heard()
        async with running(heard.listen(settings)):
            await until(lambda: heard.begun)
            publisher.offer_block(CALL, block(1), counts)
            await until(lambda: counts.seen == [0, 1])
        publisher.offer_block(CALL, block(2), counts)
        await until(lambda: counts.seen[2:] == [0], what="the listener to be gone")
    with redis.client() as client:
        assert client.pubsub_channels() == []


async def test_levels_of_all_workers_come_to_whoever_watches(redis: RedisServer) -> None:
    settings, counts = redis.settings(), Counts()
    seen: list[dict[str, tuple[float, float]]] = []

    async def watch() -> None:
        async with aclosing(follow_levels(settings)) as levels:
            async for each in levels:
                seen.append(each)  # noqa: PERF401 - each is seen as it comes

    async with AudioPublisher(settings) as publisher, running(watch()):
        while not counts.seen or not counts.seen[-1]:
            publisher.offer_levels("w1", {}, counts)
            await asyncio.sleep(0.02)
        publisher.offer_levels("w1", {CALL: (-20.5, -90.0)}, counts)
        publisher.offer_levels("w2", {CallId("other"): (-1.0, -2.0)}, counts)
        await until(lambda: len(seen) == 3)
    assert seen[1:] == [{CALL: (-20.5, -90.0)}, {"other": (-1.0, -2.0)}]


async def test_channels_have_the_hash_tag_of_the_prefix(redis: RedisServer) -> None:
    settings, counts = redis.settings(prefix="other"), Counts()
    assert (audio_channel("other", CALL), levels_channel("other")) == (f"{{other}}:audio:{CALL}", "{other}:levels")
    with redis.client() as client:
        news = client.pubsub()
        news.subscribe(levels_channel("other"))
        async with AudioPublisher(settings) as publisher:
            publisher.offer_levels("w1", {CALL: (-3.0, -4.5)}, counts)
            await until(lambda: bool(counts.seen))
        messages = [news.get_message(timeout=1) for _ in range(2)]
        news.close()
    assert messages[1] is not None
    assert json.loads(messages[1]["data"]) == {"worker": "w1", "calls": {CALL: [-3.0, -4.5]}}


async def test_nothing_waits_while_redis_hangs_and_what_was_said_then_is_not_sent_later(redis: RedisServer) -> None:
    settings = redis.settings()
    heard, counts = Heard(), Counts()
    async with AudioPublisher(settings) as publisher, running(heard.listen(settings)):
        await until(lambda: heard.begun)
        publisher.offer_block(CALL, block(0), counts)
        await until(lambda: counts.seen == [1])
        redis.pause()
        try:
            longest = await offered(publisher, range(1, 60), counts)
            await until(lambda: counts.seen[1:2] == [0], what="a message that Redis did not take")
        finally:
            redis.resume()
        print(f"\nlongest call of offer while Redis hung: {longest * 1000:.2f} ms")
        for number in range(100, 160):
            publisher.offer_block(CALL, block(number), counts)
            await asyncio.sleep(0.05)
            if heard.numbers[-1] >= 100:
                break
        assert publisher.dropped >= 50
        assert heard.numbers[0] == 0
        assert heard.numbers[-1] >= 100, "it goes on, with a gap in the numbers"
        assert len([number for number in heard.numbers if 1 <= number < 100]) < 10


async def offered(publisher: AudioPublisher, numbers: range, counts: Callable[[int], None]) -> float:
    """Offer a block every 40 ms; return the longest that took."""
    longest = 0.0
    for number in numbers:
        began = time.monotonic()
        publisher.offer_block(CALL, block(number), counts)
        longest = max(longest, time.monotonic() - began)
        await asyncio.sleep(0.04)
    return longest


async def test_the_queue_of_a_publisher_is_bounded(redis: RedisServer) -> None:
    async with AudioPublisher(redis.settings()) as publisher:
        for number in range(WAITING_MOST + 7):
            publisher.offer_block(CALL, block(number), Counts())
        assert publisher.dropped == 7


async def test_a_listener_that_is_slow_misses_the_oldest_and_sees_it(redis: RedisServer) -> None:
    settings, counts, begun = redis.settings(), Counts(), asyncio.Event()

    async def begin() -> None:
        begun.set()

    async with AudioPublisher(settings) as publisher, aclosing(listen_to(settings, CALL, begin)) as messages:
        first = asyncio.ensure_future(anext(messages))
        await begun.wait()
        publisher.offer_block(CALL, block(0), counts)
        await first
        for number in range(1, 3 * HEARD_MOST):
            publisher.offer_block(CALL, block(number), counts)
        await until(lambda: len(counts.seen) == 3 * HEARD_MOST)
        await asyncio.sleep(0.3)  # while it does something else
        publisher.offer_block(CALL, block(3 * HEARD_MOST, b""), counts)
        numbers = [AudioBlock.unpacked(message).number async for message in messages]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 3 * HEARD_MOST
    assert len(numbers) <= 2 * HEARD_MOST


async def test_a_listener_comes_back_when_redis_was_away_and_asks_again(redis: RedisServer) -> None:
    settings, counts = redis.settings(), Counts()
    heard = Heard()
    async with AudioPublisher(settings) as publisher, running(heard.listen(settings)):
        await until(lambda: heard.begun == 1)
        redis.stop()
        await asyncio.sleep(0.3)
        redis.start()
        await until(lambda: heard.begun == 2, what="a second subscription")
        for number in range(200):
            publisher.offer_block(CALL, block(number), counts)
            await asyncio.sleep(0.02)
            if heard.blocks:
                break
        assert heard.blocks


async def test_what_keeps_the_worker_from_publishing_is_raised_to_the_listener(redis: RedisServer) -> None:
    async def refused() -> None:
        raise LookupError("no such call")

    async with aclosing(listen_to(redis.settings(), CALL, refused)) as messages:
        with pytest.raises(LookupError, match="no such call"):
            await anext(messages)


async def test_a_listener_who_leaves_leaves_nothing_behind(redis: RedisServer) -> None:
    heard = Heard()
    async with running(heard.listen(redis.settings())):
        await until(lambda: heard.begun)
    with redis.client() as client:
        assert client.pubsub_channels() == []
        assert len(client.client_list()) == 1, "this one"


@pytest.mark.parametrize("message", [b"", bytes(7), bytes(9), bytes(11)])
def test_a_message_that_is_no_block_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match="is no block of sound"):
        AudioBlock.unpacked(message)
