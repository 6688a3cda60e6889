"""What must be known and changed in a session description (RFC 4566) of a call."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_STATIC = {"0": "PCMU", "8": "PCMA", "9": "G722", "13": "CN"}  # RFC 3551 section 6
_RTPMAP = re.compile(r"a=rtpmap:(\d{1,3}) ([\w.-]+)/(\d+)", re.IGNORECASE)
_OF_PAYLOAD = re.compile(r"a=(?:rtpmap|fmtp|rtcp-fb):(\d{1,3})[ \t]", re.IGNORECASE)
_BESIDE_SPEECH = ("TELEPHONE-EVENT", "CN")
_MAX_LINES = 400


def keep_codecs(sdp: str, codecs: Sequence[str]) -> str:
    """
    Return a session description whose audio has only some codecs, in their order.

    Telephone events and comfort noise stay. Media that would be left without a codec is not touched: what becomes of
    it is the negotiation's matter.

    Args:
        sdp: the description.
        codecs: names as in SDP, best first.
    """
    parts = list(_parts(sdp))
    return "".join(_kept(part, codecs) if _is_audio(part) else "".join(part) for part in parts)


def takes_any(sdp: str, codecs: Sequence[str]) -> bool:
    """
    Return whether a description has an audio stream that one of our codecs fits.

    An offer without any live audio stream (port 0) is no question of codecs: that is the negotiation's matter.
    """
    live = [part for part in _parts(sdp) if _is_audio(part) and not _is_refused(part)]
    if not live:
        return True
    wanted = {codec.upper() for codec in codecs}
    return any(wanted & set(_names(part).values()) for part in live)


def may_pause(sdp: str) -> bool:
    """
    Return whether the far end may send nothing while it is silent.

    It says so by offering comfort noise (RFC 3389) or by ``a=silenceSupp:on`` (RFC 3108 section 5.6.3.2).
    """
    audio = [part for part in _parts(sdp) if _is_audio(part)]
    suppresses = any(line.lower().startswith("a=silencesupp:on") for part in audio for line in part)
    return suppresses or any("CN" in _names(part).values() for part in audio)


def _parts(sdp: str) -> Iterator[list[str]]:
    """Cut a description into its session part and its media parts, line ends kept."""
    part: list[str] = []
    for line in sdp.splitlines(keepends=True)[:_MAX_LINES]:
        if line.startswith("m=") and part:
            yield part
            part = []
        part.append(line)
    if part:
        yield part


def _is_audio(part: list[str]) -> bool:
    return part[0].startswith("m=audio ")


def _is_refused(part: list[str]) -> bool:
    fields = part[0].split()
    return len(fields) < 4 or fields[1].split("/")[0] == "0"


def _names(part: list[str]) -> dict[str, str]:
    """Return payload type -> codec name in capitals, in the order of the m line."""
    mapped = {found.group(1): found.group(2).upper() for line in part if (found := _RTPMAP.match(line))}
    return {payload: mapped.get(payload, _STATIC.get(payload, "")) for payload in part[0].split()[3:]}


def _kept(part: list[str], codecs: Sequence[str]) -> str:
    names = _names(part)
    speech = [payload for codec in codecs for payload, name in names.items() if name == codec.upper()]
    if not speech:
        return "".join(part)
    keep = [*speech, *(payload for payload, name in names.items() if name in _BESIDE_SPEECH)]
    end = part[0][len(part[0].rstrip("\r\n")) :]
    lines = [" ".join([*part[0].split()[:3], *keep]) + end]
    for line in part[1:]:
        found = _OF_PAYLOAD.match(line)
        if found is None or found.group(1) in keep:
            lines.append(line)
    return "".join(lines)
