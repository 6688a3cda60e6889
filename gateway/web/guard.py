"""
The guard in front of the application: what no endpoint should have to think of.

It refuses a ``Host`` that does not lead here (a name that somebody else's DNS points at this machine would make their
page ours: DNS rebinding), reads bodies whole within a size and a time, puts the security headers on every answer, and
keeps one request's fault to itself. Plain ASGI, so that streams and WebSockets pass through.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Collection

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from gateway.web.errors import ApiError

MAX_BODY_BYTES = 65_536
BODY_LIMIT_S = 5.0
CSP = "; ".join(
    (
        "default-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "img-src 'self' data:",
        "media-src 'self' blob:",
        "object-src 'none'",
    )
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
NO_STORE = "no-store"

_log = structlog.get_logger(__name__)


class Guard:
    """
    Wraps the application.

    Args:
        app: what it guards.
        hosts: names that lead here, in lower case; IP addresses and localhost always do.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        begun = False

        async def send_guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                begun = True
                _add_headers(MutableHeaders(scope=message))
            await send(message)

        try:
            self._check_host(scope)
            body = await _whole_body(scope, receive) if scope["type"] == "http" else receive
        except ApiError as error:
            await _refuse(error, scope, receive, send_guarded)
            return
        except _GoneAway:
            return
        try:
            await self._app(scope, body, send_guarded)
        except Exception as error:  # noqa: BLE001 - the boundary of a request: its fault must not touch another
            # Starlette raises it again after the answer; a fault before that would leave the client waiting.
            if not begun:
                _log.error("request_failed", endpoint=getattr(scope.get("route"), "path", ""), exc_info=error)
                detail = "an internal error; the gateway's log says more"
                await _refuse(ApiError(500, "internal_error", detail), scope, receive, send_guarded)

    def _check_host(self, scope: Scope) -> None:
        given = Headers(scope=scope).getlist("Host")
        name = _name_in(given[0]) if len(given) == 1 else ""
        if not (name == "localhost" or name in self._hosts or _is_address(name)):
            raise ApiError(421, "unknown_host", "this host name does not lead here; add it to web.hosts")


class _GoneAway(Exception):
    """The client went away before its body was complete."""


async def _whole_body(scope: Scope, receive: Receive) -> Receive:
    """
    Read a body, and return what gives it to the application, then what comes after it.

    Raises:
        ApiError: 413, 408.
        _GoneAway: there is nobody to answer.
    """
    length = Headers(scope=scope).get("Content-Length", "0")
    if not length.isdecimal() or int(length[:20]) > MAX_BODY_BYTES:
        raise _too_large()
    parts: list[bytes] = []
    try:
        async with asyncio.timeout(BODY_LIMIT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _GoneAway
                parts.append(message.get("body", b""))
                if sum(map(len, parts)) > MAX_BODY_BYTES:
                    raise _too_large()
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        detail = f"the body did not arrive within {BODY_LIMIT_S:g} s"
        raise ApiError(408, "too_slow", detail, headers={"Connection": "close"}) from None
    waiting: list[Message] = [{"type": "http.request", "body": b"".join(parts), "more_body": False}]

    async def given() -> Message:
        return waiting.pop() if waiting else await receive()

    return given


def _too_large() -> ApiError:
    detail = f"the body has more than {MAX_BODY_BYTES} bytes"
    return ApiError(413, "too_large", detail, headers={"Connection": "close"})


async def _refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(error.response())
    else:
        await error.response()(scope, receive, send)


def _add_headers(headers: MutableHeaders) -> None:
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("Cache-Control", NO_STORE)


def _name_in(host: str) -> str:
    """Return the name or address in a Host header, without port and brackets, in lower case."""
    if host.startswith("["):
        return host.partition("]")[0].removeprefix("[")
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
