"""
Session descriptions (RFC 4566, RFC 8866): the one parser of them, and what is known and changed in ours.

Theory of operation: nothing of the far end's text gets to the library. ``parse_sdp`` takes a body whole or refuses it;
``negotiation.py`` judges what came of it and prints, for the library, a description that says the same and holds
nothing else. Lines and attributes that we have no use for (candidates, bandwidth, feedback) are read as lines, and
dropped. No I/O.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]

STATIC = {0: "PCMU", 8: "PCMA", 9: "G722", 13: "CN"}
"""Payload types with a fixed codec (RFC 3551 section 6), as far as they are ours; the RTP clock of all is 8000 Hz."""
CLOCK_HZ = 8000
TELEPHONE_EVENT = "TELEPHONE-EVENT"
BESIDE_SPEECH = (TELEPHONE_EVENT, "CN")
FIRST_DYNAMIC = 96
LAST_PAYLOAD = 127

KEY_BYTES = {
    "AES_CM_128_HMAC_SHA1_80": 30,
    "AES_CM_128_HMAC_SHA1_32": 30,
    "AES_256_CM_HMAC_SHA1_80": 46,
    "AES_256_CM_HMAC_SHA1_32": 46,
}
"""Crypto suites of this build and the length of their key with its salt (RFC 4568 section 6.2, RFC 6188 section 3)."""
MAX_CRYPTO = 16
"""Most crypto attributes read; the library has room for 64 on its stack and does not count them."""

_MAX_LINES = 1000
_MAX_MEDIA = 64
_LARGEST = 2**64
_DIRECTIONS: tuple[Direction, ...] = ("sendrecv", "sendonly", "recvonly", "inactive")
_SHORTEST_LIFETIME = 20  # as a power of two: packets of six hours

_ENDS = re.compile(r"\r\n|\n|\r")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_TOKEN = r"[!#-'*+\-.0-9A-Z^-~]+"  # RFC 8866 section 9
_LINE = re.compile(r"([a-z])=(.*)", re.DOTALL)
_PROFILE = rf"{_TOKEN}(?:/{_TOKEN})*"
_MEDIA = re.compile(
    rf"({_TOKEN})[ \t]+(\d{{1,5}})(?:/(\d{{1,5}}))?[ \t]+({_PROFILE})((?:[ \t]+{_TOKEN})*)[ \t]*", re.ASCII
)
_ORIGIN = re.compile(r"([^ \t]+)[ \t]+(\d{1,20})[ \t]+(\d{1,20})[ \t]+IN[ \t]+(IP4|IP6)[ \t]+([^ \t]+)[ \t]*", re.ASCII)
_CONNECTION = re.compile(r"IN[ \t]+(IP4|IP6)[ \t]+([^ \t/]+)((?:/\d{1,3}){0,2})[ \t]*", re.ASCII)
_TIME = re.compile(r"-?\d{1,20}[ \t]+-?\d{1,20}[ \t]*", re.ASCII)
_BANDWIDTH = re.compile(rf"{_TOKEN}:[ \t]*\d{{1,20}}[ \t]*", re.ASCII)
_ATTRIBUTE = re.compile(rf"({_TOKEN})(?::(.*))?", re.DOTALL)
_CRYPTO_AT_ALL = re.compile(r"crypto(?![!#-'*+\-.0-9A-Z^-~])", re.IGNORECASE)
_RTPMAP = re.compile(r"[ \t]*(\d{1,3})[ \t]+([\w.+-]+)/(\d{1,6})(?:/(\d{1,2}))?[ \t]*", re.ASCII)
_NUMBER = re.compile(r"[ \t]*(\d{1,5})(?:\.\d+)?[ \t]*", re.ASCII)
_RTCP = re.compile(r"[ \t]*(\d{1,5})(?:[ \t]+(IN[ \t]+.*))?[ \t]*", re.ASCII)
_CRYPTO = re.compile(r"[ \t]*([1-9]\d{0,8}|0)[ \t]+(\S+)[ \t]+(\S+)((?:[ \t]+\S+)*)[ \t]*", re.ASCII)
_KEY = re.compile(r"inline:([A-Za-z0-9+/]+={0,2})(?:\|(?:2\^)?(\d{1,15}))?(\|\d+:\d+)?", re.IGNORECASE | re.ASCII)
_LIFETIME_AS_POWER = re.compile(r"\|2\^")
_PAYLOAD = re.compile(r"\d{1,3}", re.ASCII)


class BadSdp(ValueError):
    """
    A body that is no session description.

    Attributes:
        reason: what is wrong, without anything of the body that could be a key.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ConnectionData:
    """
    Where media goes (``c=``); the network is the Internet.

    Attributes:
        family: ``IP4`` or ``IP6``.
        address: as it is written: a number or a name.
        suffix: of multicast, TTL and number of addresses; else empty.
    """

    family: str
    address: str
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Rtpmap:
    """What a payload type means; ``name`` in upper case."""

    payload: int
    name: str
    clock_hz: int
    channels: int


@dataclass(frozen=True, slots=True)
class Crypto:
    """
    A key for SRTP (RFC 4568).

    Attributes:
        tag: its number in the offer.
        suite: as it is written.
        key: base64; empty where it cannot be used.
    """

    tag: int
    suite: str
    key: str


@dataclass(frozen=True, slots=True)
class Media:
    """
    A media line with its attributes.

    Attributes:
        kind: ``audio``, ``video`` and so on, in lower case.
        port: 0 for a line that is switched off.
        port_count: how many ports it takes; 1 where the line does not say.
        profile: as it is written, such as ``RTP/AVP``.
        formats: as they are written.
        connection: its own; None where the session's holds.
        rtpmaps: well-formed ones, in order; of one payload type there may be several.
        direction: its own, the session's, or ``sendrecv``.
        ptime_ms, maxptime_ms: None where they are not given.
        rtcp: port and connection of an ``a=rtcp`` line (RFC 3605).
        crypto: the keys that this build can use unchanged, in order.
        attributes: all, name in lower case and value.
    """

    kind: str
    port: int
    port_count: int
    profile: str
    formats: tuple[str, ...]
    connection: ConnectionData | None
    rtpmaps: tuple[Rtpmap, ...]
    direction: Direction
    ptime_ms: int | None
    maxptime_ms: int | None
    rtcp: tuple[int, ConnectionData | None] | None
    crypto: tuple[Crypto, ...]
    attributes: tuple[tuple[str, str], ...]

    @property
    def is_audio(self) -> bool:
        """Whether it is audio that is switched on."""
        return self.kind == "audio" and self.port != 0

    def payloads(self) -> dict[int, str]:
        """
        Return payload type -> codec name in upper case, of the codecs, events and comfort noise that this build knows.

        In the order of the media line, each codec once: the library cannot use G.722 on a dynamic number, nor a number
        below 96 for anything but what it stands for, and of one codec a fixed number goes before a dynamic one. Of
        telephone events those with the clock of our codecs go before others (RFC 4733 section 2.1).
        """
        found: dict[int, str] = {}
        for text in self.formats:
            if _PAYLOAD.fullmatch(text) and (payload := int(text)) <= LAST_PAYLOAD and payload not in found:
                name = self._name(payload)
                if name:
                    found[payload] = name
        return {payload: name for payload, name in found.items() if self._goes_first(payload, name, found)}

    def _name(self, payload: int) -> str:
        maps = [rtpmap for rtpmap in self.rtpmaps if rtpmap.payload == payload]
        if payload < FIRST_DYNAMIC:
            name = STATIC.get(payload, "")
            # Devices that write G722/16000 mean what RFC 3551 section 4.5.2 calls G722/8000.
            return name if not maps or any(rtpmap.name == name for rtpmap in maps) else ""
        for rtpmap in sorted(maps, key=lambda rtpmap: rtpmap.clock_hz != CLOCK_HZ):
            if rtpmap.name == TELEPHONE_EVENT:
                return TELEPHONE_EVENT
            if rtpmap.name in ("PCMU", "PCMA") and (rtpmap.clock_hz, rtpmap.channels) == (CLOCK_HZ, 1):
                return rtpmap.name
        return ""

    def _goes_first(self, payload: int, name: str, found: dict[int, str]) -> bool:
        same = [other for other, its in found.items() if its == name]
        if name == TELEPHONE_EVENT:
            return payload == min(same, key=lambda other: self.event_clock_hz(other) != CLOCK_HZ)
        return payload == min(same, key=lambda other: other >= FIRST_DYNAMIC)

    def event_clock_hz(self, payload: int) -> int:
        """Return the clock of telephone events on a payload type; ours where it has several."""
        clocks = [r.clock_hz for r in self.rtpmaps if r.payload == payload and r.name == TELEPHONE_EVENT]
        return CLOCK_HZ if CLOCK_HZ in clocks or not clocks else clocks[0]

    def codecs(self) -> tuple[str, ...]:
        """Return the speech codecs that this build knows, best first."""
        return tuple(name for name in self.payloads().values() if name not in BESIDE_SPEECH)

    @property
    def has_crypto(self) -> bool:
        """Whether it has keys at all, such that can be used or not."""
        return any(name == "crypto" for name, _ in self.attributes)

    @property
    def may_pause(self) -> bool:
        """
        Whether its sender may send nothing while it is silent.

        It says so by comfort noise (RFC 3389) or by the attribute for silence suppression (RFC 3108 section 5.6.3.2).
        """
        if "CN" in self.payloads().values() or any(rtpmap.name == "CN" for rtpmap in self.rtpmaps):
            return True
        return any(name == "silencesupp" and value.lower().startswith("on") for name, value in self.attributes)


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """
    A session description.

    Attributes:
        session_id, version: of its origin line.
        connection: of the session; None where each media line has its own.
        media: in order.
        crypto_count: how many attributes the library would take for keys, well-formed or not.
    """

    session_id: int
    version: int
    connection: ConnectionData | None
    media: tuple[Media, ...]
    crypto_count: int

    def connection_of(self, media: Media) -> ConnectionData | None:
        """Return where a media line's packets go."""
        return media.connection or self.connection

    def lines_on(self) -> tuple[bool, ...]:
        """Return which media lines are on."""
        return tuple(media.port != 0 for media in self.media)


# --- reading ---


@dataclass(slots=True)
class _Section:
    """The session's lines, or those of a media line: letters with their values."""

    first: str
    lines: list[tuple[str, str]]

    def one(self, letter: str) -> str | None:
        found = [value for key, value in self.lines if key == letter]
        if len(found) > 1:
            raise BadSdp(f"more than one {letter}= line")
        return found[0] if found else None


def parse_sdp(text: str) -> SessionDescription:
    """
    Return a session description.

    Lines must be well-formed and complete; the order of those of the session is not insisted on, since devices differ.
    An attribute with a value that its own grammar does not know counts as absent.

    Raises:
        BadSdp: it is not one; the reason says why.
    """
    sections = _sections(text)
    session = sections[0]
    if session.first != "v=0":
        raise BadSdp("no v=0 line at its beginning")
    origin = _ORIGIN.fullmatch(session.one("o") or "")
    if origin is None:
        raise BadSdp("o= line missing or malformed")
    session_id, version = int(origin[2]), int(origin[3])
    if max(session_id, version) >= _LARGEST:
        raise BadSdp("o= line with numbers out of range")
    session.one("s")
    connection = _connection(session.one("c"))
    _check_rest(session)
    attributes = _attributes(session)
    direction = _direction(attributes, "sendrecv")
    return SessionDescription(
        session_id=session_id,
        version=version,
        connection=connection,
        media=tuple(_media(section, direction) for section in sections[1:]),
        crypto_count=sum(
            letter == "a" and _CRYPTO_AT_ALL.match(value) is not None
            for section in sections
            for letter, value in section.lines
        ),
    )


def _sections(text: str) -> list[_Section]:
    if _CONTROL.search(text):
        raise BadSdp("control characters")
    lines = _ENDS.split(text.strip("\r\n"))
    if len(lines) > _MAX_LINES:
        raise BadSdp("too many lines")
    found = [_Section(lines[0].rstrip(" \t"), [])]
    for line in lines[1:]:
        parts = _LINE.fullmatch(line)
        if parts is None:
            raise BadSdp("a line that is none of letter=value")
        if parts[1] == "m":
            found.append(_Section(parts[2], []))
        elif parts[1] == "v":
            raise BadSdp("more than one v= line")
        else:
            found[-1].lines.append((parts[1], parts[2]))
    if len(found) - 1 > _MAX_MEDIA:
        raise BadSdp("too many media lines")
    return found


def _check_rest(section: _Section) -> None:
    for letter, value in section.lines:
        if letter == "t" and _TIME.fullmatch(value) is None:
            raise BadSdp("t= line malformed")
        if letter == "b" and _BANDWIDTH.fullmatch(value) is None:
            raise BadSdp("b= line malformed")


def _connection(value: str | None) -> ConnectionData | None:
    if value is None:
        return None
    found = _CONNECTION.fullmatch(value)
    if found is None:
        raise BadSdp("c= line malformed")
    return ConnectionData(found[1], found[2], found[3])


def _attributes(section: _Section) -> tuple[tuple[str, str], ...]:
    found = (_ATTRIBUTE.fullmatch(value) for letter, value in section.lines if letter == "a")
    return tuple((match[1].lower(), match[2] or "") for match in found if match)


def _direction(attributes: Sequence[tuple[str, str]], otherwise: Direction) -> Direction:
    names = {name for name, _ in attributes}
    # Of several, the one that allows least.
    return next((direction for direction in reversed(_DIRECTIONS) if direction in names), otherwise)


def _media(section: _Section, direction: Direction) -> Media:
    line = _MEDIA.fullmatch(section.first)
    if line is None or int(line[2]) > 65535 or not line[5].strip():
        raise BadSdp("m= line malformed")
    _check_rest(section)
    attributes = _attributes(section)
    values = dict(reversed(attributes))
    return Media(
        kind=line[1].lower(),
        port=int(line[2]),
        port_count=int(line[3] or 1),
        profile=line[4],
        formats=tuple(line[5].split()),
        connection=_connection(section.one("c")),
        rtpmaps=tuple(_rtpmaps(attributes)),
        direction=_direction(attributes, direction),
        ptime_ms=_number(values.get("ptime")),
        maxptime_ms=_number(values.get("maxptime")),
        rtcp=_rtcp(values.get("rtcp")),
        crypto=tuple(crypto for name, value in attributes if name == "crypto" and (crypto := _crypto(value))),
        attributes=attributes,
    )


def _rtpmaps(attributes: Sequence[tuple[str, str]]) -> Iterator[Rtpmap]:
    for name, value in attributes:
        found = _RTPMAP.fullmatch(value) if name == "rtpmap" else None
        if found is not None and int(found[1]) <= LAST_PAYLOAD:
            yield Rtpmap(int(found[1]), found[2].upper(), int(found[3]), int(found[4] or 1))


def _number(value: str | None) -> int | None:
    found = _NUMBER.fullmatch(value or "")
    return int(found[1]) if found else None


def _rtcp(value: str | None) -> tuple[int, ConnectionData | None] | None:
    found = _RTCP.fullmatch(value or "")
    if found is None or not 0 < int(found[1]) <= 65535:
        return None
    if found[2] is None:
        return int(found[1]), None
    address = _CONNECTION.fullmatch(found[2])
    return None if address is None else (int(found[1]), ConnectionData(address[1], address[2], address[3]))


def _crypto(value: str) -> Crypto | None:
    """
    Return a key that can be used unchanged, or None.

    Passed over: other suites, several keys and keys with an MKI, lifetimes that a call might outlive, and parameters
    that change what is on the wire. ``WSH`` is advice alone, and a parameter with a minus need not be known (RFC 4568
    section 6.3).
    """
    found = _CRYPTO.fullmatch(value)
    if found is None or found[2].upper() not in KEY_BYTES:
        return None
    key = _KEY.fullmatch(found[3])
    if key is None or key[3] is not None or _too_short(found[3], key[2]):
        return None
    if any(not word.startswith("-") and not word.upper().startswith("WSH=") for word in found[4].split()):
        return None
    try:
        length = len(base64.b64decode(key[1] + "=" * (-len(key[1]) % 4), validate=True))
    except binascii.Error:
        return None
    return Crypto(int(found[1]), found[2].upper(), key[1]) if length == KEY_BYTES[found[2].upper()] else None


def _too_short(key: str, lifetime: str | None) -> bool:
    if lifetime is None:
        return False
    return int(lifetime) < (_SHORTEST_LIFETIME if _LIFETIME_AS_POWER.search(key) else 2**_SHORTEST_LIFETIME)


# --- what the calls ask ---


def takes_any(text: str, codecs: Sequence[str]) -> bool:
    """
    Return whether a description has an audio stream that one of our codecs fits.

    One without any live audio stream (port 0), or that cannot be read, is no question of codecs.
    """
    live = [media for media in _read(text) if media.is_audio]
    return not live or any(set(codecs) & set(media.codecs()) for media in live)


def may_pause(text: str) -> bool:
    """Return whether the sender of a description may send nothing while it is silent."""
    return any(media.may_pause for media in _read(text) if media.is_audio)


def _read(text: str) -> tuple[Media, ...]:
    try:
        return parse_sdp(text).media
    except BadSdp:
        return ()


# --- what we change in our own ---

_OF_PAYLOAD = re.compile(r"a=(?:rtpmap|fmtp|rtcp-fb):(\d{1,3})[ \t]", re.IGNORECASE)
_PARTS = re.compile(r"(?m)^(?=m=)")
_LINES = re.compile(r"[^\r\n]*(?:\r\n|\n|\r|\Z)")


def keep_codecs(sdp: str, codecs: Sequence[str]) -> str:
    """
    Return a description of our own whose audio has only some codecs, in their order.

    Telephone events and comfort noise stay. Media that would be left without a codec is not touched: what becomes of
    it is the negotiation's matter.

    Args:
        sdp: the description, as the library printed it.
        codecs: names as in SDP, best first.
    """
    media = iter(_read(sdp))
    head, *parts = _PARTS.split(sdp)
    return head + "".join(_kept(part, next(media, None), codecs) for part in parts)


def _kept(part: str, media: Media | None, codecs: Sequence[str]) -> str:
    if media is None or media.kind != "audio":
        return part
    names = _all_names(media)
    speech = [payload for codec in codecs for payload, name in names.items() if name == codec]
    if not speech:
        return part
    keep = [*speech, *(payload for payload, name in names.items() if name in BESIDE_SPEECH)]
    first, *lines = [line for line in _LINES.findall(part) if line]
    end = first[len(first.rstrip("\r\n")) :]
    kept = [" ".join([*first.split()[:3], *keep]) + end]
    for line in lines:
        found = _OF_PAYLOAD.match(line)
        if found is None or found[1] in keep:
            kept.append(line)
    return "".join(kept)


def _all_names(media: Media) -> dict[str, str]:
    mapped = {str(rtpmap.payload): rtpmap.name for rtpmap in media.rtpmaps}
    static = {str(payload): name for payload, name in STATIC.items()}
    return {payload: mapped.get(payload, static.get(payload, "")) for payload in media.formats}
