"""What is answered to a request that the library never sees."""

from __future__ import annotations

import pytest

from gateway.sip.admission.refusal import response_to

pytestmark = pytest.mark.unit

HEAD = (
    "INVITE sip:1@h SIP/2.0\r\nv: SIP/2.0/UDP 192.0.2.7:5080;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP 192.0.2.8\r\n"
    "From: <sip:a@b>;tag=1\r\nTo: <sip:1@h>\r\nCall-ID: x\r\nCSeq: 1\r\n INVITE\r\nX-Long: aaaa"
)


def test_the_response_repeats_what_a_response_repeats() -> None:
    answer = response_to(HEAD, 4000, 513, "Message Too Large")
    assert answer is not None
    response, port = answer
    assert port == 5080
    lines = response.decode().split("\r\n")
    assert lines[0] == "SIP/2.0 513 Message Too Large"
    assert [line.partition(":")[0] for line in lines[1:8]] == [
        *("v", "Via", "From", "To", "Call-ID", "CSeq", "Content-Length")
    ]
    assert ";tag=" in lines[4]
    assert lines[6] == "CSeq: 1 INVITE"
    assert response.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("via", "port"),
    [
        ("SIP/2.0/UDP 192.0.2.7:5080;branch=z9hG4bK1", 5080),
        ("SIP/2.0/UDP 192.0.2.7:5080;branch=z9hG4bK1;rport", 4000),
        ("SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1", 5060),
        ("SIP/2.0/UDP 192.0.2.7:99999;branch=z9hG4bK1", 4000),
        ("SIP/2.0/UDP 192.0.2.7, SIP/2.0/UDP 192.0.2.8;rport", 5060),
        ("nonsense", 5060),
    ],
)
def test_the_response_goes_where_the_top_via_says_on_the_address_it_came_from(via: str, port: int) -> None:
    answer = response_to(HEAD.replace("SIP/2.0/UDP 192.0.2.7:5080;branch=z9hG4bK1", via), 4000, 400, "Bad To")
    assert answer is not None
    assert answer[1] == port


def test_a_tag_that_is_there_stays_and_of_two_headers_the_first_is_repeated() -> None:
    answer = response_to(HEAD.replace("To: <sip:1@h>", "t: <sip:1@h>;tag=us\r\nTo: <sip:2@h>"), 4000, 400, "Two To")
    assert answer is not None
    assert answer[0].count(b"tag=") == 2
    assert b"sip:2@h" not in answer[0]


def test_control_characters_are_not_repeated() -> None:
    answer = response_to(HEAD.replace("Call-ID: x", "Call-ID: \x1b\rx\x00\udc80"), 4000, 400, "Bad Line End")
    assert answer is not None
    assert b"Call-ID:   x ?" in answer[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\x00\udcff" * 2000,
        HEAD.replace("INVITE sip", "ACK sip", 1),
        HEAD.replace("INVITE sip:1@h SIP/2.0", "SIP/2.0 200 OK"),
        HEAD.replace("v:", "X:").replace("Via:", "Y:"),
        HEAD.replace("Call-ID: x", "Call-ID: " + "x" * 3000),
    ],
    ids=["empty", "garbage", "ACK", "response", "no Via", "long headers"],
)
def test_what_cannot_be_answered_is_not(text: str) -> None:
    assert response_to(text, 4000, 400, "Bad To") is None
