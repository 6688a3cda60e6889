"""How many refusals of unknown clients are written down."""

from __future__ import annotations

import time

from gateway.rate_limit import TokenBuckets

STRANGERS_PER_MINUTE = 60
"""Refusals of unknown clients that are audited; more are counted in the next one's log line."""


class Strangers:
    """Keeps those without a token from pushing the others' entries out of the stream, or filling the log."""

    def __init__(self) -> None:
        self._buckets = TokenBuckets.per_minute(STRANGERS_PER_MINUTE)
        self.untold = 0

    def may_be_told(self) -> bool:
        """Whether one more may be written down; counts those that may not."""
        if self._buckets.take("", time.monotonic()):
            return True
        self.untold += 1
        return False
