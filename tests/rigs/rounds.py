"""Measurements on a machine that others use, too, or that is slow."""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable
from typing import ParamSpec

P = ParamSpec("P")

_ROUNDS = 3_000_000
_REFERENCE_S = 0.1


def slowness() -> float:
    """Return how many times as long as on the machine that the limits are for this one computes now; at least 1."""
    began = time.monotonic()
    for _ in range(_ROUNDS):
        pass
    return max(1.0, (time.monotonic() - began) / _REFERENCE_S)


def best_of(rounds: int) -> Callable[[Callable[P, Awaitable[None]]], Callable[P, Awaitable[None]]]:
    """Measure again when a figure is too bad: a busy machine makes figures worse, never better. The last one counts."""

    def mark(test: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
        @functools.wraps(test)
        async def measured(*args: P.args, **kwargs: P.kwargs) -> None:
            for left in reversed(range(rounds)):
                try:
                    await test(*args, **kwargs)
                except AssertionError as fault:
                    if not left:
                        raise
                    print(f"\nonce more, {left} left: {str(fault)[:200]}")
                else:
                    return

        return measured

    return mark
