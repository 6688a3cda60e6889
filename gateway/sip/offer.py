"""What is wrong with the SDP in a SIP message, as far as the library must not see it or answers badly. No I/O."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass

from gateway.settings_sip import Srtp

_LINE = re.compile(r"(?:^|[\r\n])([a-z])=([^\r\n]*)", re.IGNORECASE)
# Searched in the whole message, not in what we take for its body: the library may see another border, or a part of a
# multipart body.
_DTLS = re.compile(r"m=[ \t]*audio[ \t]+[^ \t\r\n]+[ \t]+[^ \t\r\n]*tls", re.IGNORECASE)
_SECURE = ("RTP/SAVP", "RTP/SAVPF")
_PROFILES = ("RTP/AVP", "RTP/AVPF", *_SECURE)
_STATIC = {"0": "PCMU", "8": "PCMA", "9": "G722"}  # RFC 3551 section 6
_MAX_CRYPTO = 16  # the library has room for 64 on its stack and does not count (transport_srtp_sdes.c)


@dataclass(slots=True)
class _Audio:
    """An audio line that is not switched off, with its attributes."""

    profile: str
    formats: list[str]
    address: str
    rtpmaps: dict[str, str]
    crypto_lines: int = 0


def deadly(text: str, *, srtp_in_use: bool) -> str | None:
    """
    Say why a message would end the process, or return None.

    Measured with pjproject 2.15.1: with SRTP optional or mandatory, an audio line of ``UDP/TLS/RTP/SAVP[F]`` in an
    offer ends in a segmentation fault, whatever other lines there are; with SRTP off it is refused in order.
    """
    if srtp_in_use and _DTLS.search(text):
        return "DTLS-SRTP is not supported"
    if srtp_in_use and text.lower().count("a=crypto:") > _MAX_CRYPTO:
        return "too many crypto attributes"
    return None


def unacceptable(sdp: str, srtp: Srtp, *, local: bool) -> str | None:
    """
    Say why an offer or answer is to be refused, or return None.

    Args:
        sdp: the message, or its body.
        srtp: what the trunk's policy is.
        local: whether it comes from this machine: nobody else may have us send RTP to ourselves.
    """
    lines = _audio_lines(sdp)
    if not lines:
        return None  # the library says what is wrong, if anything is
    if any(_absurd(line.address, local=local) for line in lines):
        return "the media address cannot be meant"
    secure = [line for line in lines if line.profile in _SECURE]
    if srtp == "off" and len(secure) == len(lines):
        return "SRTP is not supported here"
    if srtp == "required" and not secure:
        return "SRTP is required"
    if srtp != "off" and any(not line.crypto_lines for line in secure):
        return "SRTP without a key"  # RFC 4568 section 6; the library would say 406
    return None


def has_audio_of(sdp: str, codecs: Collection[str]) -> bool:
    """Whether an offer has an audio line that is on, in a profile and with a codec that we take."""
    return any(
        line.profile in _PROFILES
        and any(line.rtpmaps.get(payload, _STATIC.get(payload, "")) in codecs for payload in line.formats)
        for line in _audio_lines(sdp)
    )


def has_sdp(text: str) -> bool:
    """Whether there is a media line at all."""
    return _LINE.search(text) is not None and re.search(r"[\r\n]m=", text) is not None


def _audio_lines(sdp: str) -> list[_Audio]:
    found: list[_Audio] = []
    session_address = ""
    current: _Audio | None = None
    in_media = False
    for kind, value in _LINE.findall(sdp):
        if kind in "mM":
            in_media = True
            current = _audio_line(value, session_address)
            if current is not None:
                found.append(current)
        elif kind == "c":
            address = value.split()[-1] if value.split() else ""
            if current is not None:
                current.address = address
            elif not in_media:
                session_address = address
        elif kind == "a" and current is not None:
            _attribute(current, value)
    return found


def _audio_line(value: str, address: str) -> _Audio | None:
    parts = value.split()
    if len(parts) < 4 or parts[0].lower() != "audio" or parts[1].split("/")[0].strip("0") == "":
        return None
    return _Audio(parts[2].upper(), parts[3:], address, {})


def _attribute(line: _Audio, value: str) -> None:
    name, _, rest = value.partition(":")
    if name.lower() == "crypto":
        line.crypto_lines += 1
    elif name.lower() == "rtpmap" and len(rest.split()) >= 2:
        payload, encoding = rest.split()[:2]
        line.rtpmaps[payload] = encoding.partition("/")[0].upper()


def _absurd(text: str, *, local: bool) -> bool:
    try:
        address = ipaddress.ip_address(text.partition("/")[0])
    except ValueError:
        return False  # a name: the library resolves it or not
    if address.is_multicast or text.startswith("255.255.255.255"):
        return True
    return address.is_loopback and not local
