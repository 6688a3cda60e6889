"""Session descriptions: the one parser of them, and what is changed in ours."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.sip.core.sdp import BadSdp, ConnectionData, Crypto, keep_codecs, may_pause, parse_sdp, takes_any

pytestmark = pytest.mark.unit

HEAD = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
OFFER = HEAD + (
    "m=audio 4000 RTP/AVP 0 8 9 101 13\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:9 G722/8000\r\n"
    "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n"
)
KEY = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0"
LONG_KEY = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0QUJDREVGR0hJSktMTU5PUA=="
SUITE = "AES_CM_128_HMAC_SHA1_80"


def audio(lines: str = "", formats: str = "0", profile: str = "RTP/AVP") -> str:
    return f"{HEAD}m=audio 4000 {profile} {formats}\r\n{lines}"


# --- reading ---


def test_a_description_is_read_whole() -> None:
    session = parse_sdp(
        OFFER + "a=rtcp:4001 IN IP4 10.0.0.1\r\na=maxptime:40\r\nc=IN IP4 10.0.0.2\r\nm=video 0/2 RTP/SAVP 96\r\n"
    )
    first, second = session.media
    assert (session.session_id, session.version, session.connection) == (1, 1, ConnectionData("IP4", "127.0.0.1"))
    assert (first.kind, first.port, first.port_count, first.profile) == ("audio", 4000, 1, "RTP/AVP")
    assert first.payloads() == {0: "PCMU", 8: "PCMA", 9: "G722", 101: "TELEPHONE-EVENT", 13: "CN"}
    assert first.codecs() == ("PCMU", "PCMA", "G722")
    assert (first.ptime_ms, first.maxptime_ms, first.direction) == (20, 40, "sendrecv")
    assert first.rtcp == (4001, ConnectionData("IP4", "10.0.0.1"))
    assert session.connection_of(first) == ConnectionData("IP4", "10.0.0.2")
    assert (second.kind, second.port, second.port_count, second.is_audio) == ("video", 0, 2, False)
    assert session.connection_of(second) == session.connection


@pytest.mark.parametrize(
    "text",
    [
        OFFER.replace("\r\n", "\n"),
        OFFER.replace("\r\n", "\r"),
        "\r\n" + OFFER + "\r\n\r\n",
        OFFER.rstrip("\r\n"),
        OFFER.replace("t=0 0\r\n", "").replace("s=-\r\n", "t=0 0\r\na=sendrecv\r\ns= \r\n"),
        OFFER.replace("t=0 0\r\n", "t=0 0\r\nr=7d 1h 0 25h\r\nb=AS:64\r\nz=0 0\r\n"),
        OFFER.replace("o=- 1 1", "o=user 18446744073709551615 0"),
        OFFER.replace("m=audio 4000 RTP/AVP ", "m=audio  4000\tRTP/AVP  "),
    ],
)
def test_ways_of_writing_that_devices_have_are_the_same(text: str) -> None:
    assert parse_sdp(text).media[0].codecs() == ("PCMU", "PCMA", "G722")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no v=0"),
        ("m=audio 4000 RTP/AVP 0", "no v=0"),
        (OFFER.replace("v=0", "v=1"), "no v=0"),
        (OFFER + "v=0\r\n", "more than one v= line"),
        (OFFER.replace("o=- 1 1", "o=- a 1"), "o= line"),
        (OFFER.replace("o=- 1 1 IN", "o=-  1 IN"), "o= line"),
        (OFFER.replace("o=- 1 1", "o=- 99999999999999999999 1"), "out of range"),
        (OFFER.replace("o=- 1 1", f"o=- {10**30} 1"), "o= line"),
        (OFFER.replace("o=- 1 1", "o=- \u0661 1"), "o= line"),
        (OFFER.replace("t=0 0", "t=0"), "t= line"),
        (OFFER.replace("t=0 0", "b=AS"), "b= line"),
        (OFFER.replace("t=0 0", "c=IN IP4 1.2.3.4"), "more than one c= line"),
        (OFFER.replace("c=IN IP4 127", "c=IN IP5 127"), "c= line"),
        (OFFER.replace("c=IN IP4 127", "c=ATM IP4 127"), "c= line"),
        (OFFER.replace("c=IN IP4 127.0.0.1", "c=IN IP4"), "c= line"),
        (OFFER + "c=IN IP4 a b\r\n", "c= line"),
        (OFFER.replace("m=audio 4000", "m=audio 65536"), "m= line"),
        (OFFER.replace("m=audio 4000", "m=audio -1"), "m= line"),
        (OFFER.replace("m=audio 4000", "m=audio"), "m= line"),
        (HEAD + "m=audio 4000 RTP/AVP\r\n", "m= line"),
        (HEAD + "m=audio 4000 RTP/AVP \r\n", "m= line"),
        (HEAD + "m=au(dio 4000 RTP/AVP 0\r\n", "m= line"),
        (OFFER.replace("a=ptime:20", "no line"), "a line that is none"),
        (OFFER.replace("a=ptime:20", ""), "a line that is none"),
        (OFFER.replace("a=ptime:20", "A=ptime:20"), "a line that is none"),
        (OFFER.replace("a=ptime:20", "a=x:\x00"), "control characters"),
        (OFFER + "a=x\r\n" * 2000, "too many lines"),
        (HEAD + "m=audio 4000 RTP/AVP 0\r\n" * 65, "too many media lines"),
    ],
)
def test_what_is_no_description_is_refused(text: str, reason: str) -> None:
    with pytest.raises(BadSdp, match=reason):
        parse_sdp(text)


@pytest.mark.parametrize(
    ("formats", "lines", "payloads"),
    [
        ("8 101", "", {8: "PCMA"}),  # a dynamic number without an rtpmap stands for nothing
        ("8 8 0 8", "", {8: "PCMA", 0: "PCMU"}),
        ("18 x 128 999 0", "", {0: "PCMU"}),
        ("0", "a=rtpmap:0 G729/8000\r\n", {}),  # a fixed number means what RFC 3551 says, or nothing
        ("35", "a=rtpmap:35 PCMA/8000\r\n", {}),
        ("9", "a=rtpmap:9 G722/16000\r\n", {9: "G722"}),
        ("98", "a=rtpmap:98 G722/8000\r\n", {}),
        ("97", "a=rtpmap:97 pcma/8000/1\r\n", {97: "PCMA"}),
        ("97 8", "a=rtpmap:97 PCMA/8000\r\n", {8: "PCMA"}),
        ("97", "a=rtpmap:97 PCMA/16000\r\n", {}),
        ("97", "a=rtpmap:97 PCMA/8000/2\r\n", {}),
        ("97", "a=rtpmap:97 G729/8000\r\na=rtpmap:97 PCMU/8000\r\n", {97: "PCMU"}),
        ("0 101 100", "a=rtpmap:101 telephone-event/16000\r\na=rtpmap:100 telephone-event/8000\r\n", None),
        ("0 96", "a=rtpmap:96 telephone-event/48000\r\n", {0: "PCMU", 96: "TELEPHONE-EVENT"}),
        ("0 13", "", {0: "PCMU", 13: "CN"}),
        ("0", "a=rtpmap:101\r\na=rtpmap: x/8000\r\na=rtpmap:999 PCMA/8000\r\n", {0: "PCMU"}),
    ],
)
def test_payload_types_stand_for_what_this_build_can_do(
    formats: str, lines: str, payloads: dict[int, str] | None
) -> None:
    expected = {0: "PCMU", 100: "TELEPHONE-EVENT"} if payloads is None else payloads
    assert parse_sdp(audio(lines, formats)).media[0].payloads() == expected


def test_of_events_listed_twice_on_one_number_the_clock_is_ours() -> None:
    media = parse_sdp(
        audio("a=rtpmap:101 telephone-event/16000\r\na=rtpmap:101 telephone-event/8000\r\n", "8 101 101")
    ).media[0]
    assert media.payloads() == {8: "PCMA", 101: "TELEPHONE-EVENT"}
    assert media.event_clock_hz(101) == 8000


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (f":1 {SUITE} inline:{KEY}", KEY),
        (f":1 {SUITE.lower()} inline:{KEY}", KEY),
        (f":1 {SUITE} inline:{KEY}|2^31", KEY),
        (f":1 {SUITE} inline:{KEY}|2147483648", KEY),
        (f":1 {SUITE} inline:{KEY} WSH=64 -FUTURE=1", KEY),
        (f":1 AES_256_CM_HMAC_SHA1_80 inline:{LONG_KEY}", LONG_KEY),
        (f":1 {SUITE} inline:{KEY}|2^31|1:1", None),
        (f":1 {SUITE} inline:{KEY}|1:1", None),
        (f":1 {SUITE} inline:{KEY};inline:{KEY}", None),
        (f":1 {SUITE} inline:{KEY}|2^10", None),
        (f":1 {SUITE} inline:{KEY}|1000", None),
        (f":1 {SUITE} inline:{KEY} KDR=1", None),
        (f":1 {SUITE} inline:{KEY} UNENCRYPTED_SRTP", None),
        (f":1 {SUITE} inline:{KEY} UNENCRYPTED_SRTCP", None),
        (f":1 {SUITE} inline:{KEY} UNAUTHENTICATED_SRTP", None),
        (f":1 {SUITE} inline:{KEY} FEC_ORDER=FEC_SRTP", None),
        (f":1 {SUITE} inline:{KEY} FUTURE", None),
        (f":1 {SUITE} inline:{KEY[:-4]}", None),
        (f":1 {SUITE} inline:{LONG_KEY}", None),
        (f":1 {SUITE} inline:{KEY[:-1]}", None),
        (f":1 {SUITE} uri:{KEY}", None),
        (f":1 AEAD_AES_128_GCM inline:{KEY}", None),
        (f":1 NULL inline:{KEY}", None),
        (f":01 {SUITE} inline:{KEY}", None),
        (f":x {SUITE} inline:{KEY}", None),
        (f":1 {SUITE}", None),
        ("", None),
        (f" 1 {SUITE} inline:{KEY}", None),
    ],
)
def test_a_key_is_taken_as_it_stands_or_not_at_all(value: str, key: str | None) -> None:
    session = parse_sdp(audio(f"a=crypto{value}\r\n", profile="RTP/SAVP"))
    assert [crypto.key for crypto in session.media[0].crypto] == ([] if key is None else [key])
    assert session.crypto_count == 1


def test_keys_are_counted_however_they_are_written() -> None:
    lines = f"a=crypto:1 {SUITE} inline:{KEY}\r\na=crypto 2 A inline:x\r\na=CRYPTO\t3 A inline:x\r\na=crypto\r\n"
    session = parse_sdp(audio(lines + "a=cryptography:x\r\n"))
    assert session.crypto_count == 4
    assert session.media[0].crypto == (Crypto(1, SUITE, KEY),)


@pytest.mark.parametrize(
    ("session", "media", "direction"),
    [
        ("", "", "sendrecv"),
        ("a=sendonly\r\n", "", "sendonly"),
        ("a=sendonly\r\n", "a=recvonly\r\n", "recvonly"),
        ("a=inactive\r\n", "a=sendrecv\r\n", "sendrecv"),
        ("", "a=sendrecv\r\na=inactive\r\n", "inactive"),
    ],
)
def test_the_direction_is_the_lines_own_or_the_sessions(session: str, media: str, direction: str) -> None:
    assert parse_sdp(f"{HEAD}{session}m=audio 4000 RTP/AVP 0\r\n{media}").media[0].direction == direction


_PIECES = st.sampled_from(
    [
        *("v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "c=IN IP4 127.0.0.1", "c=IN IP6 ::1", "c=IN IP4 name"),
        *("m=audio 4000 RTP/AVP 0 8 101", "m=audio 0 RTP/AVP 0", "m=video 0 RTP/AVP 96", "m=image 9 udptl t38"),
        *("a=rtpmap:101 telephone-event/8000", "a=rtpmap:", "a=crypto:1 A inline:x", "a=crypto 2 A", "a=ptime:99999"),
        *(f"a=crypto:1 {SUITE} inline:{KEY}|2^31|1:1", "a=rtcp:5 IN IP4 x", "a=", "=", "m=", "\x00", "\u2028", "\r"),
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(_PIECES, st.text(max_size=40)), max_size=25).map("\r\n".join), st.booleans())
def test_any_text_is_a_description_or_refused(text: str, in_order: bool) -> None:
    text = HEAD + text if in_order else text
    try:
        session = parse_sdp(text)
    except BadSdp:
        session = None
    for media in session.media if session else ():
        assert set(media.codecs()) <= {"PCMU", "PCMA", "G722"}
        assert 0 <= media.port <= 65535
    takes_any(text, ("PCMU",))
    may_pause(text)
    keep_codecs(text, ("PCMU",))


# --- what the calls ask ---


@pytest.mark.parametrize(
    ("media", "fits"),
    [
        ("m=audio 4000 RTP/AVP 0\r\n", True),
        ("m=audio 4000 RTP/AVP 97\r\na=rtpmap:97 pcma/8000\r\n", True),
        ("m=audio 4000 RTP/AVP 18 101\r\na=rtpmap:101 telephone-event/8000\r\n", False),
        ("m=audio 4000 RTP/AVP 18\r\nm=audio 4002 RTP/AVP 8\r\n", True),
        ("m=audio 0 RTP/AVP 18\r\n", True),
        ("m=image 4000 udptl t38\r\n", True),
        ("", True),
    ],
)
def test_an_offer_is_judged_by_its_codecs(media: str, fits: bool) -> None:
    assert takes_any(HEAD + media, ("PCMU", "PCMA")) is fits


@pytest.mark.parametrize(
    ("payloads", "lines", "pauses"),
    [
        ("0 13", "", True),
        ("0 97", "a=rtpmap:97 CN/16000\r\n", True),
        ("0", "a=silenceSupp:on - - - -\r\n", True),
        ("0", "a=silenceSupp:off - - - -\r\n", False),
        ("0", "", False),
        ("0 8 101", "", False),
    ],
)
def test_comfort_noise_and_silence_suppression_announce_pauses(payloads: str, lines: str, pauses: bool) -> None:
    assert may_pause(audio(lines, payloads)) is pauses


# --- what we change in our own ---


def test_only_the_wanted_codecs_stay_and_in_their_order() -> None:
    kept = keep_codecs(OFFER, ("PCMA", "PCMU"))
    assert "m=audio 4000 RTP/AVP 8 0 101 13\r\n" in kept
    assert "G722" not in kept
    assert "a=fmtp:101 0-16\r\n" in kept
    assert kept.startswith(HEAD)
    assert kept.endswith("a=ptime:20\r\na=sendrecv\r\n")


def test_what_fits_already_is_not_changed() -> None:
    assert keep_codecs(OFFER, ("PCMU", "PCMA", "G722")) == OFFER


def test_audio_without_any_wanted_codec_is_left_alone() -> None:
    only = HEAD + "m=audio 4000 RTP/AVP 8\r\n"
    assert keep_codecs(only, ("PCMU",)) == only


def test_other_media_is_left_alone() -> None:
    video = "m=video 5000 RTP/AVP 0 96\r\na=rtpmap:96 VP8/90000\r\n"
    assert keep_codecs(OFFER + video, ("PCMA",)).endswith(video)
