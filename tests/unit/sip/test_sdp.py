"""Session descriptions."""

from __future__ import annotations

import pytest

from gateway.sip.sdp import keep_codecs, may_pause, takes_any

pytestmark = pytest.mark.unit

HEAD = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
OFFER = HEAD + (
    "m=audio 4000 RTP/AVP 0 8 9 101 13\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:9 G722/8000\r\n"
    "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n"
)


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
    ("audio", "pauses"),
    [
        ("0 13", True),
        ("0", False),
        ("0 8 101", False),
        ("8\r\na=silenceSupp:on - - - -", True),
        ("8\r\na=silenceSupp:off - - - -", False),
    ],
)
def test_comfort_noise_and_silence_suppression_announce_pauses(audio: str, pauses: bool) -> None:
    assert may_pause(f"{HEAD}m=audio 4000 RTP/AVP {audio}\r\n") is pauses


def test_hostile_text_is_read_to_an_end() -> None:
    for text in (
        "m=audio",
        "m=audio \r\na=rtpmap:0",
        "m=audio 1 2\r\n" * 5000,
        "\x00" * 5000,
        "m=audio 1 RTP/AVP" + " 0" * 9999,
    ):
        keep_codecs(text, ("PCMU",))
        takes_any(text, ("PCMU",))
        may_pause(text)
