"""Who asks: the clients of the settings, identified by their bearer tokens."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from aiohttp import web
from pydantic import SecretStr

from gateway.web.errors import ApiError

UNAUTHORIZED = "unauthorized"


class Clients:
    """
    The trusted clients.

    Args:
        tokens: name -> bearer token.
    """

    def __init__(self, tokens: Mapping[str, SecretStr]) -> None:
        self._digests = {name: _digest(token.get_secret_value()) for name, token in tokens.items()}

    def name_of(self, request: web.Request) -> str:
        """
        Return the name of the client that sent a request. Compares every token whole, so that timing reveals nothing.

        Raises:
            ApiError: 401; no token, or an unknown one.
        """
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        digest = _digest(token.strip()) if scheme.lower() == "bearer" else b""
        found = [name for name, known in self._digests.items() if hmac.compare_digest(known, digest)]
        if not found:
            challenge = {"WWW-Authenticate": "Bearer"}  # RFC 9110 section 11.6.1
            raise ApiError(
                401, UNAUTHORIZED, "send the token of a known client: Authorization: Bearer", headers=challenge
            )
        return found[0]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
