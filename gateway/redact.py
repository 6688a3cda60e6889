"""
Secrets out of text, in three ways.

``Redactor`` finds secrets that are known: what a service or a tool says may repeat the keys it was sent. It finds each
as it is, in percent-encoding (RFC 3986), behind the escapes of JSON and HTML, nested a few times, in hexadecimal, and
in base64 (RFC 4648) even as part of what was encoded, as in ``Basic`` credentials. ``mask_text`` finds what looks like
a secret, for the log. ``shown`` prints a setting, with those marked as secret masked.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Self
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import AnyUrl, BaseModel, SecretStr
from pydantic_core import MultiHostUrl

MASK = "***"
SHOWN_MASK = "********"
"""The same where people read settings and the log."""

SHORTEST_SECRET = 6
"""Shorter values are no secrets; taking them out would garble every message."""

# Keys and ephemeral client secrets of the Realtime API's service.
_KEY = (re.compile(r"\b([se]k)[-_][\w-]{4,}"), rf"\1-{SHOWN_MASK}")
_PATTERNS = (
    _KEY,
    # A whole header line: a SIP digest (RFC 3261 section 22.4) has its secret parts anywhere in it.
    (re.compile(r"(?i)((?:proxy-)?authorization['\"]?\s*[:=]\s*)[^\r\n]+"), rf"\1{SHOWN_MASK}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+(?=\S*[\d=])[\w.~+/=-]{6,}"), rf"\1 {SHOWN_MASK}"),
    (re.compile(r"(://[^/\s:@]*:)[^/\s@]+@"), rf"\1{SHOWN_MASK}@"),
    (re.compile(r"(?i)([?&](?:password|api_?key|token|secret)=)[^&\s'\"]+"), rf"\1{SHOWN_MASK}"),
)

_LEVELS = 4
"""How often text is decoded: JSON in JSON in a URL is three."""

_ESCAPE = re.compile(
    rb"%[0-9A-Fa-f]{2}"
    rb"|\\u[dD][89abAB][0-9A-Fa-f]{2}\\u[dD][c-fC-F][0-9A-Fa-f]{2}"  # one character beyond the first 65,536
    rb'|\\u[0-9A-Fa-f]{4}|\\["\\/bfnrt]'
    rb"|&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|amp|lt|gt|quot|apos);"
)


def secrets_in(value: object) -> Iterator[SecretStr]:
    """Yield every secret in settings, or in part of them: those marked as such, and the passwords of URLs."""
    match value:
        case SecretStr():
            yield value
        case AnyUrl() if value.password:
            yield SecretStr(value.password)
        case MultiHostUrl():
            given = (host["password"] for host in value.hosts())
            asked = (text for name, text in parse_qsl(value.query or "") if "pass" in name)
            yield from (SecretStr(password) for password in (*given, *asked) if password)
        case BaseModel():
            for _, inner in value:
                yield from secrets_in(inner)
        case Mapping():
            for inner in value.values():
                yield from secrets_in(inner)
        case tuple() | list():
            for inner in value:
                yield from secrets_in(inner)


class Redactor:
    """
    Takes secrets out of text before it is logged, reported or handed on.

    Args:
        secrets: those known; very short ones are skipped.
    """

    def __init__(self, secrets: Iterable[SecretStr | None] = ()) -> None:
        self._needles: dict[bytes, None] = {}
        for secret in secrets:
            self.add(secret)

    def add(self, secret: SecretStr | None, *, shortest: int = SHORTEST_SECRET) -> None:
        """Keep one more secret, if it has as many characters."""
        text = secret.get_secret_value().strip() if secret is not None else ""
        if len(text) >= max(1, shortest):
            self._needles |= dict.fromkeys(_forms(text))

    def plus(self, secrets: Iterable[SecretStr | None], *, shortest: int) -> Self:
        """Return one that knows these too, and takes shorter ones for secrets."""
        more = type(self)()
        more._needles = dict(self._needles)
        for secret in secrets:
            more.add(secret, shortest=shortest)
        return more

    def __call__(self, text: str) -> str:
        """Return ``text`` with ``***`` in place of every secret."""
        data = text.encode("utf-8", "surrogatepass")
        spans: list[tuple[int, int]] = []
        decoded, at = data, list(range(len(data) + 1))
        for _ in range(_LEVELS):
            spans += [(at[start], at[end]) for start, end in self._found(decoded)]
            further = _decoded(decoded, at)
            if further is None:
                break
            decoded, at = further
        return _without(data, spans).decode("utf-8", "surrogatepass") if spans else text

    def _found(self, data: bytes) -> Iterator[tuple[int, int]]:
        for needle in self._needles:
            start = data.find(needle)
            while start >= 0:
                yield start, start + len(needle)
                start = data.find(needle, start + 1)


def _forms(secret: str) -> Iterator[bytes]:
    """Yield what a secret may look like, but for escapes."""
    plain = secret.encode("utf-8", "surrogatepass")
    yield plain
    yield plain.replace(b" ", b"+")  # as forms are encoded
    if len(plain) < SHORTEST_SECRET:
        return
    yield plain.hex().encode()
    yield plain.hex().upper().encode()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + plain)
        # Characters that the secret alone decides: six bits each, and what surrounds it is not known.
        certain = encoded[-(-before * 8 // 6) : (before + len(plain)) * 8 // 6]
        yield certain
        yield certain.translate(bytes.maketrans(b"+/", b"-_"))


def _decoded(data: bytes, places: list[int]) -> tuple[bytes, list[int]] | None:
    """
    Undo one level of escapes.

    Args:
        data: UTF-8.
        places: the position in the original of each byte of it, and of its end.

    Returns:
        The same for what is decoded; None when there is nothing to decode.
    """
    decoded, known, last = bytearray(), list[int](), 0
    for found in _ESCAPE.finditer(data):
        start, end = found.span()
        written = _meaning(found[0])
        decoded += data[last:start] + written
        known += places[last:start] + [places[start]] * len(written)
        last = end
    if not last:
        return None
    return bytes(decoded + data[last:]), known + places[last:]


@lru_cache(maxsize=1024)
def _meaning(escape: bytes) -> bytes:
    if escape.startswith(b"%"):
        return bytes.fromhex(escape[1:].decode())
    text = escape.decode()
    written = html.unescape(text) if text.startswith("&") else str(json.loads(f'"{text}"'))
    return written.encode("utf-8", "surrogatepass")


def _without(data: bytes, spans: Iterable[tuple[int, int]]) -> bytes:
    parts, last = list[bytes](), 0
    for start, end in sorted(spans):
        if start >= last:
            parts += [data[last:start], MASK.encode()]
        last = max(last, end)
    return b"".join((*parts, data[last:]))


def shown(value: object) -> str:
    """Return a value fit for printing."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.10g}"
        case SecretStr():
            return SHOWN_MASK
        case AnyUrl() | MultiHostUrl():
            return _masked_url(urlsplit(str(value)))
        case BaseModel():
            return " ".join(f"{name}={shown(inner)}" for name, inner in value if inner is not None)
        case Mapping():
            return ", ".join(f"{name}: {shown(inner)}" for name, inner in value.items()) or "none"
        case tuple():
            return ", ".join(shown(inner) for inner in value) or "none"
        case _:
            return mask_keys(str(value))


def mask_keys(text: str) -> str:
    """Return ``text`` with keys of the voice service masked, wherever one was put by mistake."""
    return _KEY[0].sub(_KEY[1], text)


def mask_text(text: str) -> str:
    """Return ``text`` with what looks like a key, a password or an ``Authorization`` value masked."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def without_password(url: str) -> str:
    """Return scheme, place and path of a URL: what may be printed."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _masked_url(parts: SplitResult) -> str:
    user, at, host = parts.netloc.rpartition("@")
    login = f"{user.partition(':')[0]}:{SHOWN_MASK}@" if ":" in user else user + at
    query = re.sub(r"(?i)((?:^|&)[^=&]*(?:pass|key|token|secret)[^=&]*=)[^&]*", rf"\1{SHOWN_MASK}", parts.query)
    return f"{parts.scheme}://{login}{host}{parts.path}{'?' if query else ''}{query}"
