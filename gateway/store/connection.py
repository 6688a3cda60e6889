"""The connection to Redis: how it is opened, how long an answer may take, and which errors mean that it is away."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.settings.sections import RedisSettings

COMMAND_LIMIT_S = 1.0
"""A Redis that does not answer in this time is away."""
FIRST_RETRY_S, LAST_RETRY_S = 0.1, 2.0
CANCEL_AGAIN_S = 0.5
AWAY = (RedisError, OSError, EOFError, TimeoutError)


def connect(settings: RedisSettings, *, answer_limit_s: float = COMMAND_LIMIT_S, text: bool = True) -> Redis:
    """
    Return a client that repeats nothing by itself; it connects with its first command.

    Args:
        settings: ``url`` must be set.
        answer_limit_s: how long an answer may take; longer for one who waits inside Redis (BLOCK).
        text: give text; else the bytes as they are.
    """
    if settings.url is None:
        raise ValueError("settings.url is None: start a private server and put its URL there")
    return Redis.from_url(
        str(settings.url),
        decode_responses=text,
        encoding_errors="replace",
        socket_timeout=answer_limit_s,
        socket_connect_timeout=COMMAND_LIMIT_S,
        retry=Retry(NoBackoff(), 0),  # who asks has a rule of its own
    )


async def ask(redis: Redis, *words: str) -> Any:
    """Send one command and return its answer."""
    return await redis.execute_command(*words)  # type: ignore[no-untyped-call]


async def end_task(task: asyncio.Task[None]) -> None:
    """
    Cancel a task, one that waits for Redis too, and wait until it has ended.

    More than once: ``wait_for`` of Python 3.11, which redis-py sends with, may swallow a cancellation.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=CANCEL_AGAIN_S)


def in_words(error: BaseException) -> str:
    """Return what an error says, or its name where it says nothing."""
    return str(error) or type(error).__name__


def whole_ms(seconds: float) -> str:
    """Return a time as Redis takes it: whole milliseconds, at least one."""
    return str(max(1, round(seconds * 1000)))
