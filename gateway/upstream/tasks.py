"""The background tasks of one agent: started by name, watched for faults, ended together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Tasks:
    """
    Some tasks. Thread: loop.

    Args:
        owner: goes into the names of the tasks.
        on_fault: called with an exception that left a task, and with the task's name.
    """

    def __init__(self, owner: str, on_fault: Callable[[BaseException, str], None]) -> None:
        self._owner = owner
        self._on_fault = on_fault
        self._tasks: set[asyncio.Task[None]] = set()
        self._cancelled = False

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None] | None:
        """Run ``work`` in a task of its own; None, and nothing is run, once all were cancelled."""
        if self._cancelled:
            work.close()
            return None
        task = asyncio.create_task(work, name=f"agent {name} {self._owner}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def cancel_all(self) -> None:
        """Cancel them all; on return none is left, and none will be started."""
        self._cancelled = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._on_fault(fault, task.get_name())
