from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings import TrunkSettings
from gateway.sip.caller_id import (
    ANONYMOUS,
    addresses_in,
    asserted_user,
    called_number,
    caller_number,
    identity_to_send,
    own_uri,
    user_of,
)

pytestmark = pytest.mark.unit


def trunk(**given: object) -> TrunkSettings:
    return TrunkSettings.model_validate({"host": "carrier.example:5070", "country": "DE", **given})


def test_without_a_number_the_account_calls() -> None:
    assert own_uri(trunk(username="line 1@x")) == "sip:line%201%40x@carrier.example"
    assert identity_to_send(trunk(username="line1"), None).local_uri == "<sip:line1@carrier.example>"
    assert identity_to_send(trunk(), None).local_uri == "<sip:gateway@carrier.example>"
    assert identity_to_send(trunk(), None).headers == ()


def test_the_orders_number_counts_above_the_trunks() -> None:
    settings = trunk(caller_id="030 12345678", dial_format="e164")
    assert identity_to_send(settings, None).local_uri == "<sip:+493012345678@carrier.example>"
    assert identity_to_send(settings, "030 87654321").local_uri == "<sip:+493087654321@carrier.example>"


@pytest.mark.parametrize(
    ("header", "privacy", "local_uri", "headers"),
    [
        ("from", False, "<sip:+4930@carrier.example>", []),
        ("p-asserted-identity", False, "<sip:line1@carrier.example>", ["P-Asserted-Identity"]),
        ("both", False, "<sip:+4930@carrier.example>", ["P-Asserted-Identity"]),
        ("from", True, ANONYMOUS, ["Privacy"]),
        ("p-asserted-identity", True, ANONYMOUS, ["P-Asserted-Identity", "Privacy"]),
        ("both", True, ANONYMOUS, ["P-Asserted-Identity", "Privacy"]),
    ],
)
def test_the_number_stands_where_the_trunk_wants_it(
    header: str, privacy: bool, local_uri: str, headers: list[str]
) -> None:
    settings = trunk(username="line1", caller_id="+4930", caller_id_header=header, privacy=privacy)
    identity = identity_to_send(settings, None)
    assert identity.local_uri == local_uri
    assert [name for name, _ in identity.headers] == headers
    assert dict(identity.headers).get("P-Asserted-Identity", "<sip:+4930@carrier.example>") == (
        "<sip:+4930@carrier.example>"
    )


def test_a_call_that_is_sent_on_tells_who_was_called_first() -> None:
    headers = dict(identity_to_send(trunk(), None, diverted_from="+493012345678").headers)
    assert headers["Diversion"] == "<sip:+493012345678@carrier.example>;reason=deflection;counter=1"


def test_a_name_cannot_break_out_of_its_header() -> None:
    identity = identity_to_send(trunk(caller_id='x>\r\nEvil: "1" <a'), None)
    assert identity.local_uri == "<sip:x%3E%0D%0AEvil%3A%20%221%22%20%3Ca@carrier.example>"


HEADERS = {
    "from": '"A, B" <sip:03011111111@pbx.example;user=phone>;tag=1',
    "to": "<sip:03022222222@gateway.example>",
    "p-asserted-identity": '"X, Y" <sip:reception@pbx.example>, <tel:+49-30-33333333;ext=1>',
    "diversion": "<sip:03044444444@pbx.example>;reason=unconditional, <sip:other@x>",
    "privacy": "id;critical",
}


def test_the_caller_is_who_from_says_unless_the_trunk_is_trusted_with_identities() -> None:
    assert caller_number(HEADERS, None) == "03011111111"
    assert caller_number(HEADERS, trunk()) == "+493011111111"
    assert caller_number(HEADERS, trunk(trust_identity=True)) == "+493033333333"
    assert caller_number({"from": HEADERS["from"]}, trunk(trust_identity=True)) == "+493011111111"
    assert caller_number({"from": "<sip:anonymous@anonymous.invalid>;tag=1"}, trunk()) == "anonymous"
    assert caller_number({}, trunk(trust_identity=True)) == ""


def test_the_called_number_is_in_to_when_our_account_is_in_the_request_uri() -> None:
    assert called_number("sip:03022222222@gateway.example", HEADERS, None) == "03022222222"
    assert called_number("sip:03055555555@gateway.example", HEADERS, trunk(username="line1")) == "+493055555555"
    assert called_number("sip:line1@192.0.2.1:5060;ob", HEADERS, trunk(username="line1")) == "+493022222222"
    assert called_number("sip:line1@192.0.2.1", {}, trunk(username="line1")) == "line1"


def test_only_a_trusted_trunk_vouches_for_the_caller() -> None:
    assert asserted_user(HEADERS, trunk()) == ""
    assert asserted_user(HEADERS, None) == ""
    assert asserted_user(HEADERS, trunk(trust_identity=True))
    assert asserted_user({}, trunk(trust_identity=True)) == ""


@pytest.mark.parametrize(
    ("address", "user"),
    [
        ("<sip:%2B4930@x>", "+4930"),
        ("sip:a:secret@x;p=1", "a"),
        ("sip:1000;isub=7@x", "1000"),
        ("tel:+49-30;ext=1", "+49-30"),
        ("sip:host.example", ""),
        ("http://a@b", ""),
        ("", ""),
    ],
)
def test_the_user_part_is_read_from_any_address(address: str, user: str) -> None:
    assert user_of(address) == user


def test_addresses_are_split_at_commas_outside_quotes_and_brackets() -> None:
    assert addresses_in('"a, b" <sip:a@x;c=1,2>, sip:b@y ,') == ['"a, b" <sip:a@x;c=1,2>', "sip:b@y"]


@given(st.text(max_size=300))
def test_whatever_a_stranger_writes_is_read_without_an_error(text: str) -> None:
    headers = dict.fromkeys(("from", "to", "p-asserted-identity", "diversion", "privacy"), text)
    settings = trunk(trust_identity=True, username="u")
    assert isinstance(caller_number(headers, settings), str)
    assert isinstance(called_number(text, headers, settings), str)
