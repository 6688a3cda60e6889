from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.privacy import Shortener, parties_in, shortener_for, strictest

pytestmark = pytest.mark.unit

SHORTENED, NOTHING = Shortener(keep=True), Shortener(keep=False)

INVITE = (
    "INVITE sip:+493055501234@192.0.2.1:5060 SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 192.0.2.7:5070;branch=z9hG4bK-1234567890\r\n"
    'From: "Alice Smith" <sip:alice@192.0.2.7>;tag=1234567890\r\n'
    "To: Bob Miller <sip:+493055501234@192.0.2.1>\r\n"
    "P-Asserted-Identity: Alice <tel:+4930111222333>\r\n"
    "Call-ID: 4930111222333@host\r\n"
    "CSeq: 12345678 INVITE\r\n"
    "X-Caller: 030 111 222 333\r\n"
    "Content-Type: application/sdp\r\n"
    "Content-Length: 120\r\n"
    "\r\n"
    "v=0\r\n"
    "o=alice 3890123456 3890123456 IN IP4 192.0.2.7\r\n"
    "s=Alice\r\n"
    "m=audio 4000 RTP/AVP 0\r\n"
    "p=+49 30 1234567\r\n"
)


@pytest.mark.parametrize(
    ("party", "shortened", "nothing"),
    [
        ("+493012345678", "+49301234****", "+************"),
        ("030 1234-5678", "030 1234-****", "*** ****-****"),
        ("1000", "****", "****"),
        ("10", "**", "**"),
        ("alice", "a****", "*****"),
        ("sip:+493012345678@192.0.2.1:5060", "sip:+49301234****@192.0.2.1:5060", "sip:+************@192.0.2.1:5060"),
        ("sip:desk@192.0.2.1, sips:a@b", "sip:d***@192.0.2.1, sips:*@b", "sip:****@192.0.2.1, sips:*@b"),
        ("tel:+49-30-123-4567;phone-context=+49", "tel:+49-30-123-****;phone-context=+49", None),
        ("sip:192.0.2.1:5060", "sip:192.0.2.1:5060", None),
        ("anonymous", "anonymous", "anonymous"),
        ("", "", ""),
    ],
)
def test_a_party_loses_its_last_four_digits_or_all_but_its_first_letter(
    party: str, shortened: str, nothing: str | None
) -> None:
    assert SHORTENED.party(party) == shortened
    assert nothing is None or NOTHING.party(party) == nothing


@pytest.mark.parametrize(
    ("text", "shortened"),
    [
        ("call me at 030 1234 5678, please", "call me at 030 1234 ****, please"),
        ("(0049) 30/12345678.", "(0049) 30/1234****."),
        ("486 Busy Here from sip:+4930123456@192.0.2.1", "486 Busy Here from sip:+493012****@192.0.2.1"),
        ('"Alice Smith" <sip:alice@192.0.2.1> called', '"***********" <sip:a****@192.0.2.1> called'),
        ("192.168.100.200:5060 does not answer", "192.168.100.200:5060 does not answer"),
        (
            "call 019a3f5c2d1e8b0f4a6c9d2, session sess_1234567890",
            "call 019a3f5c2d1e8b0f4a6c9d2, session sess_1234567890",
        ),
        ("on hold for 900 s, longer than 3600 s", "on hold for 900 s, longer than 3600 s"),
    ],
)
def test_numbers_are_found_in_text(text: str, shortened: str) -> None:
    assert SHORTENED.text(text) == shortened


@given(st.text(alphabet='0123456789+ ()-./*@;:"<>siptelabc', max_size=60))
def test_text_that_was_shortened_stays_as_it_is(text: str) -> None:
    for shortener in (SHORTENED, NOTHING):
        once = shortener.text(text)
        assert len(once) == len(text)
        assert shortener.text(once) == once


@given(st.from_regex(r"\+[1-9][0-9]{8,13}", fullmatch=True), st.sampled_from(["{}", "sip:{}@x", "tel:{}", "to {}!"]))
def test_no_number_is_left_whole(number: str, form: str) -> None:
    assert number[1:] not in SHORTENED.text(form.format(number))
    assert not re.search(r"\d", NOTHING.text(form.format(number)))


def test_what_is_known_of_a_calls_parties_is_found_in_all_it_writes_down() -> None:
    first = {"caller": "alice", "from_uri": "sip:alice@x", "to_uri": "sip:+493055501234@x", "source": "192.0.2.7:5060"}
    known = parties_in(first)
    assert known == {"alice", "+493055501234"}
    numbers: dict[str, str | int] = {"setup_ms": 12345678, "call_id": "1234567890"}
    assert SHORTENED.fields({**first, **numbers}, known) == {
        **{"caller": "a****", "from_uri": "sip:a****@x", "to_uri": "sip:+49305550****@x", "source": "192.0.2.7:5060"},
        **numbers,
    }
    told = {"text": "This is Alice, malice aside.", "metadata": '{"who": "alice"}', "arguments": '{"n": "03055501234"}'}
    assert SHORTENED.fields(told, known) == {
        "text": "This is A****, malice aside.",
        "metadata": '{"who": "a****"}',
        "arguments": '{"n": "0305550****"}',
    }


def test_short_names_are_not_looked_for_elsewhere() -> None:
    assert parties_in({"caller": "bob", "called": "12", "target": "sip:1000@x"}) == {"1000"}


@pytest.mark.parametrize("shortener", [SHORTENED, NOTHING])
def test_a_sip_message_keeps_its_length_and_loses_its_people(shortener: Shortener) -> None:
    told = shortener.message(INVITE)
    assert len(told) == len(INVITE)
    assert shortener.message(told) == told
    for gone in ("1234@", "Alice", "alice", "Bob", "Miller", "222333", "222 333", "234567\r\n"):
        assert gone not in told, gone
    for kept in (
        *("branch=z9hG4bK-1234567890", "tag=1234567890", "CSeq: 12345678 INVITE", "192.0.2.7:5070", "m=audio 4000"),
        *("3890123456 IN IP4 192.0.2.7", "Content-Length: 120"),
    ):
        assert kept in told, kept


def test_bodies_that_may_say_anything_are_not_kept() -> None:
    message = "NOTIFY sip:a@b SIP/2.0\r\nContent-Type: {}\r\n\r\n{}"
    told = SHORTENED.message(message.format("application/pidf+xml", "<name>Alice</name>\r\n"))
    assert told.endswith("\r\n\r\n" + "*" * 18 + "\r\n")
    assert SHORTENED.message(message.format("message/sipfrag", "SIP/2.0 200 OK\r\n")).endswith("SIP/2.0 200 OK\r\n")


def test_the_strictest_mode_holds_where_routes_cannot_be_told_apart() -> None:
    assert strictest(("full", "counts", "shortened")) == "counts"
    assert strictest(()) == "full"
    assert shortener_for("full") is None
