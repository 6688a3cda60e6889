from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.record import MAX_TEXT, CallRecord, as_text

pytestmark = pytest.mark.unit

TEXT = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
TIME = st.none() | st.floats(0, 4e9).map(lambda seconds: round(seconds, 6))


@given(
    st.builds(
        CallRecord,
        call_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
        from_uri=TEXT,
        state=TEXT,
        end_detail=TEXT,
        created_at=TIME,
        ended_at=TIME,
        setup_ms=st.none() | st.integers(0, 10**9),
        sip_code=st.none() | st.integers(100, 699),
        tokens_in=st.none() | st.integers(0, 10**9),
        tokens_out=st.none() | st.integers(0, 10**9),
        cost_usd=TIME,
        recording=TEXT,
        direction=st.sampled_from([None, "inbound", "outbound"]),
        rx_packets=st.none() | st.integers(0, 10**9),
        mos=TIME,
    )
)
def test_a_record_survives_its_flat_form(record: CallRecord) -> None:
    assert CallRecord.from_hash(record.to_hash()) == record


def test_what_is_not_known_is_not_in_the_flat_form() -> None:
    assert CallRecord(call_id="c1", setup_ms=0).to_hash() == {"call_id": "c1", "setup_ms": "0"}


def test_names_of_a_newer_gateway_are_passed_over() -> None:
    assert CallRecord.from_hash({"call_id": "c1", "mood": "good"}) == CallRecord(call_id="c1")


@pytest.mark.parametrize("flat", [{}, {"state": "active"}, {"call_id": "c1", "setup_ms": "soon"}])
def test_what_is_no_record_is_a_value_error(flat: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        CallRecord.from_hash(flat)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (7, "7"),
        (1700000000.1234567, "1700000000.123457"),
        (0.1 + 0.2, "0.3"),
        ("é\udcff", "é?"),
        ("x" * (MAX_TEXT + 1), "x" * MAX_TEXT),
    ],
)
def test_values_have_one_form_as_text(value: object, text: str) -> None:
    assert as_text(value) == text
