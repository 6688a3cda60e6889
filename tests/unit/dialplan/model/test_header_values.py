"""Values in the headers of a dial step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialplan.model.templates import in_their_places, marked
from gateway.sip.core.address import parse_address, split_list

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("name", "text", "written"),
    [
        ("X-Token", f"{marked('T%2B a, b;c')}", "T%2B a, b;c"),
        ("X-Info", f"name={marked('a b;c')};id={marked('17')}", 'name="a b;c";id=17'),
        ("X-Name", f'"{marked(chr(34) + "a" + chr(92))}"', '"\\"a\\\\"'),
        ("X-Json", '{"a": "' + marked('x", "b": "y') + '"}', '{"a": "x\\", \\"b\\": \\"y"}'),
        ("P-Asserted-Identity", f"<sip:{marked('+4930')}@h>", "<sip:+4930@h>"),
        ("P-Asserted-Identity", f"<sip:{marked('a@b>,<c;d?e')}@h>", "<sip:a%40b%3E%2C%3Cc%3Bd%3Fe@h>"),
        ("P-Asserted-Identity", f"sip:{marked('+4930')}@h", "sip:+4930@h"),
        ("Diversion", f"<sip:1@h>;reason={marked('a,<b>')}", '<sip:1@h>;reason="a,<b>"'),
        ("P-Asserted-Identity", f'"{marked("Café")}" <sip:1@h>', '"Caf\u00e9" <sip:1@h>'),
        ("P-Asserted-Identity", '"\\' + marked('"') + '" <sip:1@h>', '"\\\\\\"" <sip:1@h>'),
    ],
)
def test_a_value_is_written_as_its_place_demands(name: str, text: str, written: str) -> None:
    assert in_their_places(name, text) == written


@pytest.mark.parametrize(
    "name", ["P-Asserted-Identity", "p-preferred-identity", "Remote-Party-ID", "Diversion", "Privacy"]
)
def test_nobody_writes_a_header_that_says_who_calls_but_the_plan(name: str) -> None:
    with pytest.raises(ValueError, match="would be believed; put it in quotes or brackets, or use the keys caller_id"):
        in_their_places(name, marked("<sip:+4912345@h>"))


@given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=40))
def test_whatever_a_caller_writes_there_is_one_address_and_it_is_the_plans(value: str) -> None:
    text = f'"{marked(value)}" <sip:{marked(value)}@h;x={marked(value)}1>;z="{marked(value)}"'
    written = in_their_places("P-Asserted-Identity", text + f";y={marked(value)}")
    (element,) = split_list(written)
    address = parse_address(element)
    assert (address.display, address.uri.host) == (value, "h")
    assert address.params == {"y": value, "z": value}
