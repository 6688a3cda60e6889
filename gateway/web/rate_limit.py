"""How often a client may ask. Kept in this process's memory: another process, or a restart, counts from zero."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class TokenBuckets:
    """
    A token bucket for each name: ``per_minute`` requests at once, and as many in every minute after that.

    Args:
        per_minute: size of a bucket, and what flows into it per minute.
        monotonic: seconds that never run backwards.
    """

    def __init__(self, per_minute: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._size = float(per_minute)
        self._per_second = per_minute / 60
        self._monotonic = monotonic
        self._buckets: dict[str, _Bucket] = {}

    def take(self, name: str) -> float:
        """Take a token; return 0, or the seconds until there is one. ``name`` must come from a short list."""
        now = self._monotonic()
        bucket = self._buckets.setdefault(name, _Bucket(self._size, now))
        bucket.tokens = min(self._size, bucket.tokens + (now - bucket.filled_at) * self._per_second)
        bucket.filled_at = now
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self._per_second
        bucket.tokens -= 1
        return 0.0
