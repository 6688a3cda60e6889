from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.sessions.record import RECORD_FIELDS
from tests.fakes.stage import Stage

STREAM_FIELDS = {"text", "item_id", "played_ms"}


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    # True of every call, however it ended.
    assert stage.task is not None
    assert stage.task.done()
    assert stage.clock.running == 0
    assert stage.agent.closes == stage.agent.opens
    record = stage.store.record()
    assert record.get("state") == "ended" or stage.store.raises
    assert set(record) <= RECORD_FIELDS | STREAM_FIELDS
    assert asyncio.all_tasks() == {asyncio.current_task()}
