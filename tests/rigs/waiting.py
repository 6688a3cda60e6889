"""Waiting for something that another task, thread or process does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

LIMIT_S = 40.0


async def until(condition: Callable[[], object], limit_s: float = LIMIT_S, what: str = "") -> None:
    """Wait until ``condition()`` is true, looking every 10 ms; fail after the limit, naming ``what`` did not come."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"not within {limit_s:g} s: {what or condition}"
        await asyncio.sleep(0.01)
