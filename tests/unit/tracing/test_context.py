"""The header traceparent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tracing.context import TraceContext, is_sampled, read_traceparent

pytestmark = pytest.mark.unit

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_header_is_read_and_written_back() -> None:
    header = f"00-{TRACE}-{SPAN}-01"
    assert read_traceparent(header) == TraceContext(TRACE, SPAN, sampled=True)
    assert TraceContext(TRACE, SPAN, sampled=True).header() == header
    assert TraceContext(TRACE, SPAN, sampled=False).header() == f"00-{TRACE}-{SPAN}-00"


def test_a_later_version_and_other_flags_are_understood() -> None:
    assert read_traceparent(f"cc-{TRACE}-{SPAN}-03-what-comes") == TraceContext(TRACE, SPAN, sampled=True)
    assert read_traceparent(f" 00-{TRACE}-{SPAN}-02 ") == TraceContext(TRACE, SPAN, sampled=False)


@pytest.mark.parametrize(
    "header",
    [
        *("", "00", f"00-{TRACE}-{SPAN}", f"ff-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-more"),
        *(f"00-{TRACE.upper()}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01"),
        *(f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01", f"00-{TRACE}x-{SPAN}-01"),
    ],
)
def test_what_is_no_header_says_nothing(header: str) -> None:
    assert read_traceparent(header) is None


@given(st.text())
def test_no_text_of_a_stranger_does_harm(header: str) -> None:
    assert read_traceparent(header) is None


def test_a_share_of_all_traces_is_recorded() -> None:
    ids = [f"{number * 0x9E3779B97F4A7C15 % (1 << 128):032x}" for number in range(1, 2001)]
    assert not any(is_sampled(each, 0) for each in ids)
    assert all(is_sampled(each, 1) for each in ids)
    assert 400 < sum(is_sampled(each, 0.25) for each in ids) < 600
