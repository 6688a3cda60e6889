"""Errors of the HTTP API: ``{"error": {"code": ..., "message": ...}}`` with the status that fits."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from aiohttp import web

from gateway.rate_limit import TokenBuckets

NO_STORE = {"Cache-Control": "no-store"}


class ApiError(Exception):
    """
    A request that is refused or fails. Raised and answered inside the HTTP API, never beyond it.

    Args:
        status: HTTP status (RFC 9110 section 15).
        code: what went wrong, for programs.
        message: the same for people, with the cure.
        headers: such as ``Retry-After``.
    """

    def __init__(self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        """Return the answer the client gets."""
        body = {"error": {"code": self.code, "message": self.message}}
        return web.json_response(body, status=self.status, headers={**NO_STORE, **self.headers})


def check_rate(client: str, buckets: TokenBuckets) -> None:
    """
    Count a request of a client.

    Raises:
        ApiError: 429; the client has asked too often.
    """
    now = time.monotonic()
    if not buckets.take(client, now):
        after = {"Retry-After": str(math.ceil(buckets.wait_s(client, now)))}
        raise ApiError(429, "too_many_requests", "too many requests; wait as Retry-After says", headers=after)
