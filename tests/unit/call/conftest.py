from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.call.events import Routed
from gateway.store.record import RECORD_FIELDS
from tests.fakes.stage import ROUTED, Stage

STREAM_FIELDS = {
    "began_at",
    "over_at",
    *("text", "item_id", "played_ms", "cut", "interruption_ms", "turn_latency_ms", "detail", "left_s"),
    *("tool_call_id", "name", "arguments", "output", "failed", "took_ms", "target", "digits", "code", "reason"),
    *("digit", "warm", "refused", "second_codec", "with", "on", "seconds", "attempt", "sound"),
    *("owed_for", "why", "tries", "then"),
}


@pytest.fixture
def routed() -> Routed:
    """Limits of the call; a module or class with others overrides this."""
    return ROUTED


@pytest.fixture
def no_collections() -> Iterator[None]:
    """Let reference counting alone free what a call leaves."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
async def stage(routed: Routed, no_collections: None) -> AsyncIterator[Stage]:
    stage = Stage(routed)
    yield stage
    # True of every call, however it ended.
    assert stage.task is not None
    assert stage.task.done()
    assert stage.clock.running == 0
    assert stage.agent.closes == stage.tools.closes == stage.agent.opens
    assert stage.playout.wake is None
    assert stage.recorder.orders[-1:] == ["close"]
    record = stage.store.record()
    assert record.get("state") == "ended" or stage.store.raises
    assert set(record) <= RECORD_FIELDS | STREAM_FIELDS
    assert asyncio.all_tasks() == {asyncio.current_task()}
    if not stage.task.cancelled() and stage.task.exception() is not None:
        return  # the traceback, which the test holds, holds the session
    session = weakref.ref(stage.session)
    stage.task = stage.leg.emit = None
    del stage.session
    assert session() is None  # by reference counting alone
