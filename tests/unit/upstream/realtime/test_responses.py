"""How a response is asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.upstream.core.debts import Ask, Wish
from gateway.upstream.realtime.responses import ResponseRequests
from gateway.upstream.realtime.wire.codec import encode

pytestmark = pytest.mark.unit


def made(requests: ResponseRequests, ask: Ask | None, hint: str = "") -> tuple[dict[str, Any], str]:
    """Return the fields of the response that is asked for, and the message before it."""
    create, before = requests.make(Wish("respond-1", ask, hint))
    event = json.loads(encode(create))
    assert (event["type"], event["event_id"]) == ("response.create", "respond-1")
    return event.get("response", {}), before


def test_a_response_that_the_conversation_calls_for_says_nothing_of_itself() -> None:
    assert made(ResponseRequests("You are Ada."), None) == ({}, "")


def test_a_task_repeats_the_instructions_that_it_replaces() -> None:
    assert made(ResponseRequests("You are Ada."), Ask("Say hello."))[0] == {
        "instructions": "You are Ada.\n\nSay hello."
    }


def test_a_task_that_stands_alone_is_all_the_model_is_told() -> None:
    fields, _ = made(ResponseRequests("You are Ada."), Ask("Say this.", tools=False, alone=True))

    assert fields == {"instructions": "Say this.", "tool_choice": "none"}


def test_what_came_as_text_is_asked_for_as_speech() -> None:
    assert made(ResponseRequests(), Ask(aloud=True), "Say it aloud.") == (
        {"output_modalities": ["audio"]},
        "Say it aloud.",
    )


def test_instructions_that_a_service_refuses_become_a_message_before_the_response() -> None:
    requests = ResponseRequests()
    requests.do_without({"instructions"})

    assert made(requests, Ask("Say this.", tools=False), "Aloud.") == ({"tool_choice": "none"}, "Say this.\nAloud.")


def test_a_response_of_which_all_is_refused_is_asked_for_plainly() -> None:
    requests = ResponseRequests()
    requests.do_without({"tool_choice"})

    assert made(requests, Ask(tools=False)) == ({}, "")
