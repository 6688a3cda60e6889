"""Digest authentication of INVITEs that come in (RFC 2617, RFC 7616, RFC 8760): the challenge, and its answer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from gateway.sip.core.address import parse_uri

REALM = "sip-voice-gateway"
NONCE_AGE_S = 60.0
_REMEMBERED = 4096
_MAX_HEADER = 2000
_HASHES: dict[str, Callable[[bytes], hashlib._Hash]] = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}
_PART = re.compile(r'([a-zA-Z_-]{1,32})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')

DigestVerdict = Literal["right", "wrong", "stale", "elsewhere"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Whom an INVITE must come from. The password never shows."""

    username: str
    password: str
    realm: str = REALM

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, realm={self.realm!r})"


class Digest:
    """
    Challenges and verifies. A nonce holds its own age and is signed, so none is stored until it was used. No I/O.

    Args:
        key: signs nonces; random, of this process.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._counts: OrderedDict[str, int] = OrderedDict()

    def challenge(self, realm: str, now: float, *, stale: bool = False) -> tuple[tuple[str, str], ...]:
        """
        Return the ``WWW-Authenticate`` headers of a 401.

        MD5 comes first, though the better one should (RFC 8760 section 2.4): many user agents read the first header
        only, and knows no other algorithm.
        """
        nonce = self._nonce(now)
        more = ", stale=true" if stale else ""
        return tuple(
            ("WWW-Authenticate", f'Digest realm="{realm}", nonce="{nonce}", algorithm={name}, qop="auth"{more}')
            for name in _HASHES
        )

    def verify(
        self, header: str, method: str, credentials: Credentials, now: float, uri: str | None = None
    ) -> DigestVerdict:
        """
        Judge the value of an ``Authorization`` header.

        Args:
            header: the value; empty where there is none.
            method: of the request.
            credentials: whom it must come from.
            now: monotonic seconds.
            uri: the Request-URI that it must be for (RFC 7616 section 3.4.6); None where proxies rewrite that.

        Returns:
            ``right``; ``stale``: right, but with a nonce that is too old or was used up: the far end may try again
            without asking for a password; ``elsewhere``: right, for another URI; ``wrong``: anything else.
        """
        fields = _fields(header)
        if fields is None or not _well_formed(fields, credentials):
            return "wrong"
        expected = _response(fields, method, credentials)
        given = fields.get("response", "").lower()
        if not hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace")):
            return "wrong"
        if uri is not None and not _is_same_target(fields["uri"], uri):
            return "elsewhere"
        age = self._age(fields["nonce"], now)
        if age is None or not 0 <= age <= NONCE_AGE_S:
            return "stale"
        return "right" if self._counts_up(fields) else "stale"

    def _nonce(self, now: float) -> str:
        stamp = format(int(now * 1000), "x")
        return f"{stamp}.{self._sign(stamp)}"

    def _sign(self, stamp: str) -> str:
        signature = hmac.new(self._key, stamp.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(signature[:18]).decode()

    def _age(self, nonce: str, now: float) -> float | None:
        stamp, _, signature = nonce.partition(".")
        if not hmac.compare_digest(self._sign(stamp).encode(), signature.encode("utf-8", "replace")):
            return None
        return now - int(stamp, 16) / 1000

    def _counts_up(self, fields: dict[str, str]) -> bool:
        """Take the nonce count; one that is not higher than the last is a replay (RFC 7616 section 5.12)."""
        nonce, count = fields["nonce"] + fields["cnonce"], int(fields["nc"], 16)
        if count <= self._counts.get(nonce, 0):
            return False
        self._counts.pop(nonce, None)
        self._counts[nonce] = count
        if len(self._counts) > _REMEMBERED:  # only with the password can anybody fill it
            self._counts.popitem(last=False)
        return True


def _fields(header: str) -> dict[str, str] | None:
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() != "digest" or len(header) > _MAX_HEADER:
        return None
    return {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
        for name, quoted, plain in _PART.findall(rest)
    }


def _well_formed(fields: dict[str, str], credentials: Credentials) -> bool:
    return (
        fields.get("username") == credentials.username
        and fields.get("realm") == credentials.realm
        and fields.get("algorithm", "MD5").upper() in _HASHES
        and fields.get("qop") == "auth"
        and re.fullmatch(r"[0-9a-fA-F]{8}", fields.get("nc", "")) is not None
        and all(fields.get(name) for name in ("nonce", "cnonce", "uri", "response"))
    )


def _response(fields: dict[str, str], method: str, credentials: Credentials) -> str:
    algorithm = _HASHES[fields.get("algorithm", "MD5").upper()]

    def digest(*parts: str) -> str:
        return algorithm(":".join(parts).encode("utf-8", "replace")).hexdigest()

    secret = digest(credentials.username, credentials.realm, credentials.password)
    what = digest(method, fields["uri"])
    return digest(secret, fields["nonce"], fields["nc"], fields["cnonce"], fields["qop"], what)


def _is_same_target(digest_uri: str, request_uri: str) -> bool:
    """
    Whether a digest was made for who is called.

    The user decides: proxies on the way put other hosts, ports and parameters into the Request-URI. A digest for the
    host alone, as some user agents make it, is valid for any user there.
    """
    try:
        made_for, called = parse_uri(digest_uri), parse_uri(request_uri)
    except ValueError:
        return digest_uri == request_uri
    if made_for.user:
        return unquote(made_for.user) == unquote(called.user)
    return (made_for.host.lower(), made_for.opaque) == (called.host.lower(), called.opaque)
