"""
Values of a call in a SIP header that a template writes: they cannot leave the place they stand in.

The caller writes the values, and the carrier believes the header. So within a quoted string quotes are escaped; within
angle brackets everything but the plain characters of a URI is percent-encoded; the value of a parameter is a token or
is put in quotes (RFC 3261 section 25.1). Anywhere else a value stands as it is, except in a header that says who calls:
there it must be a token.
"""

from __future__ import annotations

import re
from urllib.parse import quote

_BEGIN, _END = "\x02", "\x03"  # no value holds control characters
_VALUE = re.compile(f"{_BEGIN}([^{_END}]*){_END}")
_TOKEN = re.compile(r"[A-Za-z0-9.!%*_+`'~-]*")
_SAY_WHO_CALLS = frozenset(
    {
        *("p-asserted-identity", "p-preferred-identity", "remote-party-id", "privacy", "identity", "p-served-user"),
        *("diversion", "history-info", "p-called-party-id", "p-charging-vector", "p-charge-info", "referred-by"),
        *("p-associated-uri", "p-access-network-info", "p-visited-network-id", "p-profile-key", "reply-to"),
    }
)


def marked(value: str) -> str:
    """Return a value without control characters as ``in_their_places`` will know it again."""
    return f"{_BEGIN}{value}{_END}"


def in_their_places(name: str, text: str) -> str:
    """
    Return a header with its marked values written as their places demand.

    Args:
        name: the header's name.
        text: its value.

    Raises:
        ValueError: a header that says who calls would hold a value of somebody's own outside of quotes and brackets.
    """
    strict = name.lower() in _SAY_WHO_CALLS
    written: list[str] = []
    place = ""
    for number, piece in enumerate(_VALUE.split(text)):
        if number % 2 == 0:
            written.append(piece)
            place = _place_after(piece, place)
        else:
            if place == "\\":  # the backslash is the template's own, and must not take the value's first character
                written.append("\\")
                place = '"'
            written.append(_written(piece, place, "".join(written[-1:]).rstrip(" "), strict=strict))
    return "".join(written)


def _place_after(literal: str, place: str) -> str:
    """Return where a text ends: in a quoted string (behind a backslash of its own), in angle brackets, or nowhere."""
    for char in literal:
        if place == "\\":
            place = '"'
        elif place == '"':
            place = {"\\": "\\", '"': ""}.get(char, place)
        elif place == "<":
            place = "" if char == ">" else place
        elif char in '"<':
            place = char
    return place


def _written(value: str, place: str, before: str, *, strict: bool) -> str:
    if place == '"':
        return value.replace("\\", "\\\\").replace('"', '\\"')
    if place == "<":
        return quote(value, safe="+-_.!~*'()")
    if _TOKEN.fullmatch(value):
        return value
    if before.endswith("="):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if strict:
        raise ValueError(
            f"{value[:40]!r} is the caller's own and would be believed; put it in quotes or brackets, or use the keys "
            "caller_id and diverted_from"
        )
    return value
