"""
Signatures of webhook requests: the receiver can tell that a request is ours, whole, and not an old one sent again.

``Gateway-Timestamp`` has the Unix seconds, ``Gateway-Signature`` is ``v1=`` and the hexadecimal HMAC-SHA256 of
timestamp, a full stop, and the body. A GET has no body: path and query take its place.
"""

from __future__ import annotations

import hashlib
import hmac

from pydantic import SecretStr

TIMESTAMP = "Gateway-Timestamp"
SIGNATURE = "Gateway-Signature"
TOLERANCE_S = 300


def sign(secret: SecretStr, body: bytes, *, timestamp: int) -> dict[str, str]:
    """Return the two headers that sign ``body`` at ``timestamp`` (Unix seconds)."""
    return {TIMESTAMP: str(timestamp), SIGNATURE: f"v1={_digest(secret, str(timestamp), body)}"}


def verify(
    secret: SecretStr, body: bytes, *, timestamp: str, signature: str, now: float, tolerance_s: float = TOLERANCE_S
) -> bool:
    """
    Tell whether a request is signed with ``secret`` and recent: what a receiver does.

    Args:
        secret: the shared secret.
        body: the body as received, before parsing; path and query of a GET.
        timestamp: the header ``Gateway-Timestamp``.
        signature: the header ``Gateway-Signature``.
        now: Unix seconds.
        tolerance_s: how far the clocks may differ.
    """
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        return False
    if abs(now - int(timestamp)) > tolerance_s:
        return False
    expected = f"v1={_digest(secret, timestamp, body)}"
    return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))


def _digest(secret: SecretStr, timestamp: str, body: bytes) -> str:
    key = secret.get_secret_value().encode()
    return hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
