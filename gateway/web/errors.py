"""Refusals of the HTTP API: ``{"error": {"code": ..., "message": ...}}`` with the status that fits."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

NO_STORE = {"Cache-Control": "no-store"}


class Refusal(Exception):
    """
    A request that is not granted; it ends there, and never leaves the HTTP API.

    Args:
        status: HTTP status (RFC 9110 section 15).
        code: what it is, for programs.
        message: the same for people, with what to do.
        headers: such as ``Retry-After``.
    """

    def __init__(self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        """Return what the client gets."""
        body = {"error": {"code": self.code, "message": self.message}}
        return web.json_response(body, status=self.status, headers={**NO_STORE, **self.headers})
