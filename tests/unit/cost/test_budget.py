from __future__ import annotations

import pytest

from gateway.cost.budget import Ceiling, own_ceiling, reached

pytestmark = pytest.mark.unit

OWN, DAY = Ceiling(0.5, "max_usd 0.5"), Ceiling(0.4, "usd_per_day 20")


def test_a_call_may_cost_the_least_of_what_its_route_and_the_settings_say() -> None:
    assert own_ceiling(None, None) is None
    assert own_ceiling(0.5, None) == OWN
    assert own_ceiling(0.5, 2) == OWN
    assert own_ceiling(3, 2) == Ceiling(2, "cost.max_usd 2")


def test_the_lowest_ceiling_is_reached_first() -> None:
    assert reached(0.39, (OWN, DAY)) is None
    assert reached(0.4, (OWN, None, DAY)) == DAY
    assert reached(0.6, (OWN, DAY)) == DAY
    assert reached(0.45, (OWN,), 0.9) == OWN
    assert reached(0.0, (Ceiling(0, "max_usd 0"),)) == Ceiling(0, "max_usd 0")
    assert reached(9.0, (None,)) is None


def test_a_ceiling_in_whole_micro_dollars_is_reached_although_sums_are_not_exact() -> None:
    spent = sum([0.01] * 11)
    assert spent < 0.11
    assert reached(spent, (Ceiling(0.11, "usd_per_day 1"),)) is not None
    assert reached(0.109999, (Ceiling(0.11, "usd_per_day 1"),)) is None
