"""Bearer tokens: made once, known by their hashes, compared in constant time. No I/O."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.settings.web import Scope, TokenSettings

TOKEN_PREFIX: Final = "gw_"
"""Lets people, and programs that look for leaked secrets, see what it is."""
TOKEN_BYTES = 32
MARK_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Client:
    """
    Who asks.

    Attributes:
        name: of its token in the settings.
        scopes: what it may do.
        mark: the beginning of its token's hash, which tells two tokens of one name apart.
    """

    name: str
    scopes: frozenset[Scope]
    mark: str

    def may(self, scope: Scope) -> bool:
        """Whether it has a scope; ``admin`` includes all."""
        return scope in self.scopes or "admin" in self.scopes


class Tokens:
    """
    The clients of the settings.

    Args:
        settings: name -> hash and scopes.
    """

    def __init__(self, settings: Mapping[str, TokenSettings]) -> None:
        self._digests = {name: bytes.fromhex(each.hash.removeprefix("sha256:")) for name, each in settings.items()}
        self._clients = {
            name: Client(name, frozenset(each.scopes), each.hash.removeprefix("sha256:")[:MARK_CHARACTERS])
            for name, each in settings.items()
        }

    def bearer_of(self, token: str) -> Client | None:
        """Return the client with this token. Compares with every hash whole, so that timing reveals nothing."""
        digest = _digest(token)
        found = [name for name, known in self._digests.items() if hmac.compare_digest(known, digest)]
        return self._clients[found[0]] if found else None

    def named(self, name: str, mark: str) -> Client | None:
        """Return the client of a session; None when its token is not the one in the settings any more."""
        client = self._clients.get(name)
        return client if client is not None and client.mark == mark else None


def new_token() -> str:
    """Return a new token: 256 random bits."""
    return TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def hash_of(token: str) -> str:
    """
    Return a token's form in the settings, ``sha256:HEX``.

    A token is random and long, so a slow hash with a salt would protect nothing more.
    """
    return f"sha256:{_digest(token).hex()}"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
