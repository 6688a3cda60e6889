"""When a session ends by its age."""

from __future__ import annotations

import pytest

from gateway.upstream.core.expiry import Expiry

pytestmark = pytest.mark.unit

NOW = 1_790_000_000.0


def plan(expires_at: int | None, *, before_s: float = 300, goodbye_s: float = 20) -> Expiry | None:
    return Expiry.of(
        expires_at, longest_s=3600, unix_s=NOW, monotonic_s=100.0, roll_over_before_s=before_s, goodbye_s=goodbye_s
    )


def test_an_hour_is_planned_from_its_end() -> None:
    assert plan(int(NOW) + 3600) == Expiry(roll_over_at=3400, hurry_at=3540, goodbye_at=3680, ends_at=3700)


@pytest.mark.parametrize("expires_at", [None, 0])
def test_a_session_without_an_end_is_not_planned(expires_at: int | None) -> None:
    assert plan(expires_at) is None


@pytest.mark.parametrize("off_s", [-5, -7200, 7200])
def test_clocks_that_disagree_do_not_hurry_anybody(off_s: int) -> None:
    expiry = plan(int(NOW) + off_s)

    assert expiry is not None
    assert expiry.ends_at == 3700


def test_a_short_session_is_not_replaced_before_half_of_its_life() -> None:
    assert plan(int(NOW) + 20) == Expiry(roll_over_at=110, hurry_at=110, goodbye_at=110, ends_at=120)
    assert plan(int(NOW) + 20, goodbye_s=4) == Expiry(roll_over_at=110, hurry_at=113, goodbye_at=116, ends_at=120)
