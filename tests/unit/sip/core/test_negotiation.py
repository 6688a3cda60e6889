"""Offers and answers: what can be taken, and what the library gets for them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.sip.core.negotiation import MAX_MEDIA, NotAcceptable, Terms, answer_for_library, offer_for_library
from gateway.sip.core.sdp import BadSdp, parse_sdp

pytestmark = pytest.mark.unit

ALL = ("G722", "PCMU", "PCMA")
START = "v=0\r\no=- 7 8 IN IP4 192.0.2.1\r\ns=-\r\n"
HEAD = START + "c=IN IP4 192.0.2.1\r\nt=0 0\r\n"
AUDIO = "m=audio 4000 RTP/AVP 0\r\n"
VIDEO = "m=video 4002 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
SECURE = (
    "m=audio 4004 RTP/SAVP 8\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0\r\n"
)
DTLS = "m=audio 4006 UDP/TLS/RTP/SAVPF 0\r\na=setup:actpass\r\n"
PRINTED = (
    "v=0\r\no=- 7 8 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    "m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"
)


def terms(srtp: str = "optional", codecs: tuple[str, ...] = ALL, *, local: bool = False) -> Terms:
    return Terms(codecs, srtp, local)  # type: ignore[arg-type]


def offer(text: str, **given: object) -> str:
    return offer_for_library(parse_sdp(text), terms(**given)).text  # type: ignore[arg-type]


def lines(text: str) -> list[str]:
    return [line for line in text.split("\r\n") if line.startswith("m=")]


def test_the_library_gets_a_description_of_ours() -> None:
    text = (
        HEAD.replace("t=0 0", "b=AS:80\r\nt=0 0\r\na=group:BUNDLE 0\r\na=rtpmap:0")
        + AUDIO
        + "a=candidate:1 1 UDP 1 x 1 typ host\r\n"
    )
    assert offer(text) == PRINTED


def test_what_is_said_of_the_audio_is_kept() -> None:
    text = offer(
        HEAD + "m=audio 4000 rtp/avp 18 8 101 13 96\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 Telephone-Event/8000\r\n"
        "a=fmtp:101 0-16\r\na=ptime:30\r\na=maxptime:40\r\na=sendonly\r\na=rtcp:5000\r\na=silenceSupp:on - - - -\r\n"
    )
    assert text.partition("t=0 0\r\n")[2] == (
        "m=audio 4000 RTP/AVP 8 101 13\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
        "a=rtpmap:13 CN/8000\r\na=ptime:30\r\na=maxptime:40\r\na=sendonly\r\na=rtcp:5000 IN IP4 192.0.2.1\r\n"
        "a=silenceSupp:on - - - -\r\n"
    )


@pytest.mark.parametrize(("ptime", "printed"), [(5, 10), (15, 20), (20, 20), (33, 30), (200, 60), (65535, 60)])
def test_a_packet_time_is_one_that_the_library_can_do(ptime: int, printed: int) -> None:
    assert f"a=ptime:{printed}\r\n" in offer(f"{HEAD}{AUDIO}a=ptime:{ptime}\r\n")


@pytest.mark.parametrize(
    ("media", "expected"),
    [
        (AUDIO + VIDEO, ["audio 4000 RTP/AVP 0", "video 0 RTP/AVP 96"]),
        (VIDEO + AUDIO, ["video 0 RTP/AVP 96", "audio 4000 RTP/AVP 0"]),
        (AUDIO + AUDIO, ["audio 4000 RTP/AVP 0", "audio 0 RTP/AVP 0"]),
        ("m=audio 0 RTP/AVP 18\r\n" + AUDIO, ["audio 0 RTP/AVP 18", "audio 4000 RTP/AVP 0"]),
        ("m=image 9 udptl t38\r\n" + AUDIO, ["image 0 udptl t38", "audio 4000 RTP/AVP 0"]),
        ("m=application 9 TCP/BFCP *\r\n" + AUDIO, ["application 0 TCP/BFCP *", "audio 4000 RTP/AVP 0"]),
        ("m=application 9 DTLS/SCTP 5000\r\n" + AUDIO, ["application 0 DTLS/SCTP 0", "audio 4000 RTP/AVP 0"]),
        ("m=video 0 RTP/AVP 1 2 3 4 5 6\r\n" + AUDIO, ["video 0 RTP/AVP 1 2 3 4", "audio 4000 RTP/AVP 0"]),
        (f"m=text 1 RTP/AVP {'x' * 99} 200\r\n" + AUDIO, ["text 0 RTP/AVP 0", "audio 4000 RTP/AVP 0"]),
        (DTLS + SECURE, ["audio 0 RTP/AVP 0", "audio 4004 RTP/SAVP 8"]),
        (AUDIO.replace("0\r\n", "18\r\n") + AUDIO, ["audio 0 RTP/AVP 18", "audio 4000 RTP/AVP 0"]),
    ],
)
def test_every_line_keeps_its_place_and_one_is_on(media: str, expected: list[str]) -> None:
    assert lines(offer(HEAD + media)) == [f"m={line}" for line in expected]


@pytest.mark.parametrize(
    ("srtp", "media", "chosen"),
    [
        ("off", SECURE + AUDIO, "m=audio 4000 RTP/AVP 0"),
        ("required", AUDIO + SECURE, "m=audio 4004 RTP/SAVP 8"),
        ("optional", SECURE + AUDIO, "m=audio 4004 RTP/SAVP 8"),
        ("optional", AUDIO + SECURE, "m=audio 4000 RTP/AVP 0"),
    ],
)
def test_the_policy_for_srtp_chooses_among_lines(srtp: str, media: str, chosen: str) -> None:
    assert chosen in lines(offer(HEAD + media, srtp=srtp))


def test_of_several_keys_the_first_that_can_be_used_is_left() -> None:
    text = offer(HEAD + SECURE.replace("\r\na=crypto:1", "|\r\na=crypto:1 X inline:y\r\na=crypto:7").replace("8|", "8"))
    assert [line for line in text.split("\r\n") if "crypto" in line] == [
        "a=crypto:7 AES_CM_128_HMAC_SHA1_80 inline:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0"
    ]


@pytest.mark.parametrize(
    ("text", "warning", "reason"),
    [
        (HEAD, 304, "no audio"),
        (HEAD + "m=audio 0 RTP/AVP 0\r\n", 304, "no audio"),
        (HEAD + VIDEO, 304, "no audio"),
        (HEAD + "m=audio 4000 RTP/AVP 18\r\n", 305, "no codec in common"),
        (HEAD + "m=audio 4000 RTP/AVP 101\r\na=rtpmap:101 telephone-event/8000\r\n", 305, "no codec in common"),
        (HEAD + "m=audio 4000/2 RTP/AVP 0\r\n", 399, "media ports"),
        (HEAD + "m=audio 65535 RTP/AVP 0\r\n", 399, "media ports"),
        (HEAD + DTLS, 302, "DTLS-SRTP"),
        (HEAD + "m=audio 4000 UDP 0\r\n", 302, "profile"),
        (HEAD + "m=audio 4000 RTP/SAVP 0\r\n", 399, "SRTP without a key"),
        (START + "t=0 0\r\n" + AUDIO, 399, "no c= line"),
        (START + AUDIO + "c=IN IP6 ::1\r\n", 301, "only IPv4"),
        (START + AUDIO + "c=IN IP4 host.example.net\r\n", 301, "no IPv4 number"),
        (START + AUDIO + "c=IN IP4 1.2.3\r\n", 301, "no IPv4 number"),
        (START + AUDIO + "c=IN IP4 0.1.2.3\r\n", 301, "no IPv4 number"),
        (START + AUDIO + "c=IN IP4 127.0.0.1\r\n", 399, "cannot be meant"),
        (START + AUDIO + "c=IN IP4 224.2.36.42/127\r\n", 399, "cannot be meant"),
        (START + AUDIO + "c=IN IP4 10.0.0.1/127\r\n", 399, "cannot be meant"),
        (START + AUDIO + "c=IN IP4 255.255.255.255\r\n", 399, "cannot be meant"),
        (HEAD + AUDIO * (MAX_MEDIA + 1), 399, "too many media lines"),
        (HEAD + AUDIO + "a=crypto 1 A inline:x\r\n" * 17, 399, "too many crypto"),
        (HEAD + AUDIO + f"m={'x' * 40} 0 RTP/AVP 0\r\n", 304, "kind of media"),
    ],
)
def test_what_cannot_be_taken_is_refused_and_why(text: str, warning: int, reason: str) -> None:
    with pytest.raises(NotAcceptable, match=reason) as refused:
        offer(text)
    assert refused.value.warning == warning


@pytest.mark.parametrize(("srtp", "media"), [("off", SECURE), ("required", AUDIO)])
def test_the_policy_for_srtp_refuses(srtp: str, media: str) -> None:
    with pytest.raises(NotAcceptable, match="SRTP"):
        offer(HEAD + media, srtp=srtp)


def test_a_name_on_a_line_that_is_not_taken_does_no_harm() -> None:
    text = offer(
        START + VIDEO + "c=IN IP4 host.example.net\r\n" + AUDIO + "c=IN IP4 192.0.2.1\r\na=rtcp:5 IN IP4 name\r\n"
    )
    assert lines(text) == ["m=video 0 RTP/AVP 96", "m=audio 4000 RTP/AVP 0"]
    assert "name" not in text
    assert "a=rtcp" not in text


def test_hold_in_the_old_way_is_an_address() -> None:
    assert "c=IN IP4 0.0.0.0\r\n" in offer(START + "c=IN IP4 0.0.0.0\r\n" + AUDIO)


def test_the_loopback_address_is_for_whoever_is_here() -> None:
    assert offer(START + "c=IN IP4 127.0.0.1\r\n" + AUDIO, local=True)


# --- answers ---

EVENTS = "m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"
OFF = "m=video 0 RTP/AVP 31\r\n"


def answer(media: str, offered: str = AUDIO) -> str:
    return answer_for_library(parse_sdp(HEAD + media), terms(), parse_sdp(HEAD + offered))


@pytest.mark.parametrize(
    ("offered", "media", "expected"),
    [
        (AUDIO, AUDIO, ["audio 4000 RTP/AVP 0"]),
        (AUDIO, AUDIO + VIDEO, ["audio 4000 RTP/AVP 0"]),
        (AUDIO + OFF, AUDIO, ["audio 4000 RTP/AVP 0", "video 0 RTP/AVP 0"]),
        (OFF + AUDIO, VIDEO + AUDIO, ["video 0 RTP/AVP 96", "audio 4000 RTP/AVP 0"]),
        ("m=text 0 RTP/AVP 0\r\n" + AUDIO, VIDEO + AUDIO, ["text 0 RTP/AVP 0", "audio 4000 RTP/AVP 0"]),
        (
            "m=audio 0 RTP/AVP 0\r\n" + AUDIO,
            "m=audio 0 RTP/AVP 0\r\n" + AUDIO,
            ["audio 0 RTP/AVP 0", "audio 4000 RTP/AVP 0"],
        ),
        (SECURE, SECURE, ["audio 4004 RTP/SAVP 8"]),
        (SECURE.replace("SAVP", "AVP"), SECURE, ["audio 4004 RTP/SAVP 8"]),
        (SECURE.replace("SAVP", "AVP"), AUDIO.replace("P 0", "P 8"), ["audio 4000 RTP/AVP 8"]),
        (EVENTS, EVENTS.replace("101", "96").replace("P 0", "P 18 8 0"), ["audio 4000 RTP/AVP 0 96"]),
        (EVENTS, EVENTS.replace("101", "96").replace("event/8000", "event/16000"), ["audio 4000 RTP/AVP 0"]),
    ],
)
def test_an_answer_has_the_lines_of_the_offer(offered: str, media: str, expected: list[str]) -> None:
    assert lines(answer(media, offered)) == [f"m={line}" for line in expected]


@pytest.mark.parametrize(
    ("offered", "media"),
    [
        (AUDIO, VIDEO),
        (AUDIO, VIDEO + AUDIO),
        (OFF + AUDIO, AUDIO),
        (AUDIO, SECURE),  # keys that nobody asked for
        (AUDIO, "m=audio 4000 RTP/AVP 8\r\n"),
        (AUDIO, "m=audio 4000 RTP/AVP 97\r\na=rtpmap:97 PCMU/8000\r\n"),
        (SECURE, SECURE.replace("crypto:1", "crypto:2")),
        (SECURE, SECURE.replace("_80", "_32")),
        (SECURE, AUDIO),
        (SECURE, SECURE.replace("\r\na=crypto", "\r\na=nothing")),
        (SECURE.replace("SAVP", "AVP"), SECURE.replace("SAVP", "AVP").replace("MjM0", "MjM0|1:1")),
    ],
)
def test_an_answer_without_our_audio_cannot_be_used(offered: str, media: str) -> None:
    with pytest.raises(NotAcceptable):
        answer(media, offered)


# --- any ---

_MEDIA = st.sampled_from(
    [
        AUDIO,
        VIDEO,
        SECURE,
        DTLS,
        "m=audio 0 RTP/AVP 0\r\n",
        "m=image 9 udptl t38\r\n",
        "c=IN IP6 ::1\r\n",
        "a=inactive\r\n",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_MEDIA, max_size=8).map("".join), st.sampled_from([HEAD, START]), st.sampled_from(["off", "optional"]))
def test_what_the_library_gets_stays_as_it_is(media: str, head: str, srtp: str) -> None:
    try:
        session = parse_sdp(head + media)
        text = offer(head + media, srtp=srtp)
    except (BadSdp, NotAcceptable):
        return
    assert offer(text, srtp=srtp) == text
    again = parse_sdp(text)
    assert [m.kind for m in again.media] == [m.kind for m in session.media]
    assert sum(m.is_audio for m in again.media) == sum(m.port > 0 for m in again.media) == 1
    assert again.connection is not None
    assert len(text) < 1024
