"""Token buckets, one for each source, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict


class Buckets:
    """
    A token bucket for each key: a burst, then a rate per second. No I/O.

    Who goes on beyond that gets into debt, and must be calm until it is paid: a flood stays shut out as a whole,
    instead of getting through at the rate that is allowed.

    Args:
        rate: tokens a second.
        burst: tokens of a full bucket; at least 1.
        debt: the most tokens a bucket can lack.
        remembered: keys kept; the one unused for longest is forgotten, and starts with a full bucket again.
    """

    def __init__(self, rate: float, burst: float, debt: float = 0, remembered: int = 4096) -> None:
        self._rate = rate
        self._burst = max(1.0, burst)
        self._debt = debt
        self._remembered = remembered
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now: float) -> bool:
        """Take a token of ``key`` at ``now`` (seconds); False when there is none."""
        tokens, at = self._buckets.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        granted = tokens >= 1
        tokens = tokens - 1 if granted else max(tokens - 1, -self._debt)
        self._buckets[key] = (tokens, now)
        if len(self._buckets) > self._remembered:
            self._buckets.popitem(last=False)
        return granted

    def __len__(self) -> int:
        return len(self._buckets)
