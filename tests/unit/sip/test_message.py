from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sip.message import MAX_HEADERS, MAX_VALUE, bare_uri, clean, headers_of, request_uri

pytestmark = pytest.mark.unit

INVITE = (
    "INVITE sip:1000@192.0.2.1;transport=tcp SIP/2.0\r\n"
    "v: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\n"
    'f: "A. Caller" <sip:caller@192.0.2.9;user=phone>;tag=1\r\n'
    "Subject: one\r\n two\r\n"
    "X-Campaign: spring\r\n"
    "X-Campaign: autumn\r\n"
    "\r\n"
    "v=0\r\nX-Body: not a header\r\n"
)


def test_headers_are_read_with_compact_names_and_folded_lines() -> None:
    headers = headers_of(INVITE)
    assert headers["via"].startswith("SIP/2.0/UDP")
    assert headers["subject"] == "one two"
    assert headers["x-campaign"] == "spring"
    assert "x-body" not in headers


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ('"A. Caller" <sip:caller@192.0.2.9;user=phone>;tag=1', "sip:caller@192.0.2.9"),
        ("sip:caller@192.0.2.9;tag=1", "sip:caller@192.0.2.9"),
        ("<tel:+15550100>", "tel:+15550100"),
        ("<sip:a@b?Replaces=x>", "sip:a@b"),
        ("", ""),
    ],
)
def test_a_bare_uri_has_no_name_and_no_parameters(text: str, uri: str) -> None:
    assert bare_uri(text) == uri


def test_the_request_uri_is_the_second_word() -> None:
    assert request_uri(INVITE) == "sip:1000@192.0.2.1;transport=tcp"
    assert request_uri("nonsense") == ""


def test_a_flood_of_headers_is_cut() -> None:
    flood = "INVITE sip:a SIP/2.0\r\n" + "".join(f"X-{n}: {'y' * 5000}\r\n" for n in range(1000)) + "\r\n"
    headers = headers_of(flood)
    assert len(headers) == MAX_HEADERS
    assert max(map(len, headers.values())) == MAX_VALUE


@given(st.text(st.characters(), max_size=300))
def test_whatever_comes_gives_text_that_can_be_stored(text: str) -> None:
    for value in (clean(text), bare_uri(text), request_uri(text), *headers_of(text), *headers_of(text).values()):
        value.encode("utf-8")


def test_undecodable_bytes_become_replacement_characters() -> None:
    assert clean(b"caf\xe9".decode("utf-8", "surrogateescape")) == "caf\ufffd"
