"""Tests that play the part of another thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from gateway.threads import ThreadRole, current_role, enter_role

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def playing(role: ThreadRole) -> Iterator[None]:
    """Have the current thread play another one inside the ``with`` block."""
    before = current_role()
    enter_role(role)
    try:
        yield
    finally:
        enter_role(before)


async def on_clock(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call ``function`` on a thread that plays the clock."""

    def run() -> R:
        enter_role("clock")
        return function(*args, **kwargs)

    return await asyncio.to_thread(run)
