"""What is read out of a SIP message as text: request line and headers, from an untrusted sender."""

from __future__ import annotations

import re

# RFC 3261 section 7.3.3 and the extensions that define one.
_COMPACT = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
}
_FOLD = re.compile(r"\n[ \t]+")
_IN_BRACKETS = re.compile(r"<([^<>]*)>")
MAX_HEADERS = 100
MAX_VALUE = 1000


def clean(text: str) -> str:
    """Return text that every store takes: undecodable bytes and control characters are replaced."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)  # no surrogate is printable


def request_uri(message: str) -> str:
    """Return the Request-URI of a request, or an empty string."""
    parts = message.split("\n", 1)[0].split()
    return clean(parts[1])[:MAX_VALUE] if len(parts) == 3 else ""


def headers_of(message: str) -> dict[str, str]:
    """Return header name in lower case -> value; the first of a name wins, at most ``MAX_HEADERS`` are read."""
    head = message.replace("\r\n", "\n").split("\n\n", 1)[0]
    headers: dict[str, str] = {}
    for line in _FOLD.sub(" ", head).split("\n")[1 : MAX_HEADERS + 1]:
        name, colon, value = line.partition(":")
        key = name.strip().lower()
        if colon and key:
            headers.setdefault(clean(_COMPACT.get(key, key)), clean(value.strip())[:MAX_VALUE])
    return headers


def bare_uri(name_addr: str) -> str:
    """Return the URI of a From or To value, without display name, brackets, header parameters and URI parameters."""
    found = _IN_BRACKETS.search(name_addr)
    uri = found.group(1) if found else name_addr.split(";", 1)[0]
    return clean(uri.split(";", 1)[0].split("?", 1)[0].strip())
