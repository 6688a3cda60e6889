"""Where the service is and who we say we are: URL, headers and secrets of one call."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import SecretStr

from gateway.redact import Redactor, secrets_in
from gateway.settings.sections import RealtimeSettings


def redactor(settings: RealtimeSettings, more: Mapping[str, SecretStr] | None = None) -> Redactor:
    """Return what takes the secrets of these settings, and others by name, out of text."""
    redact = Redactor((*secrets_in(settings), *(more or {}).values()))
    redact.add(settings.api_key, shortest=1)
    return redact


def session_url(url: str, model: str, parameter: str = "model") -> str:
    """Return the service's URL with ``model`` in its query; other parameters stay as they are."""
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != parameter]
    return urlunsplit(parts._replace(query=urlencode([*query, (parameter, model)])))


def safety_identifier(settings: RealtimeSettings, caller: str) -> str | None:
    """Return a hash of the caller that cannot be undone or compared without the key; None when there is no key."""
    if settings.safety_key is None or not caller:
        return None
    key = settings.safety_key.get_secret_value().encode()
    return hmac.new(key, caller.encode(), hashlib.sha256).hexdigest()


def handshake_headers(settings: RealtimeSettings, *, minted: SecretStr | None, caller: str) -> dict[str, str]:
    """
    Return the headers of the handshake.

    Args:
        settings: key and extra headers.
        minted: an ephemeral key that takes the place of the long-lived one; the safety identifier is bound to it.
        caller: URI of the caller.
    """
    headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
    if minted is not None:
        return headers | {"Authorization": f"Bearer {minted.get_secret_value()}"}
    key = settings.api_key.get_secret_value().strip() if settings.api_key is not None else ""
    if key:
        headers |= {"api-key": key} if settings.auth == "api-key" else {"Authorization": f"Bearer {key}"}
    identifier = safety_identifier(settings, caller)
    return headers if identifier is None else headers | {"OpenAI-Safety-Identifier": identifier}
