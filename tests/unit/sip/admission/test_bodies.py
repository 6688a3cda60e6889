"""Bodies of messages: which of them the library gets, in each place where one may stand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.sip.admission.bodies import Bodies, Body, BodyRefusal
from gateway.sip.core.message import Message, parse_message
from gateway.sip.core.negotiation import Terms

pytestmark = pytest.mark.unit

TERMS = Terms(("PCMU", "PCMA"), "off", local=False)
HEAD = "v=0\r\no=- 7 8 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
SDP = HEAD + "m=audio 4000 RTP/AVP 0\r\n"
GOOD = SDP + "a=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"
NAME = SDP.replace("192.0.2.1", "host.example.net")
# No address of the session's, a live audio line with its own, a switched-off line without one: ends the process.
KILLER = (
    "v=0\r\no=k 7 8 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n"
    "m=audio 4000 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\nm=video 0 RTP/AVP 96\r\n"
)


def message(
    start: str,
    body: str = "",
    *,
    kind: str = "application/sdp",
    cseq: str = "",
    more: str = "",
    call_id: str = "c",
    tag: str = "1",
) -> Message:
    method = start.split()[0]
    first = f"{start} sip:1000@192.0.2.9 SIP/2.0" if " " not in start else f"SIP/2.0 {start}"
    head = (
        f"{first}\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@192.0.2.1>;tag={tag}\r\n"
        f"To: <sip:1000@192.0.2.9>;tag=2\r\nCall-ID: {call_id}\r\nCSeq: {cseq or f'1 {method}'}\r\n{more}"
    )
    content = f"Content-Type: {kind}\r\n" if body and kind else ""
    return parse_message(f"{head}{content}Content-Length: {len(body)}\r\n\r\n{body}")


def code(verdict: Body | BodyRefusal | None) -> int:
    assert isinstance(verdict, BodyRefusal), verdict
    return verdict.code


@pytest.mark.parametrize("method", ["INVITE", "UPDATE", "PRACK"])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (SDP, Body("application/sdp", GOOD)),
        (KILLER, None),
        (NAME, 488),
        (HEAD, 488),
        (SDP.replace("RTP/AVP", "RTP/SAVP"), 488 if TERMS.srtp == "off" else None),
        (SDP.replace("IN IP4", "IN IP6"), 488),
        ("hello", 400),
        (SDP.replace("m=audio 4000", "m=audio 99999"), 400),
    ],
)
def test_an_offer_is_written_anew_or_refused(method: str, body: str, expected: Body | int | None) -> None:
    verdict = Bodies().request(message(method, body), TERMS)
    if expected is None:
        assert isinstance(verdict, Body)
        assert "m=video 0 RTP/AVP 96" in verdict.text
        assert verdict.text.index("c=IN IP4 192.0.2.1") < verdict.text.index("m=")
    elif isinstance(expected, int):
        assert code(verdict) == expected
    else:
        assert verdict == expected


def test_a_refusal_says_why() -> None:
    verdict = Bodies().request(message("INVITE", NAME), TERMS)
    assert isinstance(verdict, BodyRefusal)
    assert verdict.headers == (("Warning", '301 sip-voice-gateway "the media address is no IPv4 number"'),)


@pytest.mark.parametrize(
    ("body", "kind", "more", "status", "header"),
    [
        ("x", "text/plain", "", 415, "Accept"),
        ("x", "application/isup", "", 415, "Accept"),
        (SDP, "application/sdp", "Content-Encoding: gzip\r\n", 415, "Accept-Encoding"),
        (SDP, "application/sdp", "Content-Disposition: early-session\r\n", 415, "Accept"),
        (SDP, "multipart/mixed", "", 400, None),
        (SDP, "multipart/mixed;boundary=b", "", 400, None),
        ("--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\n", "multipart/mixed;boundary=b", "", 415, "Accept"),
    ],
)
def test_another_kind_of_body_is_refused(body: str, kind: str, more: str, status: int, header: str | None) -> None:
    verdict = Bodies().request(message("INVITE", body, kind=kind, more=more), TERMS)
    assert code(verdict) == status
    assert isinstance(verdict, BodyRefusal)
    assert header in (None, *dict(verdict.headers))


@pytest.mark.parametrize("kind", ["application/sdp", "Application/SDP ;charset=utf-8", "APPLICATION / SDP"])
def test_the_type_is_read_as_it_is_meant(kind: str) -> None:
    assert Bodies().request(message("INVITE", SDP, kind=kind), TERMS) == Body("application/sdp", GOOD)


PART = f"--b\r\nContent-Type: application/sdp\r\nContent-Disposition: session\r\n\r\n{SDP}\r\n"
ISUP = (
    "--b\r\nContent-Type: application/isup;version=itu-t92+\r\n"
    "Content-Disposition: signal;handling={}\r\n\r\n\x01\x02\r\n"
)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (f"{PART}--b--", None),
        (f"preamble\r\n{PART}{ISUP.format('optional')}--b--\r\nepilogue", None),
        (f"{ISUP.format('optional')}{PART}--b--\r\n", None),
        (f"{PART}{ISUP.format('required')}--b--\r\n", 415),
        (f"{PART}{PART}--b--\r\n", 400),
        (PART, 400),
        ("--b--\r\n", 400),
        ((PART * 20) + "--b--\r\n", 400),
        (PART.replace("application/sdp", "text/plain") + "--b--", 415),
        (PART.replace(SDP, "x") + "--b--", 400),
    ],
)
@pytest.mark.parametrize("boundary", ["b", '"b"'])
def test_of_a_multipart_body_the_description_alone_is_taken(body: str, status: int | None, boundary: str) -> None:
    verdict = Bodies().request(message("INVITE", body, kind=f"multipart/mixed;boundary={boundary}"), TERMS)
    if status is None:
        assert verdict == Body("application/sdp", GOOD)
    else:
        assert code(verdict) == status


@pytest.mark.parametrize(
    ("method", "kind", "body"),
    [
        ("INFO", "application/dtmf-relay", "Signal=5"),
        ("INFO", "application/dtmf", "5"),
        ("INFO", "application/media_control+xml", "<x/>"),
        ("INFO", "application/sdp", SDP),
        ("INFO", "multipart/mixed", "--b"),
        ("MESSAGE", "text/plain", "hello"),
        ("NOTIFY", "application/pidf+xml", "<x/>"),
        ("NOTIFY", "application/sdp", SDP),
        ("BYE", "application/sdp", SDP),
        ("CANCEL", "application/sdp", SDP),
        ("OPTIONS", "application/sdp", KILLER),
        ("REFER", "application/sdp", KILLER),
    ],
)
def test_of_other_requests_the_library_gets_no_body(method: str, kind: str, body: str) -> None:
    assert Bodies().request(message(method, body, kind=kind), TERMS) is None


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("SIP/2.0 200 OK", "SIP/2.0 200 OK\r\n"),
        ("SIP/2.0 180 Ringing\r\nContact: <sip:x>\r\n\r\nv=0", "SIP/2.0 180 Ringing\r\n"),
        ("SIP/2.0 503", "SIP/2.0 503 Unknown\r\n"),
        ("SIP/2.0 200 " + "x" * 999, f"SIP/2.0 200 {'x' * 100}\r\n"),
        ("SIP/2.0 999 OK", None),
        ("SIP/3.0 200 OK", None),
        ("hello", None),
    ],
)
def test_of_a_notify_the_library_gets_how_a_transfer_goes(body: str, text: str | None) -> None:
    verdict = Bodies().request(message("NOTIFY", body, kind="message/sipfrag;version=2.0"), TERMS)
    assert verdict == (None if text is None else Body("message/sipfrag", text))


# --- offers of ours ---


def outbound_invite(lines: str = "m=audio 4000 RTP/AVP 0\r\n", cseq: str = "5 INVITE") -> Bodies:
    bodies = Bodies()
    bodies.sent(message("INVITE", HEAD + lines, cseq=cseq))
    return bodies


@pytest.mark.parametrize("start", ["180 Ringing", "183 Session Progress", "200 OK"])
@pytest.mark.parametrize(
    ("body", "taken"),
    [
        (SDP, True),
        (KILLER.replace("m=video", "a=x\r\nm=video"), True),
        (NAME, False),
        (SDP.replace("IP4", "IP6"), False),
        (HEAD + "m=audio 0 RTP/AVP 0\r\n", False),
        (HEAD + "m=image 9 udptl t38\r\n", False),
        (HEAD + "m=image 0 udptl t38\r\nm=audio 4000 RTP/AVP 0\r\n", False),
        (SDP.replace(" 0\r\n", " 18\r\n"), False),
        ("hello", False),
    ],
)
def test_an_answer_is_written_anew_or_taken_away(start: str, body: str, taken: bool) -> None:
    verdict = outbound_invite().response(message(start, body, cseq="5 INVITE"), TERMS)
    assert verdict == (Body("application/sdp", GOOD) if taken else None)


@pytest.mark.parametrize(
    ("start", "cseq", "call_id"),
    [
        ("486 Busy Here", "5 INVITE", "c"),
        ("302 Moved", "5 INVITE", "c"),
        ("200 OK", "6 UPDATE", "c"),  # which carried no offer
        ("200 OK", "6 OPTIONS", "c"),
        ("200 OK", "5 INVITE", "another"),
    ],
)
def test_what_answers_no_offer_of_ours_is_taken_away(start: str, cseq: str, call_id: str) -> None:
    assert outbound_invite().response(message(start, SDP, cseq=cseq, call_id=call_id), TERMS) is None


def test_an_answer_has_as_many_lines_as_our_newest_offer() -> None:
    bodies = outbound_invite()
    bodies.sent(message("INVITE", HEAD + "m=audio 4000 RTP/AVP 0\r\nm=video 0 RTP/AVP 31\r\n", cseq="6 INVITE"))
    verdict = bodies.response(message("200 OK", SDP, cseq="6 INVITE"), TERMS)
    assert verdict == Body("application/sdp", GOOD + "m=video 0 RTP/AVP 0\r\n")


def test_an_ack_answers_the_offer_of_our_200_once() -> None:
    bodies = Bodies()
    assert bodies.request(message("INVITE", cseq="1 INVITE"), TERMS) is None
    assert bodies.request(message("ACK", SDP, cseq="1 ACK"), TERMS) is None
    bodies.sent(message("200 OK", SDP, cseq="1 INVITE"))
    assert bodies.request(message("ACK", SDP, cseq="1 ACK"), TERMS) == Body("application/sdp", GOOD)
    assert bodies.request(message("ACK", SDP, cseq="1 ACK"), TERMS) is None


@pytest.mark.parametrize("body", [NAME, "hello", SDP.replace(" 0\r\n", " 18\r\n")])
def test_an_answer_of_no_use_to_the_offer_of_our_200_takes_nothing_of_it(body: str) -> None:
    bodies = Bodies()
    bodies.request(message("INVITE", cseq="1 INVITE"), TERMS)
    bodies.sent(message("200 OK", SDP, cseq="1 INVITE"))
    verdict = bodies.request(message("ACK", body, cseq="1 ACK"), TERMS)
    assert isinstance(verdict, Body)
    assert verdict.text.endswith("c=IN IP4 0.0.0.0\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\n")


@pytest.mark.parametrize("body", ["", SDP])
def test_no_update_comes_between_an_invite_without_an_offer_and_its_ack(body: str) -> None:
    bodies = Bodies()
    bodies.request(message("INVITE", cseq="1 INVITE"), TERMS)
    assert code(bodies.request(message("UPDATE", body, cseq="2 UPDATE"), TERMS)) == 491
    bodies.sent(message("200 OK", SDP, cseq="1 INVITE"))
    assert code(bodies.request(message("UPDATE", body, cseq="3 UPDATE"), TERMS)) == 491
    assert bodies.request(message("UPDATE", call_id="another"), TERMS) is None
    bodies.request(message("ACK", cseq="1 ACK"), TERMS)
    assert not isinstance(bodies.request(message("UPDATE", body, cseq="4 UPDATE"), TERMS), BodyRefusal)


def test_an_invite_of_a_stranger_with_the_call_id_of_a_call_changes_nothing_for_that_call() -> None:
    bodies = outbound_invite()
    bodies.request(message("INVITE", cseq="9 INVITE", tag="stranger"), TERMS)
    assert not isinstance(bodies.request(message("UPDATE", SDP, cseq="2 UPDATE"), TERMS), BodyRefusal)
    bodies.sent(message("200 OK", SDP, cseq="9 INVITE", tag="stranger"))
    assert bodies.response(message("200 OK", SDP, cseq="5 INVITE"), TERMS) == Body("application/sdp", GOOD)


def test_a_prack_answers_the_offer_of_our_183() -> None:
    bodies = Bodies()
    bodies.request(message("INVITE", cseq="1 INVITE"), TERMS)
    bodies.sent(message("183 Session Progress", SDP, cseq="1 INVITE"))
    two = HEAD + "m=audio 4000 RTP/AVP 0\r\nm=video 0 RTP/AVP 31\r\n"
    assert bodies.request(message("PRACK", two, cseq="2 PRACK"), TERMS) == Body("application/sdp", GOOD)
    again = bodies.request(message("PRACK", two, cseq="3 PRACK"), TERMS)
    assert again == Body("application/sdp", GOOD + "m=video 0 RTP/AVP 31\r\n")


@pytest.mark.parametrize("body", [KILLER, NAME, "hello", SDP.replace("IP4", "IP6")])
def test_an_ack_with_an_answer_to_nothing_or_of_no_use_is_bare(body: str) -> None:
    bodies = Bodies()
    bodies.request(message("INVITE", SDP, cseq="1 INVITE"), TERMS)
    bodies.sent(message("200 OK", SDP, cseq="1 INVITE"))
    assert bodies.request(message("ACK", body, cseq="1 ACK"), TERMS) is None


def test_memory_is_bounded() -> None:
    bodies = Bodies()
    for number in range(5000):
        bodies.request(message("INVITE", call_id=str(number)), TERMS)
        bodies.sent(message("200 OK", SDP, cseq="1 INVITE", call_id=str(number)))
    assert len(bodies._calls) == len(bodies._late) == 1024


@pytest.mark.parametrize("begins", [True, False])
def test_no_offer_comes_while_ours_has_no_answer(begins: bool) -> None:
    bodies = Bodies()
    invite = message("INVITE")
    assert bodies.request(replace(invite, to_tag="" if begins else "2"), TERMS) is None
    bodies.sent(message("200 OK", SDP, cseq="1 INVITE"))
    assert code(bodies.request(message("INVITE", SDP, cseq="2 INVITE"), TERMS)) == 491
    bodies.request(message("ACK"), TERMS)
    bodies.request(message("ACK", SDP), TERMS)  # the library passes over it
    later = bodies.request(message("INVITE", SDP, cseq="3 INVITE"), TERMS)
    assert isinstance(later, BodyRefusal) == begins
