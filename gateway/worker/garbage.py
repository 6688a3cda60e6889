"""
When Python's garbage collector runs, so that it does not stop the audio.

A collection holds the interpreter, and PJMEDIA's clock needs it fifty times a second for each call. A full one looks at
every object of the process: 100 to 200 ms for what a gateway is built of, heard by all callers. So:

- what is built at the start is frozen: no later collection looks at it (``gc.freeze``);
- the two young generations are collected as ever, by count: 1 to 4 ms;
- a full collection never begins by itself, but here: between calls, or every ten seconds while there is always one. It
  looks at what has come since, few objects: an ended call frees what is its own without it. What is still alive then is
  frozen, too, where it is much; what a reload of the plan has thawed is frozen again at once. The garbage of the ten
  seconds before a reload is therefore kept until no call is up; no other is.

A worker of a fleet is forked from a parent that has frozen what it imported (``fleet/nursery.py``), and shares those
pages until it writes to them. A collection writes to every object it looks at, so what was frozen before the fork is
never thawed, and what such a worker freezes stays frozen with it. That keeps no garbage that a process by itself would
not keep, but for cycles that were frozen: a plan that is replaced has none.

What is freed stays with the C library, which seldom returns it to the system: it is told to, when no call was up for a
while.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import math
import os
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import structlog

EVERY_S = 1.0
IDLE_EVERY_S = 10.0
"""The same while no call is up: an idle worker wakes seldom."""
BUSY_EVERY_S = 10.0
MOST_OBJECTS = 20_000
"""Objects that may live and be looked at again and again while calls are up: about 10 ms each time."""
PAUSE_TOLD_MS = 50.0
QUIET_S = 40.0
"""Without a call, until freed memory is returned: the SIP library keeps 30 kB of each call for 32 s after its end."""
_NEVER = 1_000_000_000  # collections of the middle generation

_is_forked = False  # what was frozen before is shared with the parent

_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone

_log = structlog.get_logger(__name__)


def thaw() -> None:
    """Let the next full collection look at what is frozen, unless that would copy what is shared with the parent."""
    if not _is_forked:
        gc.unfreeze()


def _note_fork() -> None:
    global _is_forked
    _is_forked = gc.get_freeze_count() > 0


os.register_at_fork(after_in_child=_note_fork)


class GarbageCollection:
    """
    Takes the full collections of this process into its hands inside the ``async with`` block.

    Args:
        is_busy: tells whether any call is up.

    Thread: loop. Collections of the young generations run on whichever thread allocates.
    """

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        self._is_busy = is_busy
        self._thresholds = gc.get_threshold()
        self._frozen_unseen = True  # the frozen objects may hold garbage
        self._full_at: float | None = None
        self._quiet_from: float | None = None  # infinite once memory was returned
        self._began_at = 0.0
        self._longest = (0.0, 0)  # milliseconds, generation
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Freeze what there is. Enter when everything is built."""
        gc.callbacks.append(self._measure)
        gc.set_threshold(*self._thresholds[:2], _NEVER)
        self._between_calls()
        self._task = asyncio.create_task(self._run(), name="garbage")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the collector as it was found."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        thaw()
        gc.set_threshold(*self._thresholds)
        gc.callbacks.remove(self._measure)

    def step(self, now: float) -> None:
        """Do what is due. ``now``: monotonic seconds."""
        _, young, middle = gc.get_count()  # objects; collections of the generation below since the last of this one
        if self._full_at is None:
            self._full_at = now
        if self._is_busy():
            self._quiet_from = None
            self._tell_pause()
            if now - self._full_at >= BUSY_EVERY_S:
                self._in_calls()
                self._full_at = now
        else:
            if young or middle or self._frozen_unseen:
                self._between_calls()
                self._full_at = now
            self._return_memory(now)
        self._longest = (0.0, 0)

    async def _run(self) -> None:
        while True:
            self.step(time.monotonic())
            await asyncio.sleep(EVERY_S if self._is_busy() else IDLE_EVERY_S)

    def _between_calls(self) -> None:
        everything = self._frozen_unseen or len(gc.get_objects(generation=2)) > MOST_OBJECTS
        if everything:
            thaw()
        gc.collect()
        if everything:
            gc.freeze()
            self._frozen_unseen = False

    def _in_calls(self) -> None:
        # A reload of the plan thaws all that the process is built of, nearly all alive. Counting what is frozen walks
        # through all of it, several milliseconds of cold memory: only where so much is not frozen.
        many = len(gc.get_objects(generation=2)) > MOST_OBJECTS
        thawed = many and not gc.get_freeze_count()
        if not thawed:
            gc.collect()
        if thawed or len(gc.get_objects(generation=2)) > MOST_OBJECTS:
            gc.freeze()
            self._frozen_unseen = True

    def _return_memory(self, now: float) -> None:
        """Return freed memory to the system, once, when no call was up for ``QUIET_S``; 1 ms."""
        if self._quiet_from is None:
            self._quiet_from = now
        elif now - self._quiet_from >= QUIET_S:
            self._quiet_from = math.inf
            if _malloc_trim is not None:
                _malloc_trim(0)

    def _measure(self, phase: str, info: Mapping[str, int]) -> None:
        """Note how long a collection took. Any thread, so no log here."""
        if phase == "start":
            self._began_at = time.perf_counter()
        else:
            self._longest = max(self._longest, ((time.perf_counter() - self._began_at) * 1000, info["generation"]))

    def _tell_pause(self) -> None:
        pause_ms, generation = self._longest
        if pause_ms > PAUSE_TOLD_MS:
            _log.warning("garbage_collection_paused_calls", pause_ms=round(pause_ms), generation=generation)
