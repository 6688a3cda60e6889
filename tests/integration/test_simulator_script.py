from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.lab.speech import agent_sentences
from tests.fakes.realtime import VAD, RawClient, connected, scripted

pytestmark = pytest.mark.integration

CALL = {"call": "look_up", "arguments": {"number": 12}}
CALL_LADDER = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
    "rate_limits.updated",
]


async def _respond(client: RawClient, **overrides: Any) -> dict[str, Any]:
    """Ask for a response; return it when it is done."""
    await client.send("response.create", **({"response": overrides} if overrides else {}))
    done: dict[str, Any] = (await client.next("response.done"))["response"]
    return done


async def _answer(client: RawClient, call_id: str) -> None:
    item = {"type": "function_call_output", "call_id": call_id, "output": "done"}
    await client.send("conversation.item.create", item=item)
    await client.next("conversation.item.done")


async def test_a_function_is_called_answered_and_spoken_about() -> None:
    async with Simulator(scripted({"output": [CALL]})) as simulator:
        async with connected(simulator) as client:
            await client.configure()
            mark = len(client.events)
            (call,) = (await _respond(client))["output"]
            await client.next("rate_limits.updated")
            assert list(dict.fromkeys(client.types(since=mark))) == CALL_LADDER
            assert (call["type"], call["status"], call["name"]) == ("function_call", "completed", "look_up")
            assert json.loads(call["arguments"]) == {"number": 12}
            added = next(event for event in client.events if event["type"] == "response.output_item.added")
            assert added["item"]["arguments"] == ""
            done = next(event for event in client.events if event["type"].endswith("call_arguments.done"))
            assert (done["call_id"], done["name"], done["arguments"]) == (
                call["call_id"],
                "look_up",
                call["arguments"],
            )
            await _answer(client, call["call_id"])
            (spoken,) = (await _respond(client))["output"]
            assert spoken["content"][0]["transcript"] == agent_sentences()[0].text
        seen = await simulator.connection(1)
        await seen.wait_closed()
        assert seen.violations == []
        assert [item["type"] for item in seen.items()] == ["function_call", "function_call_output", "message"]
        assert [event["type"] for event in seen.received] == [
            "session.update",
            "response.create",
            "conversation.item.create",
            "response.create",
        ]


async def test_speech_and_a_call_overlap_in_one_response() -> None:
    options = scripted({"output": [{"say": "One moment."}, CALL, CALL], "overlap": True})
    async with Simulator(options) as simulator, connected(simulator, "?model=gpt-realtime-2.1") as client:
        await client.configure()
        output = (await _respond(client))["output"]
        assert [item["type"] for item in output] == ["message", "function_call", "function_call"]
        assert (output[0]["phase"], output[0]["content"][0]["transcript"]) == ("commentary", "One moment.")
        order = [
            (event["type"].removeprefix("response.output_item."), event["output_index"])
            for event in client.events
            if event["type"].startswith("response.output_item.")
        ]
        assert order == [("added", 0), ("added", 1), ("done", 0), ("added", 2), ("done", 1), ("done", 2)]
        assert output[1]["call_id"] != output[2]["call_id"]


async def test_two_audio_items_overlap_and_each_keeps_its_own_audio() -> None:
    options = scripted({"output": [{"sentence": 1}, {"sentence": 2}], "overlap": True})
    async with Simulator(options) as simulator:
        async with connected(simulator, "?model=gpt-realtime-2.1") as client:
            await client.configure()
            first, second = (await _respond(client))["output"]
            assert [first["phase"], second["phase"]] == ["commentary", "final_answer"]
            names = [(e["type"], e.get("item_id") or e.get("item", {}).get("id")) for e in client.events]
            delta = ("response.output_audio.delta", second["id"])
            assert names.index(delta) < names.index(("response.output_audio.done", first["id"]))
        seen = await simulator.connection(1)
        await seen.wait_closed()
        spoken = {item.item_id: item.pcm24k for item in seen.spoken}
        assert spoken == {first["id"]: agent_sentences()[1].pcm24k, second["id"]: agent_sentences()[2].pcm24k}


async def test_given_words_sound_for_as_long_as_told() -> None:
    async with Simulator(scripted({"output": [{"say": "A long story.", "for_s": 7.5}]})) as simulator:
        async with connected(simulator) as client:
            await client.configure()
            response = await _respond(client)
            assert response["output"][0]["content"][0]["transcript"] == "A long story."
            assert response["usage"]["output_token_details"]["audio_tokens"] == 150
        seen = await simulator.connection(1)
        await seen.wait_closed()
        assert len(seen.spoken[0].pcm24k) == 48 * 7500


@pytest.mark.parametrize(
    ("end", "details"),
    [
        ({"status": "incomplete", "reason": "content_filter"}, {"type": "incomplete", "reason": "content_filter"}),
        (
            {"status": "failed", "code": "rate_limit_exceeded", "try_again_s": 0.2},
            {
                "type": "failed",
                "error": {
                    "type": "rate_limit_error",
                    "code": "rate_limit_exceeded",
                    "message": "Rate limit reached. Please try again in 0.2s.",
                },
            },
        ),
    ],
)
async def test_a_response_ends_badly_and_the_next_one_well(end: dict[str, Any], details: dict[str, Any]) -> None:
    async with Simulator(scripted({"end": end})) as simulator, connected(simulator) as client:
        await client.configure()
        response = await _respond(client)
        assert (response["status"], response["status_details"]) == (end["status"], details)
        assert len(response["output"]) == (1 if end["status"] == "incomplete" else 0)
        assert "error" not in client.types()
        assert (await _respond(client))["status"] == "completed"


async def test_a_typed_turn_is_answered_in_text() -> None:
    options = scripted({"output": [{"say": "You typed something."}]})
    async with Simulator(options) as simulator, connected(simulator) as client:
        await client.configure(output_modalities=["text"])
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello?"}]}
        await client.send("conversation.item.create", item=item)
        response = await _respond(client)
        assert response["output"][0]["content"] == [{"type": "output_text", "text": "You typed something."}]
        deltas = [event["delta"] for event in client.events if event["type"] == "response.output_text.delta"]
        assert "".join(deltas) == "You typed something."
        assert response["usage"]["output_token_details"]["audio_tokens"] == 0


async def test_an_answer_may_be_slow_and_then_end_the_connection() -> None:
    answer = {"think_ms": 100, "speed": 1.0, "faults": ["close=response.output_audio.delta+0.05:1011"]}
    async with Simulator(scripted(answer)) as simulator, connected(simulator) as client:
        await client.configure()
        began = asyncio.get_running_loop().time()
        await client.send("response.create")
        await client.next("response.output_audio.delta")
        assert asyncio.get_running_loop().time() - began >= 0.095
        assert (await client.closed())[0] == 1011


async def test_a_script_goes_on_over_connections_where_it_says_so() -> None:
    answers = ({"output": [{"say": "First."}]}, {"output": [{"say": "Second."}]})
    for over, said in (("connection", ["First.", "First."]), ("simulator", ["First.", "Second."])):
        heard = []
        async with Simulator(scripted(*answers, over=over)) as simulator:
            for _ in range(2):
                async with connected(simulator) as client:
                    await client.configure()
                    heard.append((await _respond(client))["output"][0]["content"][0]["transcript"])
        assert heard == said


async def test_outputs_that_are_missing_unknown_or_doubled_are_violations() -> None:
    async with Simulator(scripted({"output": [CALL, CALL]})) as simulator, connected(simulator) as client:
        await client.configure()
        first, _ = (await _respond(client))["output"]
        item = {"type": "function_call_output", "call_id": "call_made_up", "output": ""}
        error = await client.refused("conversation.item.create", item=item)
        assert (error["code"], error["param"]) == ("invalid_tool_call_id", "item.call_id")
        await _answer(client, first["call_id"])
        await _answer(client, first["call_id"])
        await _respond(client)
        seen = await simulator.connection(1)
        unknown, doubled, early = seen.violations
        assert unknown.startswith("conversation.item.create: invalid_tool_call_id")
        assert doubled == f"function call {first['call_id']} answered twice"
        assert early == "response.create before the output of look_up"


async def test_a_call_of_an_earlier_session_may_be_told_again() -> None:
    async with Simulator(SimulatorOptions()) as simulator, connected(simulator) as client:
        await client.configure()
        call = {"type": "function_call", "call_id": "call_old", "name": "look_up", "arguments": "{}"}
        await client.send("conversation.item.create", item=call)
        await client.next("conversation.item.done")
        await _answer(client, "call_old")
        assert (await simulator.connection(1)).violations == []


async def test_a_silent_caller_is_asked_after_the_idle_timeout() -> None:
    async with Simulator(SimulatorOptions(speed=1000, think_ms=0)) as simulator:
        async with connected(simulator) as client:
            await client.configure_phone(idle_timeout_ms=5000)
            response = await _respond(client)
            length_ms = 50 * response["usage"]["output_token_details"]["audio_tokens"]
            mark = len(client.events)
            for _ in range((length_ms + 5000) // 500 + 1):
                await client.append(b"\xff" * 8 * 500)
            timeout = await client.next("input_audio_buffer.timeout_triggered")
            await client.next("response.created")
            assert timeout["audio_end_ms"] - timeout["audio_start_ms"] >= 5000
            assert abs(timeout["audio_start_ms"] - length_ms) <= 50
            names = [name for name in client.types(since=mark) if name != "rate_limits.updated"]
            assert names == [
                "input_audio_buffer.timeout_triggered",
                "conversation.item.added",
                "conversation.item.done",
                "input_audio_buffer.committed",
                "conversation.item.added",
                "conversation.item.done",
                "response.created",
            ]
            note, silence = (event for event in client.events[mark:] if event["type"] == "conversation.item.done")
            assert (note["item"]["role"], silence["item"]["role"]) == ("system", "user")
            assert silence["previous_item_id"] == note["item"]["id"]
            transcript = await client.next("conversation.item.input_audio_transcription.completed")
            assert (transcript["item_id"], transcript["transcript"]) == (timeout["item_id"], "")
            assert "conversation.item.input_audio_transcription.delta" not in client.types(since=mark)
        seen = await simulator.connection(1)
        await seen.wait_closed()
        assert seen.violations == []


async def test_nobody_is_asked_where_no_turns_are_detected() -> None:
    async with Simulator(SimulatorOptions(speed=1000, think_ms=0)) as simulator:
        async with connected(simulator) as client:
            await client.configure_phone(idle_timeout_ms=5000)
            await _respond(client)
            seen = await simulator.connection(1)
            assert seen.listens
            await client.configure(audio={"input": {"turn_detection": None}})
            assert not seen.listens
            await client.speak_first_sentence()
            for _ in range(40):
                await client.append(b"\xff" * 8 * 500)
            await client.send("input_audio_buffer.clear")
            await client.next("input_audio_buffer.cleared")
            session = await client.configure(audio={"input": {"turn_detection": VAD | {"idle_timeout_ms": 5000}}})
            assert session["session"]["audio"]["input"]["turn_detection"]["idle_timeout_ms"] == 5000
            for _ in range(4):
                await client.append(b"\xff" * 8 * 500)
            await client.speak_first_sentence()
            await client.next("input_audio_buffer.speech_stopped")
        await seen.wait_closed()
        names = client.types()
        assert "input_audio_buffer.timeout_triggered" not in names
        assert names.count("input_audio_buffer.speech_started") == 1, "only what was said with detection on"
        assert seen.heard_ms == 4000 + 20_000 + 2000 + 4000
        assert seen.violations == []


async def test_a_response_about_a_message_need_not_wait_for_a_function_call() -> None:
    options = scripted({"output": [{"call": "transfer"}]}, {}, {}, {})
    async with Simulator(options) as simulator, connected(simulator) as client:
        await client.configure()
        await _respond(client)
        text = {"type": "input_text", "text": "They are on the line."}
        await client.send("conversation.item.create", item={"type": "message", "role": "system", "content": [text]})
        await _respond(client)
        seen = await simulator.connection(1)
        assert seen.told == ["They are on the line."]
        assert seen.violations == []
        await _respond(client)
        assert seen.violations == ["response.create before the output of transfer"]


async def test_a_conversation_that_does_not_fit_fails_where_truncation_is_off() -> None:
    options = SimulatorOptions(speed=1000, think_ms=0, context_tokens=60)
    async with Simulator(options) as simulator, connected(simulator) as client:
        await client.configure(truncation="disabled", instructions="Be brief.")
        assert (await _respond(client))["status"] == "completed"
        failed = await _respond(client)
        assert failed["status_details"]["error"]["code"] == "context_length_exceeded"
        await client.configure(truncation="auto")
        response = await _respond(client)
        assert response["status"] == "completed"
        assert response["usage"]["input_tokens"] <= 60
