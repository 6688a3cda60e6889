"""
Offers and answers of the far end (RFC 3264): whether this build can take them, and what the library gets for them.

The library gets a description that we printed: one audio line is on, with codecs, keys and numbers that it knows;
every other line is switched off and bare. The number, kinds and order of the lines are the far end's, so that the
library's answer fits what was offered. Other descriptions ended the process (pjproject 2.15.1, built with asserts): a
switched-off line without a ``c=`` of its own or the session's (``sdp_neg.c``, ``create_answer``; a segmentation fault
in a re-INVITE), DTLS-SRTP while SRTP is on, more than 64 keys. A host name as an address makes the library, and with it
every call, wait for the system's resolver. No I/O.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from gateway.settings.sip import Srtp
from gateway.sip.core.sdp import (
    BESIDE_SPEECH,
    CLOCK_HZ,
    FIRST_DYNAMIC,
    LAST_PAYLOAD,
    MAX_CRYPTO,
    TELEPHONE_EVENT,
    ConnectionData,
    Media,
    SessionDescription,
)

_PLAIN = ("RTP/AVP", "RTP/AVPF")
_SECURE = ("RTP/SAVP", "RTP/SAVPF")
MAX_MEDIA = 12
"""Most media lines accepted: printed by the library they stay below what its Python binding shows (1024 bytes)."""
_MAX_WORD = 32  # of a kind and a profile
_MAX_FORMAT = 16
_MAX_FORMATS = 4  # of a line that is switched off
_PTIME_MS = (10, 60)
_NUMBERS = 2**63
_NOBODY = ConnectionData("IP4", "0.0.0.0")
# Warn-code and reason. No exception until it is raised: one that its own frame holds would keep all that called it, the
# library's endpoint too, until the next collection.
_Unacceptable = tuple[int, str]


class NotAcceptable(ValueError):
    """
    An offer or answer that this build cannot take.

    Attributes:
        warning: warn-code of RFC 3261 section 20.43.
        reason: the same for people.
    """

    def __init__(self, warning: int, reason: str) -> None:
        super().__init__(reason)
        self.warning = warning
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Terms:
    """
    What we accept from a far end.

    Attributes:
        codecs: names as in SDP.
        srtp: the policy.
        local: whether it comes from this machine: no other may make us send RTP to ourselves.
    """

    codecs: Collection[str]
    srtp: Srtp
    local: bool


@dataclass(frozen=True, slots=True)
class LibraryOffer:
    """
    What the library gets for an offer.

    Attributes:
        text: the description.
        lines: which of its media lines are on.
    """

    text: str
    lines: tuple[bool, ...]


def offer_for_library(session: SessionDescription, terms: Terms) -> LibraryOffer:
    """
    Return what the library gets for an offer.

    Args:
        session: the offer.
        terms: what we can take.

    Raises:
        NotAcceptable: it has no line that we can take, or cannot be meant.
    """
    _check_limits(session)
    chosen = _chosen(session, terms)
    lines = [media if media is chosen else _off(media.kind, media) for media in session.media]
    text = _printed(session, session.connection_of(chosen) or _NOBODY, lines)
    return LibraryOffer(text, tuple(media is chosen for media in session.media))


def answer_for_library(session: SessionDescription, terms: Terms, offer: SessionDescription) -> str:
    """
    Return what the library gets for an answer: as many lines as we offered, of the same kinds.

    Args:
        session: the answer.
        terms: what we can take; the policy for SRTP is that of the offer.
        offer: ours.

    Raises:
        NotAcceptable: no line of it can be used.
    """
    _check_limits(session)
    at = next((index for index, media in enumerate(offer.media) if media.is_audio), len(session.media))
    if at >= len(session.media) or not session.media[at].is_audio:
        raise NotAcceptable(304, "no audio")
    theirs = _answering(offer.media[at], session.media[at])
    if (refusal := _refusal(session, theirs, replace(terms, srtp=_srtp_of(offer.media[at])))) is not None:
        raise NotAcceptable(*refusal)
    if theirs.has_crypto and not theirs.crypto:
        raise NotAcceptable(399, "SRTP without a key that can be used")
    lines: list[Media | str] = []
    for index, ours in enumerate(offer.media):
        media = session.media[index] if index < len(session.media) else None
        same = media if media is not None and media.kind == ours.kind else None
        lines.append(theirs if index == at else _off(ours.kind, same))
    return _printed(session, session.connection_of(theirs) or _NOBODY, lines)


def no_answer_for_library(offer: SessionDescription) -> str:
    """Return an answer that takes nothing of our offer: with it the library ends the call, without any it waits."""
    return _printed(offer, _NOBODY, [_off(media.kind, None) for media in offer.media])


def _answering(ours: Media, theirs: Media) -> Media:
    """
    Return an answer's audio with what it has of our offer.

    With nothing in common the library would end its negotiation, and trip an assertion at the next answer
    (``pjsua_media_channel_update``). It tells fixed payload types by number, dynamic ones by name.
    """
    offered = ours.payloads()
    dynamic = {(name, ours.event_clock_hz(payload)) for payload, name in offered.items() if payload >= FIRST_DYNAMIC}
    common = (
        str(payload)
        for payload, name in theirs.payloads().items()
        if (payload in offered if payload < FIRST_DYNAMIC else (name, theirs.event_clock_hz(payload)) in dynamic)
    )
    suites = {crypto.tag: crypto.suite for crypto in ours.crypto}
    keys = tuple(crypto for crypto in theirs.crypto if suites.get(crypto.tag) == crypto.suite)
    return replace(theirs, formats=tuple(common), crypto=keys)


def _srtp_of(ours: Media) -> Srtp:
    """Return what an offer of ours leaves to its answer."""
    if not ours.has_crypto:
        return "off"
    return "required" if ours.profile in _SECURE else "optional"


def _check_limits(session: SessionDescription) -> None:
    if session.crypto_count > MAX_CRYPTO:
        raise NotAcceptable(399, "too many crypto attributes")
    if len(session.media) > MAX_MEDIA:
        raise NotAcceptable(399, "too many media lines")
    if any(max(len(media.kind), len(media.profile)) > _MAX_WORD for media in session.media):
        raise NotAcceptable(304, "a kind of media that cannot be meant")


def _chosen(session: SessionDescription, terms: Terms) -> Media:
    """Return the first audio line that can be taken; which is which must not change between offers of one call."""
    first: _Unacceptable | None = None
    for media in session.media:
        if media.is_audio:
            refusal = _refusal(session, media, terms)
            if refusal is None:
                return media
            first = first or refusal
    raise NotAcceptable(*(first or (304, "no audio")))


def _refusal(session: SessionDescription, media: Media, terms: Terms) -> _Unacceptable | None:
    profile = media.profile.upper()
    if "TLS" in profile:
        return 302, "DTLS-SRTP is not supported"
    if profile not in _PLAIN and profile not in _SECURE:
        return 302, "the media profile is not supported"
    if profile in _SECURE and terms.srtp == "off":
        return 302, "SRTP is not supported here"
    if profile in _PLAIN and terms.srtp == "required":
        return 302, "SRTP is required"
    if profile in _SECURE and not media.crypto:
        return 399, "SRTP without a key that can be used"
    if media.port_count != 1 or media.port == 65535:
        return 399, "media ports that cannot be used"
    if not set(terms.codecs) & set(media.codecs()):
        return 305, "no codec in common"
    return _bad_address(session.connection_of(media), terms)


def _bad_address(connection: ConnectionData | None, terms: Terms) -> _Unacceptable | None:
    if connection is None:
        return 399, "no c= line for the audio"
    if connection.family != "IP4":
        return 301, "only IPv4 media is supported"
    address = _ipv4(connection.address)
    if address is None or (address.packed[0] == 0 and int(address) != 0):
        return 301, "the media address is no IPv4 number"
    if address.is_multicast or address.is_reserved or connection.suffix or (address.is_loopback and not terms.local):
        return 399, "the media address cannot be meant"
    return None


def _ipv4(text: str) -> ipaddress.IPv4Address | None:
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        return None


# --- printing ---


def _off(kind: str, media: Media | None) -> str:
    """
    Return a media line that is switched off.

    An audio line with a profile of DTLS ends the process even so. The library takes what begins with a digit for a
    payload type, and nothing above 127.
    """
    profile = media.profile if media is not None and media.kind != "audio" else "RTP/AVP"
    formats = [text for text in (media.formats if media else ()) if _is_harmless(text)][:_MAX_FORMATS]
    return f"m={kind} 0 {profile} {' '.join(formats or ('0',))}"


def _is_harmless(text: str) -> bool:
    return len(text) <= _MAX_FORMAT and (not text[0].isdigit() or (text.isdigit() and int(text) <= LAST_PAYLOAD))


def _printed(session: SessionDescription, connection: ConnectionData, lines: Sequence[Media | str]) -> str:
    address = f"IN {connection.family} {connection.address}"
    head = f"o=- {session.session_id % _NUMBERS} {session.version % _NUMBERS} {address}"
    text = ["v=0", head, "s=-", f"c={address}", "t=0 0"]
    for line in lines:
        text.extend(_live(line, connection) if isinstance(line, Media) else (line,))
    return "".join(f"{line}\r\n" for line in text)


def _live(media: Media, connection: ConnectionData) -> Iterator[str]:
    # Some devices take the first format for the codec.
    payloads = dict(sorted(media.payloads().items(), key=lambda payload: payload[1] in BESIDE_SPEECH))
    yield f"m=audio {media.port} {media.profile.upper()} {' '.join(str(payload) for payload in payloads)}"
    for payload, name in payloads.items():
        clock_hz = media.event_clock_hz(payload) if name == TELEPHONE_EVENT else CLOCK_HZ
        # The library tells events by this name, letter for letter (stream_info.c).
        yield f"a=rtpmap:{payload} {name.lower() if name == TELEPHONE_EVENT else name}/{clock_hz}"
    if media.ptime_ms:
        yield f"a=ptime:{_whole_frames(media.ptime_ms)}"
    if media.maxptime_ms:
        yield f"a=maxptime:{_whole_frames(media.maxptime_ms)}"
    yield f"a={media.direction}"
    if media.rtcp is not None and (where := media.rtcp[1] or connection).address == connection.address:
        yield f"a=rtcp:{media.rtcp[0]} IN IP4 {where.address}"
    if media.crypto:
        crypto = media.crypto[0]
        yield f"a=crypto:{crypto.tag} {crypto.suite} inline:{crypto.key}"
    if media.may_pause:
        yield "a=silenceSupp:on - - - -"


def _whole_frames(ptime_ms: int) -> int:
    """Return a packet time that the library can do: whole frames of 10 ms, and no packet that a network cuts up."""
    least, most = _PTIME_MS
    return min(max(round(ptime_ms / least) * least, least), most)
