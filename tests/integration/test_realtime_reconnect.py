"""In mid-call: a session is lost and another takes its place, which knows what was said."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from gateway.call.events import AgentAway, AgentBack, AgentClosed, AgentFailed, AgentReady, ToolAsked
from gateway.dialplan.model.agent import AgentProfile
from gateway.errors import AgentLost, AgentRefused
from gateway.upstream.agent import UNHEARD_S
from gateway.upstream.core.prompts import RESUMED
from tests.fakes.realtime_service import (
    CALL,
    Json,
    Script,
    answer_turn,
    calling,
    hear_turn,
    in_turn,
    make_ready,
    receive,
    send,
    serving,
    skip_to,
    until_closed,
)
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


def coming_back(give_up_after_s: float = 3, **profile: Any) -> AgentProfile:
    loss = {"action": "reconnect", "give_up_after_s": give_up_after_s}
    return AgentProfile.model_validate({"instructions": "Be brief.", "greeting": "Hello.", "on_loss": loss} | profile)


def said(items: list[Json]) -> list[tuple[str, str]]:
    lines = []
    for event in items:
        item = event["item"]
        text = item["content"][0]["text"] if item["type"] == "message" else item.get("output", item.get("arguments"))
        lines.append((item.get("role", item["type"]), text))
    return lines


async def gather(socket: ServerConnection, count: int) -> list[Json]:
    return [await receive(socket, "conversation.item.create") for _ in range(count)]


class Second:
    """A session that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Json] = []

    async def __call__(self, socket: ServerConnection) -> None:
        await make_ready(socket, "sess_2")
        try:
            while True:
                self.events.append(json.loads(await socket.recv()))
        except ConnectionClosed:
            pass

    def types(self) -> list[str]:
        return [event["type"] for event in self.events]


async def talk_then_break(socket: ServerConnection) -> None:
    await make_ready(socket)
    await hear_turn(socket, "item_u", "What time is it?")
    await answer_turn(socket, "resp_1", "item_a", "It is noon.")
    socket.transport.abort()


async def test_the_agent_comes_back_and_knows_what_was_said() -> None:
    second = Second()
    async with serving(in_turn(talk_then_break, second)) as url, calling(url, profile=coming_back()) as call:
        away = await call.first(AgentAway)
        assert "broke off" in away.detail
        assert await call.first(AgentBack) == AgentBack(CALL, "sess_2")
        await asyncio.sleep(0.1)

        assert said(second.events) == [("user", "What time is it?"), ("assistant", "It is noon."), ("system", RESUMED)]
        assert "response.create" not in second.types(), "nothing was left unanswered"
        kinds = [type(event) for event in call.events]
        assert kinds.index(AgentAway) < kinds.index(AgentBack)
        ended = await call.note("session_ended")
        assert (ended["session_id"], ended["by"], ended["close_code"]) == ("sess_1", "service", 1006)
        assert [note["session_id"] for note in call.noted("session")] == ["sess_1", "sess_2"]


async def test_a_turn_that_was_not_answered_is_answered_by_the_next_session() -> None:
    async def first(socket: ServerConnection) -> None:
        await make_ready(socket)
        await hear_turn(socket, "item_u", "What time is it?")
        await send(socket, "response.created", response={"id": "resp_1", "status": "in_progress"})
        await socket.close(1011)

    second = Second()
    async with serving(in_turn(first, second)) as url, calling(url, profile=coming_back()) as call:
        await call.first(AgentBack)
        await call.until(lambda: True)
        await asyncio.sleep(0.1)

    assert said(second.events[:2]) == [("user", "What time is it?"), ("system", RESUMED)]
    assert second.types()[2:] == ["response.create"]


async def test_a_greeting_that_was_not_heard_is_said_by_the_next_session() -> None:
    async def first(socket: ServerConnection) -> None:
        await make_ready(socket)
        await receive(socket, "response.create")
        await socket.close(1012)

    second = Second()
    async with serving(in_turn(first, second)) as url, calling(url, profile=coming_back()) as call:
        await call.event()
        call.agent.greet()
        await call.first(AgentBack)
        await asyncio.sleep(0.1)

    assert second.types() == ["conversation.item.create", "response.create"]
    assert "Hello." in second.events[1]["response"]["instructions"]


async def test_a_greeting_asked_for_while_the_agent_is_away_is_said_when_it_is_back() -> None:
    async def first(socket: ServerConnection) -> None:
        await make_ready(socket)
        await socket.close(1012)

    second = Second()
    async with serving(in_turn(first, second)) as url, calling(url, profile=coming_back()) as call:
        await call.first(AgentAway)
        call.agent.greet()
        assert call.agent.responding
        await call.first(AgentBack)
        await asyncio.sleep(0.1)

    assert "Hello." in second.events[-1]["response"]["instructions"]


async def test_an_answer_that_was_interrupted_is_told_as_far_as_it_was_heard() -> None:
    async def first(socket: ServerConnection) -> None:
        await make_ready(socket)
        await answer_turn(socket, "resp_1", "item_a", "One two three four")
        await send(socket, "input_audio_buffer.speech_started", item_id="item_u")
        await receive(socket, "conversation.item.truncate")
        await hear_turn(socket, "item_u", "Stop.", "item_a")
        await send(socket, "response.created", response={"id": "resp_2", "status": "in_progress"})
        await send(socket, "response.done", response={"id": "resp_2", "status": "completed"})
        await socket.close(1001)

    second = Second()
    async with serving(in_turn(first, second)) as url, calling(url, profile=coming_back()) as call:
        await call.event(2)
        call.agent.truncate("item_a", 50)
        await call.first(AgentBack)
        await asyncio.sleep(0.1)

    assert said(second.events[:2]) == [("assistant", "One two"), ("user", "Stop.")]


async def test_a_tool_that_is_answered_while_the_agent_is_away_is_answered_in_the_next_session() -> None:
    profile = coming_back(
        tools={"webhooks": [{"name": "find_table", "description": "Finds one.", "url": "http://127.0.0.1:9/"}]}
    )
    gate = asyncio.Event()

    async def first(socket: ServerConnection) -> None:
        await make_ready(socket)
        item = {"id": "item_f", "type": "function_call", "name": "find_table", "call_id": "call_1", "arguments": "{}"}
        await send(socket, "response.output_item.done", response_id="resp_1", item=item)
        await send(socket, "response.done", response={"id": "resp_1", "status": "completed"})
        await socket.close(1011)

    second = Second()

    async def later(socket: ServerConnection) -> None:
        await gate.wait()
        await second(socket)

    async with serving(in_turn(first, later)) as url, calling(url, profile=profile) as call:
        asked = await call.first(ToolAsked)
        await call.first(AgentAway)
        call.agent.answer_tool(asked.tool_call_id, "yes", respond=True)
        call.agent.answer_tool("call_9", "yes", respond=True)
        assert call.agent.responding
        gate.set()
        await call.first(AgentBack)
        await asyncio.sleep(0.1)

    assert said(second.events[:2]) == [("function_call", "{}"), ("function_call_output", "yes")]
    assert second.types()[2:] == ["conversation.item.create", "response.create"]


async def test_a_tool_that_still_runs_is_answered_in_the_next_session_like_in_any() -> None:
    profile = coming_back(
        tools={"webhooks": [{"name": "find_table", "description": "Finds one.", "url": "http://127.0.0.1:9/"}]}
    )

    async def first(socket: ServerConnection) -> None:
        await make_ready(socket)
        item = {"id": "item_f", "type": "function_call", "name": "find_table", "call_id": "call_1", "arguments": "{}"}
        await send(socket, "response.output_item.done", response_id="resp_1", item=item)
        await send(socket, "response.done", response={"id": "resp_1", "status": "completed"})
        await socket.close(1011)

    second = Second()
    async with serving(in_turn(first, second)) as url, calling(url, profile=profile) as call:
        await call.first(AgentBack)
        call.agent.answer_tool("call_1", "yes", respond=True)
        await asyncio.sleep(0.1)

    wanted = [("function_call", "{}"), ("system", RESUMED), ("function_call_output", "yes")]
    assert said(second.events[:3]) == wanted
    assert second.types()[3:] == ["response.create"]


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006, 1011])
async def test_every_loss_that_passes_brings_the_agent_back(code: int) -> None:
    async def first(socket: ServerConnection) -> None:
        await make_ready(socket)
        if code == 1006:
            socket.transport.abort()
        elif code == 1005:
            socket.protocol.send_close()
            socket.send_data()
            await until_closed(socket)
        else:
            await socket.close(code)

    async with serving(in_turn(first, Second())) as url, calling(url, profile=coming_back()) as call:
        assert isinstance(await call.first(AgentBack), AgentBack)


@pytest.mark.parametrize("code", [1008, 3000, 4000])
async def test_a_refusal_in_mid_call_ends_the_agent_though_it_would_come_back(code: int) -> None:
    async def first(socket: ServerConnection) -> None:
        await make_ready(socket)
        await socket.close(code)

    async with serving(in_turn(first, Second())) as url, calling(url, profile=coming_back()) as call:
        assert isinstance(await call.error(1), AgentRefused)


async def test_the_agent_that_does_not_come_back_in_time_has_failed() -> None:
    async def down(socket: ServerConnection) -> None:
        await socket.close(1013)

    scripts = (talk_then_break, down)
    async with serving(in_turn(*scripts)) as url, calling(url, profile=coming_back(give_up_after_s=0.3)) as call:
        failed = await call.first(AgentFailed)

    assert isinstance(failed.error, AgentLost)
    assert "not back within 0.3 s" in failed.error.detail
    assert isinstance(call.events[-2], AgentAway)


class Brief:
    """Sessions that become ready and are lost ``life_s`` later."""

    def __init__(self, life_s: float = 0.0) -> None:
        self.life_s = life_s
        self.sessions = 0

    async def __call__(self, socket: ServerConnection) -> None:
        self.sessions += 1
        await make_ready(socket, f"sess_{self.sessions}")
        await asyncio.sleep(self.life_s)
        socket.transport.abort()


async def test_sessions_that_are_lost_as_soon_as_they_are_ready_are_not_opened_again_and_again_for_ever() -> None:
    brief = Brief()
    slow = {"retry_first_s": 0.1, "retry_last_s": 10}
    async with serving(brief) as url, calling(url, profile=coming_back(give_up_after_s=1.5), **slow) as call:
        failed = await call.first(AgentFailed)
        delays = [retry["delay_ms"] for retry in call.noted("agent_retry")]

    assert isinstance(failed.error, AgentLost)
    assert "not back within 1.5 s" in failed.error.detail
    assert len(delays) == brief.sessions, "a delay after each, the last was too long"
    assert brief.sessions < 30
    assert [retry["attempt"] for retry in call.noted("agent_retry")] == list(range(1, brief.sessions + 1))


async def test_a_session_that_stayed_is_replaced_without_a_delay_and_with_the_whole_time_for_coming_back() -> None:
    brief = Brief(life_s=0.3)
    limits = {"retry_first_s": 30, "retry_last_s": 30, "retry_reset_s": 0.1}
    async with serving(brief) as url, calling(url, profile=coming_back(give_up_after_s=20), **limits) as call:
        await call.until(lambda: brief.sessions >= 4)

        assert call.noted("agent_retry") == []
        assert {session["attempt"] for session in call.noted("session")} == {1}


async def test_a_service_that_refuses_the_next_session_ends_the_agent_at_once() -> None:
    async def refuse(socket: ServerConnection) -> None:
        await socket.close(3000, "invalid_request_error.invalid_api_key")

    async with serving(in_turn(talk_then_break, refuse)) as url, calling(url, profile=coming_back()) as call:
        failed = await call.first(AgentFailed)

    assert isinstance(failed.error, AgentRefused)


async def test_an_agent_that_hangs_up_on_a_loss_does_not_come_back() -> None:
    second = Second()
    async with serving(in_turn(talk_then_break, second)) as url, calling(url) as call:
        failed = await call.first(AgentFailed)
        await asyncio.sleep(0.1)

    assert isinstance(failed.error, AgentLost)
    assert second.events == []

    async def close_orderly(socket: ServerConnection) -> None:
        await make_ready(socket)
        await socket.close(1000)

    async with serving(close_orderly) as url, calling(url) as call:
        assert isinstance(await call.event(1), AgentClosed)


@pytest.mark.parametrize(("early_audio", "expected_ms"), [("discard", 20), ("hold", 60 + 20)])
async def test_what_the_caller_says_meanwhile_is_held_or_forgotten(early_audio: str, expected_ms: int) -> None:
    heard: list[bytes] = []
    gate = asyncio.Event()

    async def second(socket: ServerConnection) -> None:
        await gate.wait()
        await make_ready(socket, "sess_2")
        while sum(map(len, heard)) < expected_ms * 8:
            heard.append(base64.b64decode((await skip_to(socket, "input_audio_buffer.append"))["audio"]))
        await until_closed(socket)

    profile = coming_back(audio_format="pcmu", early_audio=early_audio, early_audio_ms=60)
    async with serving(in_turn(talk_then_break, second)) as url, calling(url, profile=profile) as call:
        await call.first(AgentAway)
        await call.speak(10)
        gate.set()
        await call.first(AgentBack)
        await call.speak(1, level=0)
        async with asyncio.timeout(40):
            while sum(map(len, heard)) < expected_ms * 8:
                await asyncio.sleep(0.01)

    assert [len(audio) // 8 for audio in heard] == ([60, 20] if early_audio == "hold" else [20])
    assert np.frombuffer(heard[-1], np.uint8).max() == 0xFF, "the last is silence in mu-law"


async def test_closing_while_the_agent_is_away_leaves_nothing() -> None:
    async def hang(socket: ServerConnection) -> None:
        await until_closed(socket)

    scripts: tuple[Script, ...] = (talk_then_break, hang)
    async with serving(in_turn(*scripts)) as url:
        async with calling(url, profile=coming_back()) as call:
            await call.first(AgentAway)
            await asyncio.sleep(0.1)
            call.agent.say_goodbye("nobody hears it")
            call.agent.cancel()
            call.agent.truncate("item_a", 10)
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert not [name for name in names if name.startswith("agent")]
    assert isinstance(call.events[0], AgentReady)


async def test_what_the_caller_said_to_a_service_that_had_gone_silent_is_asked_about() -> None:
    goes = asyncio.Event()

    async def silent(socket: ServerConnection) -> None:
        await make_ready(socket)
        await send(socket, "rate_limits.updated")
        await goes.wait()
        socket.transport.abort()

    second = Second()
    async with serving(in_turn(silent, second)) as url, calling(url, profile=coming_back()) as call:
        await call.event()
        await asyncio.sleep(UNHEARD_S + 0.1)
        await call.speak(5, level=5000)
        await asyncio.sleep(0.1)
        goes.set()
        await call.first(AgentBack)
        await until(lambda: "response.create" in second.types())


async def test_what_the_caller_said_while_the_agent_was_away_is_asked_about() -> None:
    may_return = asyncio.Event()

    async def slow_second(socket: ServerConnection) -> None:
        await may_return.wait()
        await second(socket)

    second = Second()
    async with (
        serving(in_turn(talk_then_break, slow_second)) as url,
        calling(url, profile=coming_back()) as call,
    ):
        await call.first(AgentAway)
        await call.speak(5, level=5000)
        await asyncio.sleep(0.1)
        may_return.set()
        await call.first(AgentBack)
        await until(lambda: "response.create" in second.types())
