"""
Signatures of webhook requests, by Standard Webhooks: the receiver can tell that one is ours, whole, and not an old one.

Three headers: ``webhook-id``, ``webhook-timestamp`` (Unix seconds), and ``webhook-signature``, which is ``v1,`` and the
HMAC-SHA256 in base64 of id, timestamp and body with full stops between. A GET has no body: path and query take its
place. https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime

from pydantic import SecretStr
from standardwebhooks import Webhook

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
PREFIX = "whsec_"
"""A secret that begins with this is base64; of any other the bytes themselves are the key."""


def new_message_id() -> str:
    """Return an id for a message that is sent once."""
    return f"msg_{secrets.token_hex(12)}"


def signing_key(secret: SecretStr) -> bytes:
    """
    Return the key that a secret stands for.

    Raises:
        ValueError: nothing, or no base64, behind ``whsec_``.
    """
    text = secret.get_secret_value()
    if not text.startswith(PREFIX):
        return text.encode()
    encoded = text.removeprefix(PREFIX).rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:  # binascii.Error is one
        key = b""
    if not key:
        raise ValueError(f"behind {PREFIX} there is no base64; make a key with: openssl rand -base64 32")
    return key


def sign(secret: SecretStr, body: bytes, *, message_id: str, at: float) -> dict[str, str]:
    """
    Return the three headers that sign ``body``.

    Args:
        secret: shared with the receiver.
        body: UTF-8 text.
        message_id: the same at each attempt.
        at: Unix seconds of this attempt.

    Raises:
        ValueError: the secret is none.
    """
    moment = datetime.fromtimestamp(int(at), UTC)
    signature = Webhook(signing_key(secret)).sign(message_id, moment, body.decode())
    return {ID: message_id, TIMESTAMP: str(int(at)), SIGNATURE: signature}
