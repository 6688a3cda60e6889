"""How calls and events look in JSON."""

from __future__ import annotations

import pytest

from gateway.call.outcome import EndReason
from gateway.store.record import CallRecord
from gateway.web.views import End, end_of, typed, view_of

pytestmark = pytest.mark.unit


def test_fields_that_are_not_known_are_absent() -> None:
    told = view_of(CallRecord(call_id="c", created_at=1.5, rx_lost=0)).model_dump(exclude_none=True)
    assert told == {"call_id": "c", "created_at": 1.5, "rx_lost": 0}


@pytest.mark.parametrize("reason", EndReason)
def test_every_end_says_whose_fault_it_was_and_what_it_means(reason: EndReason) -> None:
    end = end_of(CallRecord(call_id="c", end_reason=reason))
    assert end is not None
    assert end.fault
    assert end.meaning


def test_the_fault_of_the_record_goes_before_that_of_the_registry() -> None:
    end = end_of(CallRecord(call_id="c", end_reason=EndReason.NO_RTP, fault="gateway"))
    assert isinstance(end, End)
    assert end.fault == "gateway"


@pytest.mark.parametrize("reason", [None, "", "a_newer_gateways_reason"])
def test_a_call_that_has_not_ended_or_ended_in_an_unknown_way_has_no_end(reason: str | None) -> None:
    assert end_of(CallRecord(call_id="c", end_reason=reason)) is None


def test_numbers_of_events_are_numbers_unless_they_are_none() -> None:
    flat = {"event": "turn", "at": "12.5", "setup_ms": "7", "played_ms": "x", "cost_usd": "0.25", "text": "1"}
    assert typed(flat) == {
        **{"event": "turn", "at": 12.5, "setup_ms": 7, "played_ms": "x", "cost_usd": 0.25},
        "text": "1",
    }
