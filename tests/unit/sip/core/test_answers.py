"""What is answered to INFO and NOTIFY about other things than keys and transfers."""

from __future__ import annotations

import pytest

from gateway.sip.core.answers import answer_to
from gateway.sip.core.dtmf import KEY_TYPES
from gateway.sip.core.message import Message, parse_message

pytestmark = pytest.mark.unit


def request(method: str, *headers: str, body: str = "") -> Message:
    lines = [
        f"{method} sip:us@192.0.2.1 SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1",
        "From: <sip:them@h>;tag=1",
        "To: <sip:us@h>;tag=2",
        "Call-ID: x",
        f"CSeq: 5 {method}",
        *headers,
        f"Content-Length: {len(body)}",
    ]
    return parse_message("\r\n".join([*lines, "", body]))


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (request("INFO"), 200),
        (request("INFO", "Content-Type: application/media_control+xml", body="<x/>"), 415),
        (request("INFO", "Content-Type: application/x-foo", body="hello"), 415),
        (request("INFO", "Info-Package: foo", "Content-Type: application/foo", body="hello"), 469),
        (request("INFO", "Info-Package: foo"), 469),
        (request("NOTIFY", "Event: message-summary", "Subscription-State: active"), 489),
        (request("NOTIFY", "Event: keep-alive"), 489),
        (request("NOTIFY"), 489),
        (request("NOTIFY", "Event: refer;id=5", "Subscription-State: active"), 481),
    ],
)
def test_what_nobody_knows_is_answered_by_the_book(message: Message, code: int) -> None:
    answer = answer_to(message)
    assert answer is not None
    assert answer.code == code


def test_a_refusal_says_what_would_be_taken() -> None:
    unknown = answer_to(request("INFO", "Content-Type: a/b", body="x"))
    assert unknown is not None
    assert unknown.headers == (("Accept", ", ".join(KEY_TYPES)),)


def test_a_notify_of_a_transfer_that_was_asked_for_is_left_to_the_library() -> None:
    assert answer_to(request("NOTIFY", "Event: refer", "Subscription-State: active"), referred=True) is None
