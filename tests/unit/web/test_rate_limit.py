from __future__ import annotations

import pytest

from gateway.web.rate_limit import TokenBuckets

pytestmark = pytest.mark.unit


def test_a_bucket_gives_what_it_holds_and_then_tells_how_long_to_wait() -> None:
    now = 100.0
    buckets = TokenBuckets(6, monotonic=lambda: now)
    assert [buckets.take("shop") for _ in range(6)] == [0] * 6
    assert buckets.take("shop") == pytest.approx(10)
    assert buckets.take("portal") == 0
    now = 105.0
    assert buckets.take("shop") == pytest.approx(5)
    now = 110.5
    assert buckets.take("shop") == 0
    assert buckets.take("shop") == pytest.approx(9.5)


def test_a_bucket_never_holds_more_than_a_minute_gives() -> None:
    now = 0.0
    buckets = TokenBuckets(2, monotonic=lambda: now)
    buckets.take("shop")
    now = 1e6
    assert [buckets.take("shop") == 0 for _ in range(3)] == [True, True, False]
