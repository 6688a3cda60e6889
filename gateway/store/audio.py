"""
The sound of live calls on its way through Redis: published by the worker that has the call, heard wherever.

::

    worker                                              gateway web
    AudioPublisher -- PUBLISH {gateway}:audio:{call_id} --> listen_to(call_id)   a block each 40 ms, both sides
                   -- PUBLISH {gateway}:levels          --> follow_levels()      how loud each call is, each 250 ms

Channels keep nothing, so what nobody hears is gone, and the answer to each PUBLISH says how many heard it: that is how
a worker learns when to stop. Blocks are numbered; a gap in the numbers is sound that was lost on the way.

``AudioPublisher.offer`` never waits. Its queue is bounded: while Redis is away or slow the oldest messages are dropped,
and what was meant for then is not sent later. The readers subscribe again, for ever, when Redis was away; each time,
before they wait for sound, they call ``begin``, which has the worker asked (again) to publish.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import NamedTuple, Self

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from gateway.ids import CallId
from gateway.settings.sections import RedisSettings
from gateway.store.connection import (
    AWAY,
    COMMAND_LIMIT_S,
    FIRST_RETRY_S,
    LAST_RETRY_S,
    connect,
    end_task,
    in_words,
)
from gateway.store.keys import key_of
from gateway.threads import runs_on

HEADER = struct.Struct("!II")
"""What a block begins with: its number, and the milliseconds from the call's answer to its first sample."""

WAITING_MOST = 200
"""Messages that wait for Redis: two seconds of the sound of four calls."""

HEARD_MOST = 50
"""Blocks that wait for a slow listener: two seconds."""

SILENCE_S = 5.0
"""A subscription without a message for this long is asked whether it still stands."""

Heard = Callable[[int], None]
"""Takes how many received a message. Thread: loop."""

_log = structlog.get_logger(__name__)


class AudioBlock(NamedTuple):
    """
    A block as it is published.

    Attributes:
        number: counts up by one through the call, from 0.
        at_ms: from the call's answer to the first sample; 0 before the answer.
        pcm: signed 16-bit little-endian, 8 kHz, left the caller, right what the caller hears; empty: the last one.
    """

    number: int
    at_ms: int
    pcm: bytes

    def packed(self) -> bytes:
        """Return the message."""
        return HEADER.pack(self.number % 2**32, min(self.at_ms, 2**32 - 1)) + self.pcm

    @classmethod
    def unpacked(cls, message: bytes) -> Self:
        """Read a message. Raises ``ValueError`` if it is none."""
        if len(message) < HEADER.size or (len(message) - HEADER.size) % 4:
            raise ValueError(f"a message of {len(message)} bytes is no block of sound")
        number, at_ms = HEADER.unpack_from(message)
        return cls(number, at_ms, message[HEADER.size :])


def audio_channel(prefix: str, call_id: str) -> str:
    """Return the channel of a call's sound."""
    return key_of(prefix, "audio", call_id)


def levels_channel(prefix: str) -> str:
    """Return the channel of all workers' levels."""
    return key_of(prefix, "levels")


class _Message(NamedTuple):
    channel: str
    data: bytes
    heard: Heard


class AudioPublisher:
    """
    Sends messages to channels inside its ``async with`` block, and says how many received each. Thread: loop.

    It connects with its first message, and does nothing while there is none.

    Args:
        settings: where Redis is, and the prefix; ``url`` must be set.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._redis: Redis | None = None
        self._waiting: deque[_Message] = deque(maxlen=WAITING_MOST)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0
        """Messages that were never sent: the queue was full, or Redis away."""

    async def __aenter__(self) -> Self:
        """Get ready."""
        self._redis = connect(self._settings)
        self._task = asyncio.create_task(self._send_all(self._redis), name="audio publisher")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop what waits, and let go of Redis."""
        if self._task is not None:
            await end_task(self._task)
        if self._redis is not None:
            await self._redis.aclose()

    @runs_on("loop")
    def offer_block(self, call_id: CallId, block: AudioBlock, heard: Heard) -> None:
        """Publish a block of a call's sound; see ``offer``."""
        self.offer(audio_channel(self._settings.prefix, call_id), block.packed(), heard)

    @runs_on("loop")
    def offer_levels(self, worker: str, levels: dict[CallId, tuple[float, float]], heard: Heard) -> None:
        """Publish how loud each call of a worker is, caller and agent in dBFS; see ``offer``."""
        told = json.dumps({"worker": worker, "calls": levels}, separators=(",", ":"))
        self.offer(levels_channel(self._settings.prefix), told.encode(), heard)

    @runs_on("loop")
    def offer(self, channel: str, data: bytes, heard: Heard) -> None:
        """
        Publish ``data``; never waits. ``heard`` is called later, with 0 if Redis does not answer.

        It is not called for a message that never leaves the queue.
        """
        if len(self._waiting) == self._waiting.maxlen:
            self.dropped += 1
        self._waiting.append(_Message(channel, data, heard))
        self._wake.set()

    async def _send_all(self, redis: Redis) -> None:
        delay_s = 0.0
        while True:
            await self._wake.wait()
            try:
                while self._waiting:
                    message = self._waiting.popleft()
                    message.heard(await self._send(redis, message))
                delay_s = 0.0
            except AWAY as error:
                if not delay_s:
                    _log.warning("sound_not_published", error=in_words(error))
                message.heard(0)
                self.dropped += 1
                delay_s = min(max(FIRST_RETRY_S, 2 * delay_s), LAST_RETRY_S)
                await asyncio.sleep(delay_s)
                self.dropped += len(self._waiting)
                self._waiting.clear()  # nobody wants to hear now what was said then
            if not self._waiting:
                self._wake.clear()

    @staticmethod
    async def _send(redis: Redis, message: _Message) -> int:
        async with asyncio.timeout(2 * COMMAND_LIMIT_S):
            return int(await redis.publish(message.channel, message.data))


async def _nothing() -> None:
    """Ask nobody."""


async def listen_to(
    settings: RedisSettings, call_id: str, begin: Callable[[], Awaitable[object]] = _nothing
) -> AsyncGenerator[bytes]:
    """
    Give a call's sound as it is published, block by block (``AudioBlock``); ends with the call.

    A listener that is too slow misses the oldest blocks. Use ``contextlib.aclosing``. Thread: loop.

    Args:
        settings: where Redis is, and the prefix; ``url`` must be set.
        call_id: which call.
        begin: has the call's worker asked to publish; called whenever the subscription stands. What it raises is
            raised here.
    """
    waiting: deque[bytes] = deque(maxlen=HEARD_MOST)
    wake = asyncio.Event()

    async def collect() -> None:
        async with aclosing(_messages(settings, audio_channel(settings.prefix, call_id), begin)) as messages:
            async for message in messages:
                waiting.append(message)
                wake.set()

    def ended(_: asyncio.Task[None]) -> None:
        wake.set()

    collecting = asyncio.create_task(collect(), name=f"listening to {call_id}")
    collecting.add_done_callback(ended)
    try:
        while True:
            await wake.wait()
            wake.clear()
            while waiting:
                message = waiting.popleft()
                yield message
                if len(message) <= HEADER.size:
                    return
            if collecting.done():
                collecting.result()
                return
    finally:
        await end_task(collecting)


async def follow_levels(settings: RedisSettings) -> AsyncGenerator[dict[str, tuple[float, float]]]:
    """
    Give how loud calls are: call id -> level of the caller and of what the caller hears, in dBFS.

    Each of these is of one worker: those of all are heard in turn, four times a second each. The first come some
    seconds after this has begun. Never ends. Use ``contextlib.aclosing``. Thread: loop.
    """
    async with aclosing(_messages(settings, levels_channel(settings.prefix), _nothing)) as messages:
        async for message in messages:
            yield {
                call: (float(caller), float(agent)) for call, (caller, agent) in json.loads(message)["calls"].items()
            }


async def _messages(
    settings: RedisSettings, channel: str, begin: Callable[[], Awaitable[object]]
) -> AsyncGenerator[bytes]:
    redis = connect(settings, text=False)
    delay_s, away = FIRST_RETRY_S, False
    try:
        while True:
            news = redis.pubsub()
            try:
                await news.subscribe(channel)
                async with asyncio.timeout(2 * COMMAND_LIMIT_S):
                    while await news.get_message(timeout=COMMAND_LIMIT_S) is None:
                        pass
                delay_s, away = FIRST_RETRY_S, False
                await begin()
                while True:
                    yield await _next_message(news)
            except AWAY as error:
                if not away:
                    _log.warning("sound_not_heard", error=in_words(error))
                away = True
            finally:
                await news.aclose()  # type: ignore[no-untyped-call]
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, LAST_RETRY_S)
    finally:
        await redis.aclose()


async def _next_message(news: PubSub) -> bytes:
    """Wait for a message, however long; raises one of ``AWAY`` when Redis does not answer any more."""
    asked = False
    while True:
        message = await news.get_message(ignore_subscribe_messages=True, timeout=SILENCE_S)
        if message is not None and message["type"] == "message":
            return bytes(message["data"])
        if message is not None:  # the answer to our question
            asked = False
        elif asked:
            raise TimeoutError(f"Redis has said nothing for {2 * SILENCE_S:g} s")
        else:
            await news.ping()
            asked = True
