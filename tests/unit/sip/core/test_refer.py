"""What a NOTIFY says of a transfer."""

from __future__ import annotations

import pytest

from gateway.sip.core.message import Message, parse_message
from gateway.sip.core.refer import TransferNews, news_in

pytestmark = pytest.mark.unit

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
        (notify("terminated;reason=noresource", "SIP/2.0 200 OK\r\n"), TransferNews(200, "OK", True)),
        (notify("active;expires=30", "SIP/2.0 200 OK\r\n"), TransferNews(200, "OK")),
        (notify("active;expires=30", "SIP/2.0 200"), TransferNews(200, "")),
        (notify("terminated;reason=noresource", "SIP/2.0 486 Busy Here\r\n"), TransferNews(486, "Busy Here", True)),
        (notify("active", "SIP/2.0 180 Ringing\r\n", "refer;id=93809824"), TransferNews(180, "")),
        (notify("active"), TransferNews(100, "")),
        (notify("", "SIP/2.0 503 Service Unavailable\r\n"), TransferNews(503, "Service Unavailable")),
        (notify("terminated;reason=noresource"), TransferNews(200, LEFT, True)),
        (notify("Terminated"), TransferNews(200, LEFT, True)),
        (notify("terminated ; reason=noresource", "SIP/2.0 100 Trying\r\n"), TransferNews(200, LEFT, True)),
        (notify("terminated;reason=rejected"), TransferNews(603, f"{LEFT}: rejected", True)),
        (notify("terminated;retry-after=5;reason=timeout"), TransferNews(408, f"{LEFT}: timeout", True)),
        (notify("terminated;reason=noresource", "<xml/>", kind="text/xml"), TransferNews(200, LEFT, True)),
        (notify("active", "Messages-Waiting: no", "message-summary", "text/plain"), None),
    ],
)
def test_the_first_final_word_counts(message: Message, news: TransferNews | None) -> None:
    assert news_in(message) == news
