"""
When the next worker may be started after some died at their start. Pure: times are arguments.

A worker that served for a while and died is replaced at once. Workers that die before they are ready, or soon after,
one after another, are started at ever longer intervals; after ``LOOP`` of them the fleet is in a crash loop: what
kills them will not go away by itself.
"""

from __future__ import annotations

SOON_S = 10.0
"""A worker that was ready for less than this died at its start."""
FIRST_DELAY_S, LAST_DELAY_S = 0.5, 30.0
LOOP = 5
"""Deaths at the start, one after another."""


class Restarts:
    """The deaths of a fleet's workers."""

    def __init__(self) -> None:
        self._early = 0
        self._not_before = 0.0

    def died(self, now: float, served_s: float | None) -> None:
        """
        Note that a worker died without being asked to.

        Args:
            now: monotonic seconds.
            served_s: how long it was ready; None if it never was.
        """
        if served_s is not None and served_s >= SOON_S:
            return
        self._early += 1
        self._not_before = now + min(FIRST_DELAY_S * 2 ** (self._early - 1), LAST_DELAY_S)

    def served(self, served_s: float) -> None:
        """Note how long the worker that started last has been ready."""
        if served_s >= SOON_S:
            self._early = 0

    def delay_s(self, now: float) -> float:
        """Return how long to wait before the next start."""
        return max(0.0, self._not_before - now)

    @property
    def is_loop(self) -> bool:
        """Whether workers die again and again at their start."""
        return self._early >= LOOP
