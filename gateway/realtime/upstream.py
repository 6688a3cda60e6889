"""Where the service is, who we say we are, and what must never be told: URL, headers and secrets of one call."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import SecretStr

from gateway.realtime.wire_session import SessionConfig
from gateway.settings import RealtimeSettings

SHORTEST_SECRET = 6
"""Shorter values of headers are no secrets; taking them out would garble every message."""

SECRET_LIFE_S = 60
"""Of an ephemeral key that opens one connection at once."""


class Minted(Protocol):
    """An ephemeral key."""

    @property
    def value(self) -> SecretStr:
        """The key."""


class Minter(Protocol):
    """Makes ephemeral keys (``realtime/secrets.py``)."""

    async def mint(
        self,
        session: SessionConfig,
        *,
        model: str | None = None,
        seconds: int = 600,
        safety_identifier: str | None = None,
    ) -> Minted:
        """
        Mint a key.

        Raises:
            AgentRefused: the service said no.
            AgentLost: it cannot be reached.
            WireError: its answer holds no key.
        """


class Redactor:
    """Takes secrets out of text before it is logged or reported."""

    def __init__(self, settings: RealtimeSettings, more: Mapping[str, SecretStr] | None = None) -> None:
        self._secrets: list[str] = []
        self.add(settings.api_key, shortest=1)
        for secret in (*settings.headers.values(), settings.safety_key, *(more or {}).values()):
            self.add(secret)

    def add(self, secret: SecretStr | None, *, shortest: int = SHORTEST_SECRET) -> None:
        """Keep one more secret."""
        text = secret.get_secret_value().strip() if secret is not None else ""
        if len(text) >= shortest and text not in self._secrets:
            self._secrets.append(text)

    def __call__(self, text: str) -> str:
        """Return ``text`` with ``***`` in place of every secret."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def session_url(url: str, model: str, parameter: str = "model") -> str:
    """Return the service's URL with ``model`` in its query; other parameters stay as they are."""
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != parameter]
    return urlunsplit(parts._replace(query=urlencode([*query, (parameter, model)])))


def safety_identifier(settings: RealtimeSettings, caller: str) -> str | None:
    """Return a hash of the caller that nobody without the key can undo or compare; None when there is no key."""
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
