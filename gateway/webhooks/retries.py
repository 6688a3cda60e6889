"""What becomes of an attempt to deliver: arrived, to be tried again after a while, or given up. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from gateway.settings.webhooks import WebhooksSettings

FACTOR = 4
GONE = 410
MOST_RETRY_AFTER_S = 86400.0
"""An endpoint that asks for a longer pause is not obeyed further than this."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """
    How an attempt went.

    Attributes:
        status: of the answer; 0 without one.
        detail: why it failed, in words; empty where there was an answer.
        retry_after: that header of the answer.
    """

    status: int
    detail: str = ""
    retry_after: str = ""

    @property
    def arrived(self) -> bool:
        """Whether the endpoint took the message."""
        return 200 <= self.status < 300

    @property
    def problem(self) -> str:
        """Why it failed, in words."""
        if self.detail:
            return self.detail
        if 300 <= self.status < 400:
            return f"answered with a redirect ({self.status}), which is not followed"
        return f"answered {self.status}"


def next_delay_s(
    attempt: Attempt, attempts: int, settings: WebhooksSettings, *, now: float, chance: Callable[[], float]
) -> float | None:
    """
    Return how long to wait after a failed attempt; None: give it up.

    Args:
        attempt: how it went.
        attempts: how many there were.
        settings: the delays.
        now: Unix seconds.
        chance: a number from 0 to 1.
    """
    if attempts >= settings.attempts or attempt.status == GONE:
        return None
    delay_s: float = min(settings.first_retry_s * float(FACTOR) ** min(attempts - 1, 50), settings.last_retry_s)
    delay_s *= 0.5 + 0.5 * chance()  # endpoints that failed together are not to be met by all at once again
    return max(delay_s, _retry_after_s(attempt.retry_after, now))


def _retry_after_s(text: str, now: float) -> float:
    """Return the seconds that a ``Retry-After`` asks for (RFC 9110 section 10.2.3); 0 if it is none."""
    text = text.strip()
    if re.fullmatch(r"\d{1,9}", text, re.ASCII):
        return min(float(text), MOST_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(text[:100])
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - datetime.fromtimestamp(now, UTC)).total_seconds()), MOST_RETRY_AFTER_S)
