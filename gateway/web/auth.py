"""
Who asks, and whether that is allowed: a bearer token, or the cookie of a log-in on the page.

Each endpoint names the scope it needs: ``client: Annotated[Client, allowed("control")]``. The same line puts it into
the OpenAPI description. A cookie is sent by the browser whoever made the request, so with a cookie a request that
changes something, and a WebSocket, must come from the page itself (``Origin``); a token is put in by a program.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Security
from fastapi.openapi.models import APIKey, APIKeyIn, HTTPBearer
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from gateway.settings.web import Scope
from gateway.web.errors import ApiError
from gateway.web.services import Served, Services
from gateway.web.tokens import Client

UNAUTHORIZED = "unauthorized"
COOKIE = "gateway_session"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""Behind TLS: browsers take it from no other host and over nothing else (RFC 6265bis section 4.1.3.2)."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class _Bearer(SecurityBase):
    """The token of ``Authorization: Bearer``; None without one."""

    def __init__(self) -> None:
        self.model = HTTPBearer(description="a token made with `gateway token`; its scopes are in the settings")
        self.scheme_name = "bearer"

    async def __call__(self, connection: HTTPConnection) -> str | None:
        scheme, _, token = connection.headers.get("Authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None


class _Cookie(SecurityBase):
    """The id of a session; None without one."""

    def __init__(self) -> None:
        self.model = APIKey(**{"in": APIKeyIn.cookie}, name=COOKIE, description="a log-in by POST /v1/session")
        self.scheme_name = "session"

    async def __call__(self, connection: HTTPConnection) -> str | None:
        return session_id_of(connection)


def session_id_of(connection: HTTPConnection) -> str | None:
    """Return the id of the session in a request's cookie; None without one."""
    return connection.cookies.get(SECURE_COOKIE if is_secure(connection) else COOKIE)


def is_secure(connection: HTTPConnection) -> bool:
    """Whether the client speaks TLS, as a trusted proxy tells."""
    return connection.url.scheme in ("https", "wss")


def address_of(connection: HTTPConnection) -> str:
    """Return the client's address, as a trusted proxy tells it."""
    return connection.client.host if connection.client is not None else ""


async def client_of(
    connection: HTTPConnection,
    services: Served,
    needed: SecurityScopes,
    token: Annotated[str | None, Depends(_Bearer())],
    session_id: Annotated[str | None, Depends(_Cookie())],
) -> Client:
    """
    Return who asks.

    Raises:
        ApiError: 401 without a valid token or session; 403 without the scope, or from another page; 429.
        StoreError: a session cannot be looked up.
    """
    if token is not None:
        client = await bearer_of(connection, services, token)
    elif session_id is not None:
        client = await _session_of(connection, services, session_id)
    else:
        raise unauthorized("send a token: Authorization: Bearer TOKEN")
    await services.rates.count_request(client.name)
    for scope in needed.scopes:
        if not client.may(scope):  # type: ignore[arg-type]  # they come from `allowed`
            # RFC 6750 section 3.1
            challenge = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}
            raise ApiError(403, "insufficient_scope", f"this token lacks the scope {scope}", headers=challenge)
    return client


def allowed(scope: Scope) -> Any:
    """Return what an endpoint asks for: a client with this scope."""
    return Security(client_of, scopes=[scope])


async def scraper_of(
    connection: HTTPConnection,
    services: Served,
    needed: SecurityScopes,
    token: Annotated[str | None, Depends(_Bearer())],
    session_id: Annotated[str | None, Depends(_Cookie())],
) -> None:
    """Let a scrape pass as ``client_of`` does, or anyone where metrics are public. Raises the same."""
    if not services.web.public_metrics:
        await client_of(connection, services, needed, token, session_id)


may_scrape: Any = Security(scraper_of, scopes=["read"])
"""What ``/metrics`` asks for."""


async def bearer_of(connection: HTTPConnection, services: Services, token: str) -> Client:
    """Return the client with a token. Raises ``ApiError``: 401 for an unknown one, 429 after too many of these."""
    address = address_of(connection)
    await services.rates.check_address(address)
    client = services.tokens.bearer_of(token)
    if client is None:
        await services.rates.count_refusal(address)
        raise unauthorized("this token is not known")
    return client


async def _session_of(connection: HTTPConnection, services: Services, session_id: str) -> Client:
    unsafe = connection.scope["type"] == "websocket" or connection.scope["method"] not in SAFE_METHODS
    if unsafe and not is_own_origin(connection):
        raise ApiError(403, "foreign_origin", "with a session, only the page itself may do that; use a token")
    session = await services.sessions.find(session_id)
    client = services.tokens.named(session.name, session.mark) if session is not None else None
    if client is None:
        raise unauthorized("the log-in has ended; log in again")
    return client


def is_own_origin(connection: HTTPConnection) -> bool:
    """Whether a request says that it comes from a page of this very host."""
    origin = connection.headers.get("Origin", "")
    return bool(origin) and urlsplit(origin).netloc.lower() == connection.headers.get("Host", "").lower()


def unauthorized(detail: str) -> ApiError:
    """Return the refusal of a client that is not known."""
    return ApiError(401, UNAUTHORIZED, detail, headers={"WWW-Authenticate": "Bearer"})  # RFC 9110 section 11.6.1
