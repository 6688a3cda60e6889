"""When garbage is collected. The collector is the real one."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from gateway.worker import garbage
from gateway.worker.garbage import BUSY_EVERY_S, QUIET_S, GarbageCollection

pytestmark = pytest.mark.unit


class Ring:
    """Refers to itself: only the collector frees it."""

    def __init__(self) -> None:
        self.me = self


def old_garbage() -> weakref.ref[Ring]:
    """Return a reference to an object that only a full collection frees."""
    ring = Ring()
    gc.collect(1)
    gc.collect(1)
    assert any(each is ring for each in gc.get_objects(generation=2))
    return weakref.ref(ring)


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    thresholds = gc.get_threshold()
    gc.collect()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


async def test_what_was_built_is_frozen_and_no_full_collection_begins_by_itself() -> None:
    before = gc.get_threshold()
    async with GarbageCollection(lambda: False):
        assert gc.get_freeze_count() > 10_000
        assert len(gc.get_objects(generation=2)) < 1000
        assert gc.get_threshold()[:2] == before[:2]
        assert gc.get_threshold()[2] > 10**6
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == before


async def test_garbage_is_collected_between_calls_and_never_at_once_in_one() -> None:
    busy = False
    async with GarbageCollection(lambda: busy) as collection:
        collection.step(0)
        busy = True
        left = old_garbage()
        collection.step(1)
        assert left() is not None
        busy = False
        collection.step(2)
        assert left() is None


async def test_nothing_is_collected_where_nothing_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    async with GarbageCollection(lambda: False) as collection:
        collection.step(0)
        monkeypatch.setattr(gc, "get_count", lambda: (300, 0, 0))
        left = old_garbage()
        collection.step(1)
        assert left() is not None


async def test_a_process_that_is_never_without_a_call_collects_now_and_then() -> None:
    async with GarbageCollection(lambda: True) as collection:
        collection.step(1000)
        left = old_garbage()
        collection.step(1000 + BUSY_EVERY_S - 1)
        assert left() is not None
        collection.step(1000 + BUSY_EVERY_S)
        assert left() is None


async def test_what_a_reload_thaws_in_a_call_is_frozen_again_and_looked_at_when_no_call_is_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    busy = True
    async with GarbageCollection(lambda: busy) as collection:
        collection.step(1000)
        left = old_garbage()
        gc.unfreeze()
        collection.step(1000 + BUSY_EVERY_S)
        assert left() is not None
        assert gc.get_objects(generation=2) == []
        busy = False
        monkeypatch.setattr(gc, "get_count", lambda: (0, 0, 0))
        collection.step(2000 + BUSY_EVERY_S)
        assert left() is None
        assert gc.get_freeze_count() > 10_000


async def test_however_many_objects_calls_leave_no_garbage_is_kept_while_there_is_always_a_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(garbage, "MOST_OBJECTS", 0)
    async with GarbageCollection(lambda: True) as collection:
        collection.step(1000)
        for turn in range(1, 4):
            left, alive = old_garbage(), Ring()
            collection.step(1000 + turn * BUSY_EVERY_S)
            assert left() is None
            assert alive.me is alive
            assert gc.get_objects(generation=2) == []  # what lives is frozen


async def test_freed_memory_is_returned_once_after_the_last_call(monkeypatch: pytest.MonkeyPatch) -> None:
    returned: list[int] = []
    monkeypatch.setattr(garbage, "_malloc_trim", returned.append)
    busy = True
    async with GarbageCollection(lambda: busy) as collection:
        collection.step(1000)
        collection.step(1000 + QUIET_S)
        busy = False
        collection.step(2000)
        collection.step(2000 + QUIET_S - 1)
        assert returned == []
        collection.step(2000 + QUIET_S)
        collection.step(3000)
        assert returned == [0]
        busy = True
        collection.step(3001)
        busy = False
        collection.step(3002)
        collection.step(3002 + QUIET_S)
    assert returned == [0, 0]


async def test_a_long_pause_in_a_call_is_told_and_one_between_calls_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "PAUSE_TOLD_MS", -1.0)
    busy = False
    with capture_logs() as logs:
        async with GarbageCollection(lambda: busy) as collection:
            gc.collect()
            collection.step(1)
            assert logs == []
            busy = True
            gc.collect(1)
            collection.step(2)
    (told,) = logs
    assert (told["event"], told["generation"]) == ("garbage_collection_paused_calls", 1)


async def test_a_forked_worker_never_thaws_what_it_shares_with_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.freeze()
    monkeypatch.setattr(garbage, "_is_forked", True)
    async with GarbageCollection(lambda: False) as collection:
        assert gc.get_freeze_count() > 10_000
        collection.step(0)
        left = old_garbage()
        collection.step(1)
        assert left() is None, "what came later is collected as ever"
    assert gc.get_freeze_count() > 10_000


def test_a_process_that_was_forked_with_frozen_objects_knows_it() -> None:
    gc.freeze()
    child = os.fork()
    if not child:
        before = gc.get_freeze_count()
        garbage.thaw()
        os._exit(0 if before and gc.get_freeze_count() == before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    garbage.thaw()
    assert gc.get_freeze_count() == 0, "its parent is not"
