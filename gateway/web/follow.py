"""Server-sent events: sources merged into one stream that ends with the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

from anyio import CancelScope
from fastapi.sse import ServerSentEvent

from gateway.errors import StoreError
from gateway.store.connection import end_task

WAITING = 64
"""Events that wait for a slow client; the sources wait after that."""
LONGEST_S = 3600.0
"""A stream ends after this time, and the client's next one is authorized anew; browsers reconnect by themselves."""


@asynccontextmanager
async def merged(
    *sources: AsyncGenerator[ServerSentEvent], stopping: asyncio.Event
) -> AsyncGenerator[AsyncIterator[ServerSentEvent]]:
    """
    Give the events of all sources as they come, until one of them ends, Redis is away, or the server stops.

    Use as ``async with``, so that the sources are closed with the stream.
    """
    queue: asyncio.Queue[ServerSentEvent | None] = asyncio.Queue(WAITING)
    tasks = [asyncio.create_task(_pump(source, queue), name="event source") for source in sources]
    tasks.append(asyncio.create_task(_end_at_stop(stopping, queue), name="event stop"))
    events = _until_end(queue)
    try:
        yield events
    finally:
        with CancelScope(shield=True):  # the request is cancelled when its client goes away, again at every await
            await events.aclose()
            for task in tasks:
                await end_task(task)


async def _pump(source: AsyncGenerator[ServerSentEvent], queue: asyncio.Queue[ServerSentEvent | None]) -> None:
    with suppress(StoreError):  # the client asks again, and is told that Redis is away
        async with aclosing(source):
            async for event in source:
                await queue.put(event)
    await queue.put(None)


async def _end_at_stop(stopping: asyncio.Event, queue: asyncio.Queue[ServerSentEvent | None]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(LONGEST_S):
            await stopping.wait()
    await queue.put(None)


async def _until_end(queue: asyncio.Queue[ServerSentEvent | None]) -> AsyncGenerator[ServerSentEvent]:
    while (event := await queue.get()) is not None:
        yield event
