"""Max-Forwards of a call that is sent on."""

from __future__ import annotations

import pytest

from gateway.sip.native.max_forwards import hops_left

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("max_forwards", "left"),
    [("70", 69), ("2", 1), ("1", 0), ("0", 0), ("255", 69), ("", 69), ("-1", 69), ("9" * 50, 69), ("x", 69)],
)
def test_a_call_that_is_sent_on_has_one_hop_less(max_forwards: str, left: int) -> None:
    assert hops_left(max_forwards) == left
