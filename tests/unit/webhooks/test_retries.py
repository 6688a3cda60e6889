"""What becomes of an attempt."""

from __future__ import annotations

import pytest

from gateway.settings.webhooks import WebhooksSettings
from gateway.webhooks.retries import MOST_RETRY_AFTER_S, Attempt, next_delay_s

pytestmark = pytest.mark.unit

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
SETTINGS = WebhooksSettings()


def delay(attempt: Attempt, attempts: int = 1, chance: float = 1.0) -> float | None:
    return next_delay_s(attempt, attempts, SETTINGS, now=NOW, chance=lambda: chance)


def test_the_delay_grows_to_its_limit_and_ends_after_the_last_attempt() -> None:
    delays = [delay(Attempt(500), attempts) for attempts in range(1, 13)]
    assert delays == [5, 20, 80, 320, 1280, 3600, 3600, 3600, 3600, 3600, 3600, None]


def test_chance_shortens_a_delay_by_half_at_most() -> None:
    assert (delay(Attempt(500), 3, 0.0), delay(Attempt(500), 3, 0.5)) == (40, 60)


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("1", 5),
        ("Tue, 14 Nov 2023 22:15:20 GMT", 120),
        ("Tue, 14 Nov 2023 22:15:20", 120),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 5),
        ("999999999", MOST_RETRY_AFTER_S),
        ("Tue, 14 Nov 2099 22:00:00 GMT", MOST_RETRY_AFTER_S),
        ("", 5),
        ("soon", 5),
        ("-5", 5),
        ("1e9", 5),
        ("٣", 5),
        ("9" * 5000, 5),
        ("Tue, 99 Nov 2023 99:99:99 GMT", 5),
    ],
)
def test_a_pause_that_is_asked_for_counts_if_it_is_one(asked: str, seconds: float) -> None:
    assert delay(Attempt(503, retry_after=asked)) == seconds


def test_an_endpoint_that_is_gone_is_given_up() -> None:
    assert delay(Attempt(410)) is None


@pytest.mark.parametrize(
    ("attempt", "arrived", "problem"),
    [
        (Attempt(204), True, "answered 204"),
        (Attempt(302), False, "answered with a redirect (302), which is not followed"),
        (Attempt(404), False, "answered 404"),
        (Attempt(0, "no answer within 5 s"), False, "no answer within 5 s"),
    ],
)
def test_only_a_2xx_has_arrived(attempt: Attempt, arrived: bool, problem: str) -> None:
    assert (attempt.arrived, attempt.problem) == (arrived, problem)
