"""Tools over a real socket, in every order in which a service may tell of them: its own MCP calls, and functions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from gateway.call.builtin_tools import HangUpAsked
from gateway.call.events import McpCallBegan, McpCallEnded, ToolAsked
from gateway.dialplan.model.agent import AgentProfile
from tests.fakes.realtime_service import (
    Json,
    answer_turn,
    calling,
    make_ready,
    receive,
    say,
    send,
    serving,
    skip_to,
    until_closed,
)

pytestmark = pytest.mark.integration

PROFILE = AgentProfile.model_validate(
    {
        "instructions": "Be brief.",
        "tools": {
            "builtin": ["hang_up"],
            "webhooks": [{"name": "find_table", "description": "Finds one.", "url": "http://127.0.0.1:9/"}],
            "mcp": [
                {
                    "server_label": "manuals",
                    "server_url": "https://mcp.example.com/",
                    "allowed_tools": ["search", "order"],
                    "require_approval": ["order"],
                    "timeout_s": 0.3,
                }
            ],
        },
    }
)
ITEM: Json = {"id": "mcp_1", "type": "mcp_call", "server_label": "manuals", "name": "search", "arguments": "{}"}
DONE: Json = ITEM | {"output": "found: 42", "error": None}
IDS: Json = {"item_id": "mcp_1", "output_index": 0}
SILENCE_S = 1.0
"""Longer than the service is given to go on by itself."""

Step = Callable[[ServerConnection], Awaitable[Any]]


def told(name: str, **fields: Any) -> Step:
    return lambda socket: send(socket, name, **fields)


def item(state: str, item: Json) -> Step:
    return told(f"response.output_item.{state}", response_id="resp_1", output_index=0, item=item)


BEGIN = told("response.created", response={"id": "resp_1", "status": "in_progress"})
END = told("response.done", response={"id": "resp_1", "status": "completed", "output": [ITEM]})
RUNS, COMPLETED, FAILED = (
    told(f"response.mcp_call.{state}", **IDS) for state in ("in_progress", "completed", "failed")
)


async def asked_for(socket: ServerConnection) -> list[str]:
    """Return what comes while the service says nothing."""
    types: list[str] = []
    try:
        async with asyncio.timeout(SILENCE_S):
            while True:
                types.append(json.loads(await socket.recv())["type"])
    except TimeoutError:
        return types


@pytest.mark.parametrize(
    ("steps", "wishes"),
    [
        pytest.param((item("added", ITEM), RUNS, END, COMPLETED, item("done", DONE)), 1, id="behind its response"),
        pytest.param((item("added", ITEM), RUNS, COMPLETED, item("done", DONE), END), 1, id="within its response"),
        pytest.param((END, FAILED), 1, id="failed, and nothing else told"),
        pytest.param((END, told("conversation.item.done", item=DONE)), 1, id="the item alone tells"),
        pytest.param((item("added", ITEM), END, told("response.mcp_call.completed")), 1, id="without an id"),
        pytest.param((item("added", ITEM), RUNS, END), 1, id="never over"),
        pytest.param(
            (item("added", ITEM), END, COMPLETED, lambda s: answer_turn(s, "resp_2", "item_b", "Here it is.")),
            0,
            id="the service goes on by itself",
        ),
        pytest.param(
            (item("added", ITEM), COMPLETED, lambda s: say(s, bytes(4800), "item_b"), END),
            0,
            id="the response goes on",
        ),
    ],
)
async def test_the_agent_is_asked_once_after_a_call_to_an_mcp_server(steps: tuple[Step, ...], wishes: int) -> None:
    asked: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()

    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        await BEGIN(socket)
        for step in steps:
            await step(socket)
        asked.set_result(await asked_for(socket))
        await until_closed(socket)

    async with serving(script) as url, calling(url, profile=PROFILE) as call:
        assert await asyncio.wait_for(asked, 30) == ["response.create"] * wishes
        assert len([event for event in call.events if isinstance(event, McpCallEnded)]) == 1
        assert isinstance(await call.first(McpCallBegan), McpCallBegan)


@pytest.mark.parametrize(("name", "approved"), [("search", True), ("order", False)])
async def test_a_request_for_approval_is_answered_and_the_agent_speaks_about_it(name: str, *, approved: bool) -> None:
    request = {"id": "ask_1", "type": "mcp_approval_request", "server_label": "manuals", "name": name}
    answers: list[Json] = []

    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        await BEGIN(socket)
        await send(socket, "conversation.item.done", item=request | {"arguments": "{}"})
        await END(socket)
        answers.append((await receive(socket, "conversation.item.create"))["item"])
        if approved:
            await RUNS(socket)
            await COMPLETED(socket)
        await receive(socket, "response.create")
        await answer_turn(socket, "resp_2", "item_b", "Here it is.")
        await until_closed(socket)

    async with serving(script) as url, calling(url, profile=PROFILE) as call:
        await call.until(lambda: call.playout.queued_ms > 0)
        [noted] = call.noted("mcp_approval")

    assert (answers[0]["approval_request_id"], answers[0]["approve"]) == ("ask_1", approved)
    assert (noted["tool"], noted["approved"]) == (name, approved)


FUNCTION: Json = {"id": "item_f", "type": "function_call", "name": "find_table", "call_id": "call_1"}
GIVEN = '{"at":"noon"}'


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(
            (
                item("added", FUNCTION | {"arguments": ""}),
                told("response.function_call_arguments.delta", item_id="item_f", delta=GIVEN[:4]),
                told("response.function_call_arguments.delta", item_id="item_f", delta=GIVEN[4:]),
            ),
            id="in pieces alone",
        ),
        pytest.param((), id="by the end of the response alone"),
    ],
)
@pytest.mark.parametrize("status", ["completed", "incomplete", "failed", "cancelled"])
async def test_a_function_call_is_done_if_its_response_was_completed(steps: tuple[Step, ...], status: str) -> None:
    output = [] if steps else [FUNCTION | {"arguments": GIVEN, "status": status}]
    hang_up = {"id": "item_h", "type": "function_call", "name": "hang_up", "call_id": "call_2", "arguments": "{}"}

    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        await BEGIN(socket)
        for step in steps:
            await step(socket)
        await send(socket, "response.done", response={"id": "resp_1", "status": status, "output": output})
        if status != "completed":
            told = await skip_to(socket, "conversation.item.create")
            assert "not done" in told["item"]["output"]
        await send(socket, "response.created", response={"id": "resp_2", "status": "in_progress"})
        await send(socket, "response.done", response={"id": "resp_2", "status": "completed", "output": [hang_up]})
        await until_closed(socket)

    async with serving(script) as url, calling(url, profile=PROFILE) as call:
        await call.first(HangUpAsked)

    asked = [event.arguments for event in call.events if isinstance(event, ToolAsked)]
    assert asked == ([GIVEN] if status == "completed" else [])
