"""The API's answers, read: events, refusals."""

from __future__ import annotations

import json

import pytest

from gateway.api_client.client import ServerEvent, parsed_events, refusal

pytestmark = pytest.mark.unit


def test_events_come_with_id_name_and_data() -> None:
    lines = ["id: 7-0", "event: call", 'data: {"state": "talking"}', "", ": ping", "", "data: [1,", "data: 2]", ""]
    assert list(parsed_events(iter(lines))) == [
        ServerEvent("7-0", "call", {"state": "talking"}),
        ServerEvent("", "message", [1, 2]),
    ]


def test_an_event_that_breaks_off_is_none() -> None:
    assert list(parsed_events(iter(["id: 1", "data: {}"]))) == []


def test_a_refusal_says_what_the_problem_details_say() -> None:
    problem = {"title": "Conflict", "detail": "the call has no agent at the moment", "code": "refused"}
    error = refusal(409, json.dumps(problem).encode())
    assert (error.status, error.code, str(error)) == (409, "refused", "Conflict: the call has no agent at the moment")


def test_who_is_not_known_learns_where_tokens_come_from() -> None:
    error = refusal(401, b'{"title": "Unauthorized", "code": "unauthorized"}')
    assert str(error) == "Unauthorized. Give a token in GATEWAY_API__TOKEN; `gateway token NAME` makes one"


def test_what_is_no_api_is_shown_in_a_short_excerpt() -> None:
    error = refusal(502, b"<h1>Bad\n gateway</h1>" + 1000 * b"x")
    assert str(error).startswith("502 Bad Gateway: <h1>Bad gateway</h1>xxx")
    assert len(str(error)) < 400
