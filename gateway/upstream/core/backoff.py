"""How long to wait before the next attempt: exponential, with full jitter, so that calls do not all come at once."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """
    Delays between attempts: random from 0 to a ceiling that doubles.

    Args:
        first_s: ceiling of the first delay.
        last_s: no ceiling is higher.
        draw: gives a number between two.
    """

    def __init__(self, first_s: float, last_s: float, draw: Callable[[float, float], float] = random.uniform) -> None:
        self._first_s = first_s
        self._last_s = last_s
        self._draw = draw
        self._ceiling_s = first_s

    def next_s(self, floor_s: float = 0.0) -> float:
        """Return the next delay in seconds, never below ``floor_s`` (what the service asked for)."""
        ceiling_s = min(self._ceiling_s, self._last_s)
        self._ceiling_s = min(2 * ceiling_s, self._last_s)
        return max(floor_s, self._draw(0.0, ceiling_s))

    def reset(self) -> None:
        """Reset: a session was ready and stayed so, so the service works."""
        self._ceiling_s = self._first_s
