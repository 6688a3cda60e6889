"""Counters and histograms in a hash of Redis, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.metrics import definitions as of
from gateway.metrics.fields import Increments, added, figures_of, observed

pytestmark = pytest.mark.unit


def hash_of(increments: Iterable[Increments]) -> dict[str, str]:
    total: Counter[str] = Counter()
    for each in increments:
        total.update(each)
    return {field: str(amount) for field, amount in total.items()}


def test_a_counter_comes_back_with_its_labels() -> None:
    told = [
        added(of.CALLS_ENDED, "no_rtp", "carrier", "inbound"),
        added(of.CALLS_ENDED, "no_rtp", "carrier", "inbound"),
    ]
    assert figures_of(hash_of(told))[of.CALLS_ENDED].counted == {("no_rtp", "carrier", "inbound"): 2}


def test_fractions_are_kept_in_millionths() -> None:
    assert added(of.COST, amount=0.0000015) == {"gateway_cost_dollars_total": 2}
    assert figures_of(hash_of([added(of.COST, amount=0.1)] * 10))[of.COST].counted == {(): 1.0}


def test_a_value_that_is_not_listed_is_another() -> None:
    stranger = "+4930123456 a name\nthat grows"
    assert added(of.UPSTREAM_ERRORS, stranger) == {"gateway_upstream_errors_total other": 1}


@given(st.lists(st.floats(0, 100), min_size=1))
def test_a_histogram_counts_each_observation_once_and_adds_them_up(seconds: list[float]) -> None:
    figures = figures_of(hash_of(observed(of.TURN_LATENCY, each) for each in seconds))[of.TURN_LATENCY]
    buckets = figures.buckets[()]
    assert [*buckets] == [*(f"{bound:g}" for bound in of.TURN_LATENCY.buckets), "+Inf"]
    assert buckets["+Inf"] == len(seconds)
    for bound in of.TURN_LATENCY.buckets:
        assert buckets[f"{bound:g}"] == sum(each <= bound for each in seconds)
    assert figures.sums[()] == pytest.approx(sum(seconds), abs=1e-6 * len(seconds))


def test_what_another_version_counted_is_left_out() -> None:
    flat = {
        "gateway_gone_total": "3",
        "gateway_turn_latency_seconds le=0.123": "3",
        "gateway_calls_ended_total no_rtp": "3",
        "gateway_cost_dollars_total": "much",
        "gateway_live_calls active inbound": "3",
        "": "3",
    }
    assert all(not (each.counted or each.buckets or each.sums) for each in figures_of(flat).values())


def test_the_labels_must_be_those_of_the_metric() -> None:
    with pytest.raises(ValueError, match="gateway_calls_started_total"):
        added(of.CALLS_STARTED)
