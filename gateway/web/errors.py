"""Errors of the HTTP API: problem details (RFC 9457), the same for refusals, mistakes in a request and what is away."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.routing import compile_path

from gateway.errors import StoreError

RETRY_AFTER_S = 5
MEDIA_TYPE = "application/problem+json"
_log = structlog.get_logger(__name__)


class Problem(BaseModel):
    """A refusal or a failure, as RFC 9457 has it; ``code`` is for programs, ``detail`` for people."""

    type: str = Field("about:blank", description="a URI that names the kind of problem; `code` says more")
    title: str = Field(description="the phrase of the HTTP status")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="what went wrong, and the cure")
    code: str = Field(description="what went wrong, one of a fixed list")


class ApiError(Exception):
    """
    A request that is refused or fails. Raised and answered inside the HTTP API, never beyond it.

    Args:
        status: HTTP status (RFC 9110 section 15).
        code: what went wrong, for programs.
        detail: the same for people, with the cure.
        headers: such as ``Retry-After``.
    """

    def __init__(self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return the answer the client gets."""
        problem = Problem(
            type="about:blank",
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            code=self.code,
        )
        return JSONResponse(problem.model_dump(), self.status, headers=self.headers, media_type=MEDIA_TYPE)


def too_many(detail: str, wait_s: float) -> ApiError:
    """Return the refusal of a client that asks too often: 429 with ``Retry-After``."""
    after = {"Retry-After": str(max(1, math.ceil(wait_s)))}
    return ApiError(429, "too_many_requests", f"{detail}; wait as Retry-After says", headers=after)


def redis_away() -> ApiError:
    """Return the answer while Redis does not answer: 503 with ``Retry-After``."""
    after = {"Retry-After": str(RETRY_AFTER_S)}
    return ApiError(503, "redis_away", "Redis does not answer, and nothing was changed; try again", headers=after)


def answer_errors(app: FastAPI) -> None:
    """Have every error of an application answered with problem details."""
    app.add_exception_handler(ApiError, _of_ours)
    app.add_exception_handler(StoreError, _of_the_store)
    app.add_exception_handler(RequestValidationError, _of_the_request)
    app.add_exception_handler(HTTPException, _of_the_routes)
    app.add_exception_handler(Exception, _unexpected)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of the errors of an endpoint."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def file_response(media_type: str) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of an answer that is a file."""
    return {200: {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}}


async def _of_ours(connection: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return await _answer(connection, error)


async def _of_the_store(connection: HTTPConnection, error: Exception) -> Response:
    return await _answer(connection, redis_away())


async def _of_the_request(connection: HTTPConnection, error: Exception) -> Response:
    """Name the first mistake and its place; never the value, which may be a secret."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(step) for step in first["loc"])[:128]
    return await _answer(connection, ApiError(422, "invalid_request", f"{place}: {first['msg'][:300]}"))


async def _of_the_routes(connection: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    code = phrase.lower().replace(" ", "_").replace("-", "_")
    headers = {**(error.headers or {})}
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (methods := _methods_of(connection)):
        headers["Allow"] = methods  # the routes know one method each
    return await _answer(connection, ApiError(error.status_code, code, phrase, headers=headers))


def _methods_of(connection: HTTPConnection) -> str:
    """Return the methods that the endpoints at a path have, for ``Allow`` (RFC 9110 section 10.2.1)."""
    paths = connection.app.openapi()["paths"]
    fitting = [told for path, told in paths.items() if compile_path(path)[0].match(connection.url.path)]
    return ", ".join(sorted({method.upper() for told in fitting for method in told}))


async def _unexpected(connection: HTTPConnection, error: Exception) -> Response:
    # Not the path: it may have a telephone number.
    _log.error("request_failed", endpoint=getattr(connection.scope.get("route"), "path", ""), exc_info=error)
    detail = "an internal error; the gateway's log says more"
    return await _answer(connection, ApiError(500, "internal_error", detail))


async def _answer(connection: HTTPConnection, error: ApiError) -> Response:
    """Return the answer to a request; a WebSocket that is refused gets it in place of its handshake."""
    response = error.response()
    if isinstance(connection, WebSocket):
        await connection.send_denial_response(response)
    else:
        assert isinstance(connection, Request)
    return response
