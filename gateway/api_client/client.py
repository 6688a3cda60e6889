"""
The HTTP API over httpx, for commands: one request at a time, errors as sentences.

``Api.get`` and its siblings return the JSON of an answer, ``events`` yields server-sent events, ``download`` writes a
large answer to a file as it comes. A refusal comes as problem details (RFC 9457) and becomes ``ApiRefused`` with its
text; an API that does not answer becomes ``NoApi``, which says how to start one. Thread: any; every call waits.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.client import responses
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self
from urllib.parse import quote

import httpx

from gateway.api_client.place import ApiPlace
from gateway.errors import GatewayError

LIMIT_S = 15.0
PICK_UP_LIMIT_S = 90.0
"""For what is answered when somebody has picked up a telephone, or was given up."""
QUIET_LIMIT_S = 60.0
"""A stream of events sends a comment more often than that."""
_LONGEST_PLAIN_TEXT = 300


class NoApi(GatewayError):
    """No API answers; the text says where it was looked for and how to start it."""


class ApiRefused(GatewayError):
    """
    The API refused a request.

    Args:
        status: HTTP status.
        code: the problem's name, for programs; empty if what answered is not our API.
        detail: what is wrong, with the cure.
    """

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


class ServerEvent(NamedTuple):
    """
    One server-sent event (WHATWG HTML, section 9.2).

    Attributes:
        id: where to go on after a break; empty if it has none.
        event: its name.
        data: its JSON.
    """

    id: str
    event: str
    data: Any


class Api:
    """
    The API inside a ``with`` block.

    Args:
        place: where it is, and the token.
    """

    def __init__(self, place: ApiPlace) -> None:
        self.place = place
        headers = {"Authorization": f"Bearer {place.token.get_secret_value()}"} if place.token is not None else {}
        verify = ssl.create_default_context(cafile=str(place.authorities)) if place.authorities is not None else True
        self._client = httpx.Client(
            base_url=place.url, headers=headers, timeout=LIMIT_S, verify=verify, trust_env=False
        )

    def __enter__(self) -> Self:
        """Open nothing yet: the first request does."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, *parts: str, **query: str | int | float | None) -> Any:
        """
        Return the JSON of ``GET /v1/part/part``.

        Args:
            parts: of the path; what is not plain in them is escaped.
            query: parameters; those that are None are left out.

        Raises:
            NoApi: nothing answers.
            ApiRefused: it answers with an error.
        """
        return self._ask("GET", parts, query=query)

    def post(self, *parts: str, body: Mapping[str, Any] | None = None, key: str = "", limit_s: float = LIMIT_S) -> Any:
        """Return the JSON of a POST of ``body``; ``key`` makes repeating it harmless. Raises as ``get`` does."""
        headers = {"Idempotency-Key": key} if key else {}
        return self._ask("POST", parts, body=body or {}, headers=headers, limit_s=limit_s)

    def delete(self, *parts: str, **query: str | int | float | None) -> Any:
        """Return the JSON of a DELETE. Raises as ``get`` does."""
        return self._ask("DELETE", parts, query=query)

    def download(self, out: BinaryIO, *parts: str, **query: str | int | float | None) -> int:
        """Write the answer to ``GET`` into ``out`` as it comes; return its bytes. Raises as ``get`` does."""
        written = 0
        with self._answer("GET", parts, query=query) as response:
            for piece in response.iter_bytes():
                written += out.write(piece)
        return written

    def events(self, *parts: str, after: str = "") -> Iterator[ServerEvent]:
        """
        Yield server-sent events until the API ends the stream.

        Args:
            parts: of the path.
            after: id of the last event that is known; empty for all.

        Raises:
            NoApi: the stream broke off.
            ApiRefused: there is no such stream.
        """
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
        with self._answer("GET", parts, headers=headers, limit_s=QUIET_LIMIT_S) as response:
            yield from parsed_events(response.iter_lines())

    @contextmanager
    def _answer(
        self,
        method: str,
        parts: tuple[str, ...],
        *,
        query: Mapping[str, str | int | float | None] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        limit_s: float = LIMIT_S,
    ) -> Iterator[httpx.Response]:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        path = "/v1/" + "/".join(quote(part, safe="") for part in parts)
        try:
            with self._client.stream(
                method, path, params=given, json=body, headers=dict(headers or {}), timeout=limit_s
            ) as response:
                if response.status_code >= 400:
                    raise refusal(response.status_code, response.read())
                yield response
        except httpx.TransportError as error:
            raise NoApi(no_api(self.place, error)) from None

    def _ask(self, method: str, parts: tuple[str, ...], **given: Any) -> Any:
        with self._answer(method, parts, **given) as response:
            text = response.read()
        try:
            return json.loads(text) if text else None
        except ValueError:
            raise ApiRefused(response.status_code, "", f"{self.place.url} answers, but is no gateway's API") from None


def parsed_events(lines: Iterator[str]) -> Iterator[ServerEvent]:
    """Yield the events in the lines of a stream; comments and events without data are left out."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data" and "data" in fields:
                value = f"{fields['data']}\n{value}"
            if name:
                fields[name] = value
        elif "data" in fields:
            yield ServerEvent(fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"]))
            fields = {}
        else:
            fields = {}


def refusal(status: int, body: bytes) -> ApiRefused:
    """Return the error that an answer is, in the API's own words where it has some (RFC 9457)."""
    phrase = responses.get(status, "unknown status")
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        text = " ".join(body.decode(errors="replace").split())[:_LONGEST_PLAIN_TEXT]
        return ApiRefused(status, "", f"{status} {phrase}: {text}")
    text = ": ".join(str(problem[name]) for name in ("title", "detail") if problem.get(name)) or f"{status} {phrase}"
    if status == HTTPStatus.UNAUTHORIZED:
        text += ". Give a token in GATEWAY_API__TOKEN; `gateway token NAME` makes one"
    return ApiRefused(status, str(problem.get("code", "")), text)


def no_api(place: ApiPlace, error: Exception) -> str:
    """Return the message for an API that does not answer."""
    return (
        f"no API answers at {place.url} ({error or type(error).__name__}): start it with `gateway web`, or "
        "`gateway serve --web`; if it runs elsewhere, set GATEWAY_API__URL"
    )
