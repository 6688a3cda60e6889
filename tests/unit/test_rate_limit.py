from __future__ import annotations

import pytest

from gateway.rate_limit import TokenBuckets

pytestmark = pytest.mark.unit


def test_a_bucket_gives_what_it_holds_and_then_says_how_long_to_wait() -> None:
    buckets = TokenBuckets.per_minute(6)
    assert all(buckets.take("shop", 100.0) for _ in range(6))
    assert not buckets.take("shop", 100.0)
    assert buckets.wait_s("shop", 100.0) == pytest.approx(10)
    assert buckets.take("portal", 100.0)
    assert not buckets.take("shop", 105.0)
    assert buckets.wait_s("shop", 105.0) == pytest.approx(5), "a refusal cost nothing"
    assert buckets.take("shop", 110.5)
    assert buckets.wait_s("shop", 110.5) == pytest.approx(9.5)


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    buckets = TokenBuckets.per_minute(2)
    buckets.take("shop", 0.0)
    assert [buckets.take("shop", 1e6) for _ in range(3)] == [True, True, False]


def test_a_flood_stays_shut_out_until_it_calms_down() -> None:
    buckets = TokenBuckets(rate=10, burst=10, debt=20)
    granted = [buckets.take("flood", at / 100) for at in range(1000)]
    assert all(granted[:10])
    assert not any(granted[20:])
    assert not buckets.take("flood", 12.0)
    assert buckets.take("flood", 16.0)


def test_the_key_unused_for_longest_is_forgotten() -> None:
    buckets = TokenBuckets(rate=0.001, burst=1, remembered=2)
    for key in ("a", "b", "a", "c"):
        buckets.take(key, 0.0)
    assert not buckets.take("a", 0.0)
    assert buckets.take("b", 0.0)
