"""Token buckets, one for each source, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from typing import Self


class TokenBuckets:
    """
    A token bucket for each key: ``burst`` requests at once, then ``rate`` a second. Takes the time, reads no clock.

    With a ``debt``, requests that are refused cost tokens too: a flood stays shut out as a whole until it calms down,
    instead of getting through at the permitted rate.

    Args:
        rate: tokens a second.
        burst: tokens of a full bucket; at least 1.
        debt: how far below zero refused requests can take a bucket; None when they cost nothing.
        remembered: keys kept; the one unused for longest is forgotten, and starts with a full bucket again.
    """

    def __init__(self, rate: float, burst: float, debt: float | None = 0, remembered: int = 4096) -> None:
        self._rate = rate
        self._burst = max(1.0, burst)
        self._debt = debt
        self._remembered = remembered
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @classmethod
    def per_minute(cls, limit: int) -> Self:
        """Return buckets for ``limit`` requests at once and as many in each minute after; refusals cost nothing."""
        return cls(limit / 60, limit, debt=None)

    def take(self, key: str, now: float) -> bool:
        """Take a token of ``key`` at ``now`` (seconds); False when there is none."""
        tokens = self._tokens(key, now)
        granted = tokens >= 1
        if granted:
            tokens -= 1
        elif self._debt is not None:
            tokens = max(tokens - 1, -self._debt)
        self._buckets[key] = (tokens, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._remembered:
            self._buckets.popitem(last=False)
        return granted

    def wait_s(self, key: str, now: float) -> float:
        """Return the seconds until there is a token of ``key``; 0 when there is one."""
        return max(0.0, 1 - self._tokens(key, now)) / self._rate

    def _tokens(self, key: str, now: float) -> float:
        tokens, at = self._buckets.get(key, (self._burst, now))
        return min(self._burst, tokens + (now - at) * self._rate)
