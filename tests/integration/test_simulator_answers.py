"""Answers of the simulator that come to nothing, or to something else than speech."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.lab.simulator import Connection, Simulator, SimulatorOptions
from tests.fakes.realtime import RawClient, connected

pytestmark = pytest.mark.integration

BUSY = "conversation_already_has_active_response"


def quick(*faults: str) -> SimulatorOptions:
    return SimulatorOptions(speed=1000.0, think_ms=0, faults=faults)


async def _ask(client: RawClient, **overrides: Any) -> dict[str, Any]:
    """Ask for a response; return it when it is done."""
    await client.send("response.create", **({"response": overrides} if overrides else {}))
    done: dict[str, Any] = (await client.next("response.done"))["response"]
    return done


def _heard_s(seen: Connection) -> float:
    return sum(len(each.pcm24k) for each in seen.spoken) / 48_000


@pytest.mark.parametrize(
    ("fault", "status", "details"),
    [
        ("fail=server_error", "failed", {"code": "server_error", "type": "server_error"}),
        ("fail=null", "failed", {"code": None, "type": "server_error"}),
        ("fail=no_error", "failed", None),
        ("fail=no_details", "failed", None),
        ("try_again=3", "failed", {"code": "rate_limit_exceeded", "message": "try again in 3s"}),
        ("incomplete=content_filter@0", "incomplete", {"reason": "content_filter"}),
        ("cancelled", "cancelled", None),
        ("empty", "completed", None),
    ],
)
async def test_an_answer_comes_to_nothing_once(fault: str, status: str, details: dict[str, Any] | None) -> None:
    async with Simulator(quick(f"{fault},answers=2")) as simulator, connected(simulator) as client:
        await client.configure()
        assert (await _ask(client))["output"]
        bad = await _ask(client)
        assert (bad["status"], bad["output"]) == (status, [])
        told = bad["status_details"] or {}
        told = told.get("error", told) or {}
        assert all(str(value) in str(told[key]) for key, value in (details or {}).items()), bad["status_details"]
        assert details is not None or not told
        assert (await _ask(client))["output"]


@pytest.mark.parametrize("fault", ["fail=server_error@1", "incomplete=max_output_tokens@1", "cancelled=1"])
async def test_an_answer_ends_after_some_speech(fault: str) -> None:
    async with Simulator(quick(fault)) as simulator, connected(simulator) as client:
        await client.configure()
        (message,) = (await _ask(client))["output"]
        assert message["status"] == "incomplete"
        assert _heard_s(await simulator.connection(1)) == 1.0


@pytest.mark.parametrize(("comes_as", "kind"), [("text", "output_text"), ("transcript", "output_audio")])
async def test_words_come_without_sound(comes_as: str, kind: str) -> None:
    async with Simulator(quick(f"comes_as={comes_as}")) as simulator, connected(simulator) as client:
        await client.configure()
        done = await _ask(client)
        assert done["status"] == "completed"
        assert done["output"][0]["content"][0]["type"] == kind
        types = client.types()
        assert "response.output_audio.delta" not in types
        assert ("response.output_text.delta" in types) is (comes_as == "text")


@pytest.mark.parametrize(
    ("fault", "kind", "code", "named"),
    [
        ("deny=null", "server_error", None, True),
        ("deny=server_error:nameless", "server_error", "server_error", False),
        ("deny=rate_limit_exceeded@3", "rate_limit_error", "rate_limit_exceeded", True),
    ],
)
async def test_an_error_takes_the_place_of_an_answer(fault: str, kind: str, code: str | None, named: bool) -> None:
    async with Simulator(quick(f"{fault},answers=1")) as simulator, connected(simulator) as client:
        await client.configure()
        await client.send("response.create", event_id="ask-1")
        error = (await client.next("error"))["error"]
        assert (error["type"], error["code"]) == (kind, code)
        assert error["event_id"] == ("ask-1" if named else None)
        assert (code == "rate_limit_exceeded") is ("try again in 3s" in error["message"])
        assert (await _ask(client))["status"] == "completed"
        assert "response.created" not in client.types()[: client.types().index("error")]
        assert (await simulator.connection(1)).violations == []


async def test_an_answer_may_never_come() -> None:
    async with Simulator(quick("unanswered,answers=1")) as simulator, connected(simulator) as client:
        await client.configure()
        await client.send("response.create")
        await client.send("input_audio_buffer.clear")
        assert (await client.next())["type"] == "input_audio_buffer.cleared"
        assert (await _ask(client))["status"] == "completed"
        assert client.types().count("response.created") == 1


@pytest.mark.parametrize(("fault", "heard_s"), [("stall", 0.0), ("stall=1", 1.0)])
async def test_an_answer_that_never_ends_can_be_cancelled(fault: str, heard_s: float) -> None:
    async with Simulator(quick(f"{fault},answers=1")) as simulator, connected(simulator) as client:
        await client.configure()
        await client.send("response.create")
        created = await client.next("response.created")
        seen = await simulator.connection(1)
        async with asyncio.timeout(40):
            while _heard_s(seen) < heard_s:
                await asyncio.sleep(0.005)
        error = await client.refused("response.create")
        assert error["code"] == BUSY
        await client.send("response.cancel", response_id=created["response"]["id"])
        assert (await client.next("response.done"))["response"]["status_details"]["reason"] == "client_cancelled"
        assert (await _ask(client))["status"] == "completed"


async def test_an_answer_that_never_ends_may_not_hear_its_cancel() -> None:
    async with Simulator(quick("stall=0:deaf,answers=1")) as simulator:
        async with connected(simulator) as client:
            await client.configure()
            await client.send("response.create")
            await client.next("response.created")
            await client.send("response.cancel")
            assert (await client.refused("response.create"))["code"] == BUSY
            assert "response.done" not in client.types()
        assert (await simulator.connection(1)).violations == [], "the client did what it could"


@pytest.mark.parametrize(
    ("fault", "named", "behind"),
    [("crossed=0.05", True, False), ("crossed=done", True, True), ("crossed=done+0.05:nameless", False, True)],
)
async def test_the_service_begins_what_the_client_asks_for(fault: str, named: bool, behind: bool) -> None:
    options = SimulatorOptions(speed=20.0, think_ms=0, faults=(f"{fault},answers=1",))
    async with Simulator(options) as simulator, connected(simulator) as client:
        await client.configure()
        await client.send("response.create", event_id="ask-1", response={"metadata": {"mine": "yes"}})
        assert (await client.next("response.created"))["response"]["metadata"] is None
        error = (await client.next("error"))["error"]
        assert (error["code"], error["event_id"]) == (BUSY, "ask-1" if named else None)
        assert ("response.done" in client.types()) is behind
        if not behind:
            await client.next("response.done")
        assert (await _ask(client))["status"] == "completed"
        assert (await simulator.connection(1)).violations == []


async def test_tools_are_called_without_end_but_where_none_may_be() -> None:
    async with Simulator(quick("calls=look_up")) as simulator, connected(simulator) as client:
        await client.configure()
        for _ in range(3):
            (call,) = (await _ask(client))["output"]
            assert (call["type"], call["name"], call["status"]) == ("function_call", "look_up", "completed")
            item = {"type": "function_call_output", "call_id": call["call_id"], "output": "done"}
            await client.send("conversation.item.create", item=item)
        assert [item["type"] for item in (await _ask(client, tool_choice="none"))["output"]] == ["message"]


@pytest.mark.parametrize("status", ["incomplete", "failed", "cancelled"])
async def test_calls_are_cut_off(status: str) -> None:
    async with Simulator(quick("calls=look_up", f"cut_calls={status}")) as simulator, connected(simulator) as client:
        await client.configure()
        done = await _ask(client)
        assert done["status"] == status
        assert (done["output"][0]["arguments"], done["output"][0]["status"]) == ("{}", "incomplete")
        await client.send("response.create")
        await client.next("response.created")
        assert (await simulator.connection(1)).violations == [], "a call that was cut off is owed no output"


@pytest.mark.parametrize("told", ["deltas", "done"])
async def test_calls_are_told_in_part(told: str) -> None:
    async with Simulator(quick("calls=look_up,answers=1", f"tell_calls={told}")) as simulator:
        async with connected(simulator) as client:
            await client.configure()
            done = await _ask(client)
            streamed = [event for event in client.events if event["type"].startswith("response.output_item")]
            if told == "deltas":
                assert done["output"] == []
                assert [event["type"] for event in streamed] == ["response.output_item.added"]
                call_id = streamed[0]["item"]["call_id"]
                assert "response.function_call_arguments.delta" in client.types()
            else:
                assert not streamed
                call_id = done["output"][0]["call_id"]
            assert "response.function_call_arguments.done" not in client.types()
            item = {"type": "function_call_output", "call_id": call_id, "output": "done"}
            await client.send("conversation.item.create", item=item)
            await client.next("conversation.item.done")
            assert (await _ask(client))["status"] == "completed"
        assert (await simulator.connection(1)).violations == []


async def test_the_pieces_of_two_messages_come_in_turn() -> None:
    async with Simulator(quick("interleaved")) as simulator, connected(simulator) as client:
        await client.configure()
        first, second = (item["id"] for item in (await _ask(client))["output"])
        audio = [event["item_id"] for event in client.events if event["type"] == "response.output_audio.delta"]
        assert audio[:4] == [first, second, first, second]
        done = [event["item"]["id"] for event in client.events if event["type"] == "response.output_item.done"]
        assert done == [first, second]


async def test_the_second_message_is_announced_first() -> None:
    async with Simulator(quick("backwards")) as simulator, connected(simulator) as client:
        await client.configure()
        first, second = (item["id"] for item in (await _ask(client))["output"])
        added = [
            (event["output_index"], event["item"]["id"])
            for event in client.events
            if event["type"] == "response.output_item.added"
        ]
        assert added == [(1, second), (0, first)]
        audio = [event["item_id"] for event in client.events if event["type"] == "response.output_audio.delta"]
        assert audio == sorted(audio, key=[first, second].index)


@pytest.mark.parametrize("ends", ["completed", "failed"])
async def test_the_service_calls_a_tool_by_itself_and_leaves_it_at_that(ends: str) -> None:
    async with Simulator(quick(f"mcp={ends},answers=1")) as simulator, connected(simulator) as client:
        await client.configure()
        (item,) = (await _ask(client))["output"]
        assert (item["type"], item["output"], item["error"]) == ("mcp_call", None, None)
        assert (await client.next(f"response.mcp_call.{ends}"))["item_id"] == item["id"]
        done = (await client.next("response.output_item.done"))["item"]
        assert (done["output"] is None, done["error"] is None) == (ends == "failed", ends == "completed")
        types = client.types()
        assert types.index("response.mcp_call.in_progress") < types.index("response.done")
        assert (await _ask(client))["output"][0]["type"] == "message"
        assert types.count("response.created") == 1


async def test_a_tool_of_the_service_may_end_early_and_the_service_may_go_on() -> None:
    faults = ("mcp=completed:early,answers=1", "mcp=completed:goes_on,answers=2")
    async with Simulator(quick(*faults)) as simulator, connected(simulator) as client:
        await client.configure()
        await _ask(client)
        types = client.types()
        assert types.index("response.mcp_call.completed") < types.index("response.done")
        await _ask(client)
        assert (await client.next("response.done"))["response"]["output"][0]["type"] == "message"


async def test_a_tool_of_the_service_may_never_end() -> None:
    async with Simulator(quick("mcp=never,answers=1")) as simulator, connected(simulator) as client:
        await client.configure()
        assert (await _ask(client))["output"][0]["type"] == "mcp_call"
        assert (await _ask(client))["output"][0]["type"] == "message"
        assert "response.mcp_call.completed" not in client.types()


async def test_a_tool_of_the_service_waits_for_approval() -> None:
    async with Simulator(quick("mcp=completed:approval,answers=1-2")) as simulator, connected(simulator) as client:
        await client.configure()
        answers = []
        for approve in (True, False):
            (request,) = (await _ask(client))["output"]
            assert request["type"] == "mcp_approval_request"
            answers.append({"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": approve})
        await client.send("conversation.item.create", item=answers[0])
        done = await client.next("response.mcp_call.completed")
        call = (await client.next("conversation.item.done"))["item"]
        assert (call["id"], call["approval_request_id"]) == (done["item_id"], answers[0]["approval_request_id"])
        await client.send("conversation.item.create", item=answers[1])
        await client.next("conversation.item.done")
        error = await client.refused("conversation.item.create", item=answers[1])
        assert (error["code"], error["param"]) == ("invalid_value", "item.approval_request_id")
        assert (await _ask(client))["output"][0]["type"] == "message"
        assert client.types().count("response.mcp_call.in_progress") == 1


async def test_what_a_model_thought_is_counted() -> None:
    async with Simulator(quick()) as simulator:
        for model, reasons in (("gpt-realtime-2.1", True), ("gpt-realtime", False)):
            async with connected(simulator, f"?model={model}") as client:
                await client.configure()
                details = (await _ask(client))["usage"]["output_token_details"]
                assert (details.get("reasoning_tokens", 0) > 0) is reasons
                assert details.get("reasoning_tokens", 0) < details["text_tokens"]
