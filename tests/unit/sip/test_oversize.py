"""What is answered to a request that was cut off."""

from __future__ import annotations

import pytest

from gateway.sip.oversize import answer_to

pytestmark = pytest.mark.unit

HEAD = (
    b"INVITE sip:1@h SIP/2.0\r\nv: SIP/2.0/UDP 192.0.2.7:5080;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP 192.0.2.8\r\n"
    b"From: <sip:a@b>;tag=1\r\nTo: <sip:1@h>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nX-Long: aaaa"
)


def test_the_response_repeats_what_a_response_repeats_and_goes_to_the_top_via() -> None:
    answer = answer_to(HEAD)
    assert answer is not None
    response, host, port = answer
    assert (host, port) == ("192.0.2.7", 5080)
    lines = response.decode().split("\r\n")
    assert lines[0] == "SIP/2.0 513 Message Too Large"
    assert [line.partition(":")[0] for line in lines[1:8]] == [
        *("v", "Via", "From", "To", "Call-ID", "CSeq", "Content-Length")
    ]
    assert ";tag=" in lines[4]
    assert response.endswith(b"\r\n\r\n")


def test_a_tag_that_is_there_stays() -> None:
    answer = answer_to(HEAD.replace(b"To: <sip:1@h>", b"t: <sip:1@h>;tag=us"))
    assert answer is not None
    assert answer[0].count(b"tag=") == 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff" * 2000,
        HEAD.replace(b"INVITE sip", b"ACK sip", 1),
        HEAD.replace(b"INVITE sip:1@h SIP/2.0", b"SIP/2.0 200 OK"),
        HEAD.replace(b"192.0.2.7", b"example.com").replace(b"192.0.2.8", b"example.org"),
        HEAD.replace(b"192.0.2.7", b"999.0.2.7"),
        HEAD.replace(b":5080", b":99999"),
        HEAD.replace(b"CSeq", b"XSeq").replace(b"Call-ID", b"XCall"),
        HEAD.replace(b"Call-ID: x", b"Call-ID: " + b"x" * 3000),
    ],
    ids=["empty", "garbage", "ACK", "response", "name", "no address", "no port", "headers missing", "long headers"],
)
def test_what_cannot_be_answered_is_not(data: bytes) -> None:
    assert answer_to(data) is None
