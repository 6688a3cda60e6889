"""What INFO and NOTIFY inside a call say, and what they are answered with."""

from __future__ import annotations

import pytest

from gateway.sip.core.dtmf import KEY_TYPES
from gateway.sip.core.info_notify import ReferProgress, answer_to, news_in
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


LEFT = "the far end reports no more of it"


def notify(state: str, body: str = "", event: str = "refer", kind: str = "message/sipfrag;version=2.0") -> Message:
    lines = [
        "NOTIFY sip:us@192.0.2.1 SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1",
        "From: <sip:them@h>;tag=1",
        "To: <sip:us@h>;tag=2",
        "Call-ID: x",
        "CSeq: 5 NOTIFY",
        f"Event: {event}",
        *([f"Subscription-State: {state}"] if state else []),
        *([f"Content-Type: {kind}"] if body else []),
        f"Content-Length: {len(body)}",
    ]
    return parse_message("\r\n".join([*lines, "", body]))


@pytest.mark.parametrize(
    ("message", "news"),
    [
        (notify("terminated;reason=noresource", "SIP/2.0 200 OK\r\n"), ReferProgress(200, "OK", True)),
        (notify("active;expires=30", "SIP/2.0 200 OK\r\n"), ReferProgress(200, "OK")),
        (notify("active;expires=30", "SIP/2.0 200"), ReferProgress(200, "")),
        (notify("terminated;reason=noresource", "SIP/2.0 486 Busy Here\r\n"), ReferProgress(486, "Busy Here", True)),
        (notify("active", "SIP/2.0 180 Ringing\r\n", "refer;id=93809824"), ReferProgress(180, "")),
        (notify("active"), ReferProgress(100, "")),
        (notify("", "SIP/2.0 503 Service Unavailable\r\n"), ReferProgress(503, "Service Unavailable")),
        (notify("terminated;reason=noresource"), ReferProgress(200, LEFT, True)),
        (notify("Terminated"), ReferProgress(200, LEFT, True)),
        (notify("terminated ; reason=noresource", "SIP/2.0 100 Trying\r\n"), ReferProgress(200, LEFT, True)),
        (notify("terminated;reason=rejected"), ReferProgress(603, f"{LEFT}: rejected", True)),
        (notify("terminated;retry-after=5;reason=timeout"), ReferProgress(408, f"{LEFT}: timeout", True)),
        (notify("terminated;reason=noresource", "<xml/>", kind="text/xml"), ReferProgress(200, LEFT, True)),
        (notify("active", "Messages-Waiting: no", "message-summary", "text/plain"), None),
    ],
)
def test_the_first_final_word_counts(message: Message, news: ReferProgress | None) -> None:
    assert news_in(message) == news
