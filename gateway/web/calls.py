"""Calls: those that are live, one of them, and what happens in it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field

from gateway.store.audio import follow_levels
from gateway.store.reader import Entry
from gateway.store.record import CallRecord
from gateway.web.auth import allowed
from gateway.web.errors import ApiError, problem_responses
from gateway.web.follow import merged
from gateway.web.services import Served, Services
from gateway.web.tokens import Client
from gateway.web.views import CallView, typed, view_of

READ = [allowed("read")]
ENDED = "ended"
FIRST = "0"
FROM_NOW = "$"
EVENT_ID = r"^[0-9]{1,15}(-[0-9]{1,19})?$"
"""Of an entry of a stream in Redis."""

CallPath = Annotated[
    str,
    Path(
        pattern=r"^[0-9A-Za-z_.-]{1,64}$", description="the gateway's id of a call", examples=["0197c0ffee0a1b2c3d4e5f"]
    ),
]

router = APIRouter(tags=["calls"], responses=problem_responses(404))


class LiveCalls(BaseModel):
    """The live calls of all workers, oldest first."""

    calls: list[CallView]


class EventView(BaseModel):
    """One event of a call: its id in the stream, what happened, when, and more fields of its kind."""

    model_config = ConfigDict(extra="allow")

    id: str
    event: str = ""
    call_id: str = ""
    at: float | str = Field("", description="when it happened, Unix seconds")


class Events(BaseModel):
    """Events of a call after an id; ``next`` is the id to ask for next."""

    events: list[EventView]
    next: str


async def call_of(services: Served, call_id: CallPath) -> CallRecord:
    """Return the call that a path names. Raises ``ApiError``, 404."""
    record = await services.reader.call(call_id)
    if record is None:
        raise ApiError(404, "unknown_call", "there is no such call, or its record has expired")
    return record


KnownCall = Annotated[CallRecord, Depends(call_of)]


@router.get("/v1/calls", dependencies=READ, response_model_exclude_none=True)
async def live_calls(services: Served) -> LiveCalls:
    """Return the live calls of all workers."""
    return LiveCalls(calls=[view_of(record) for record in await services.reader.live_calls()])


async def _slot(services: Served, client: Annotated[Client, allowed("read")]) -> AsyncIterator[None]:
    with services.streams.taken_by(client.name):
        yield


STREAM = [Depends(_slot)]
LastEventId = Annotated[
    str | None, Header(description="id of the last event that came, to go on after it", pattern=EVENT_ID)
]


@router.get("/v1/calls/stream", dependencies=STREAM, response_class=EventSourceResponse)
async def stream_calls(services: Served, last_event_id: LastEventId = None) -> AsyncIterable[ServerSentEvent]:
    """
    Follow all calls: an event `call` for each change, with the fields of the record that changed.

    While this is open, an event `levels` has the levels of both sides of each call in dBFS, four times a second.
    """
    async with merged(
        _changes(services, last_event_id or FROM_NOW), _levels(services), stopping=services.stopping
    ) as events:
        async for event in events:
            yield event


async def _changes(services: Services, after: str) -> AsyncGenerator[ServerSentEvent]:
    async with aclosing(services.reader.follow_events(None, after)) as entries:
        async for entry in entries:
            yield _sent(entry, "call")


async def _levels(services: Services) -> AsyncGenerator[ServerSentEvent]:
    async with aclosing(follow_levels(services.redis)) as levels:
        async for each in levels:
            yield ServerSentEvent(data=each, event="levels")


@router.get("/v1/calls/{call_id}", dependencies=READ, response_model_exclude_none=True)
async def one_call(record: KnownCall) -> CallView:
    """Return a call, live or ended."""
    return view_of(record)


@router.get("/v1/calls/{call_id}/events", dependencies=READ)
async def events_of_call(
    services: Served,
    record: KnownCall,
    after: Annotated[str, Query(description="id of the last event that is known", pattern=EVENT_ID)] = FIRST,
) -> Events:
    """Return what happened in a call so far, oldest first."""
    entries = await services.reader.events_of(record.call_id, after)
    views = [EventView(id=entry.id, **typed(entry.fields)) for entry in entries]
    return Events(events=views, next=entries[-1].id if entries else after)


@router.get("/v1/calls/{call_id}/events/stream", dependencies=STREAM, response_class=EventSourceResponse)
async def stream_events_of_call(
    services: Served, record: KnownCall, last_event_id: LastEventId = None
) -> AsyncIterable[ServerSentEvent]:
    """Follow a call from its beginning, or after `Last-Event-ID`, to its end: one event for each that happens."""
    async with merged(_events(services, record.call_id, last_event_id or FIRST), stopping=services.stopping) as events:
        async for event in events:
            yield event


async def _events(services: Services, call_id: str, after: str) -> AsyncGenerator[ServerSentEvent]:
    async with aclosing(services.reader.follow_events(call_id, after)) as entries:
        async for entry in entries:
            yield _sent(entry, "event")


def _sent(entry: Entry, kind: str) -> ServerSentEvent:
    fields: dict[str, Any] = {"id": entry.id, **typed(entry.fields)}
    return ServerSentEvent(raw_data=json.dumps(fields, ensure_ascii=False), event=kind, id=entry.id)
