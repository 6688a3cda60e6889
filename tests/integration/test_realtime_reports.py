"""What users of the Realtime API reported from the field, each with a test of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from structlog.testing import capture_logs
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from gateway.call.builtin_tools import ToolDefinition
from gateway.call.events import AgentFailed, AgentReady, SpeechStarted
from gateway.dialplan.model.agent import AgentProfile
from gateway.errors import AgentLost, AgentRefused
from gateway.lab.simulator import Simulator, SimulatorOptions
from tests.fakes.realtime_service import (
    CALL,
    KEY,
    Call,
    Json,
    answer_turn,
    calling,
    in_turn,
    make_ready,
    receive,
    say,
    send,
    serving,
    until_closed,
)
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


async def serve_well(socket: ServerConnection) -> None:
    await make_ready(socket)
    await until_closed(socket)


async def test_report_socket_closes_with_1000_right_after_session_update() -> None:
    async def script(socket: ServerConnection) -> None:
        await send(socket, "session.created", session={"id": "sess_0"})
        await receive(socket, "session.update")
        await socket.close(1000)

    async with serving(in_turn(script, serve_well)) as url, calling(url) as call:
        assert await call.event() == AgentReady(CALL, "sess_1"), "tried again once, with the same configuration"
        assert call.noted("agent_retry")[0]["close_code"] == 1000

    async with serving(script) as url, calling(url) as call:
        error = await call.error()
        assert isinstance(error, AgentLost)
        assert error.detail == "closed before the session was ready (close code 1000)"
        assert len(call.noted("agent_retry")) == 1


@pytest.mark.parametrize("close_code", [None, 1000, 1011])
async def test_report_server_error_after_session_update(close_code: int | None) -> None:
    async def script(socket: ServerConnection) -> None:
        await send(socket, "session.created", session={"id": "sess_0"})
        await receive(socket, "session.update")
        error = {"type": "server_error", "code": None, "message": "The server had an error.", "event_id": None}
        await send(socket, "error", error=error)
        if close_code is not None:
            await socket.close(close_code)
        await until_closed(socket)

    async with serving(in_turn(script, script, serve_well)) as url, calling(url) as call:
        assert isinstance(await call.event(), AgentReady)
        details = [note["detail"] for note in call.noted("agent_retry")]
        assert len(details) == 2
        assert all("The server had an error." in detail for detail in details)


@pytest.mark.parametrize("early_audio", ["hold", "discard"])
async def test_report_audio_sent_before_the_session_is_ready(early_audio: str) -> None:
    before: list[str] = []
    after: list[Json] = []

    async def script(socket: ServerConnection) -> None:
        await send(socket, "session.created", session={"id": "sess_1"})
        update = await receive(socket, "session.update")
        with suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                before.append(str(await socket.recv()))
        await send(socket, "session.updated", session=update["session"] | {"id": "sess_1"})
        after.append(await receive(socket, "input_audio_buffer.append"))
        await until_closed(socket)

    profile = AgentProfile.model_validate(
        {"instructions": "x", "audio_format": "pcmu", "early_audio": early_audio, "early_audio_ms": 200}
    )
    async with serving(script) as url, calling(url, profile=profile) as call:
        await call.speak(40)
        await call.event()
        await call.speak(1)
        await until(lambda: after != [])

    assert before == []
    expected_ms = 200 if early_audio == "hold" else 20
    assert len(after[0]["audio"]) == 4 * -(-expected_ms * 8 // 3)


async def test_report_the_simulator_saw_no_audio_before_the_session_was_ready() -> None:
    async with Simulator(SimulatorOptions(key=KEY, faults=("slow=0.3",))) as simulator:
        profile = AgentProfile(instructions="x", early_audio="hold")
        async with calling(simulator.url, profile=profile) as call:
            await call.speak(20)
            await call.event()
            await call.speak(5)
            await asyncio.sleep(0.05)
        [connection] = simulator.connections
    assert connection.violations == []
    assert len(connection.heard) >= 20 * 960


async def test_report_a_slightly_malformed_session_is_refused_here_by_the_name_of_the_field() -> None:
    connections = 0

    async def script(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await until_closed(socket)

    bad = ToolDefinition("two words", "It cannot be called.", {"type": "object"})
    async with serving(script) as url, calling(url, more={"own_tools": [bad]}) as call:
        error = await call.error()

    assert isinstance(error, AgentRefused)
    assert "session.tools.name" in error.detail
    assert connections == 0


async def test_report_a_session_that_the_service_refuses_names_the_parameter() -> None:
    async def script(socket: ServerConnection) -> None:
        update = await receive(socket, "session.update")
        error = {
            "type": "invalid_request_error",
            "code": "invalid_value",
            "param": "session.audio.output.voice",
            "message": "Invalid value.",
            "event_id": update["event_id"],
        }
        await send(socket, "error", error=error)
        await until_closed(socket)

    async with serving(script) as url, calling(url) as call:
        error = await call.error()

    assert isinstance(error, AgentRefused)
    assert "parameter session.audio.output.voice" in error.detail


async def test_report_error_events_are_logged_once_and_correlated_by_event_id() -> None:
    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        await say(socket, bytes(4800))
        await send(socket, "input_audio_buffer.speech_started", item_id="item_u")
        cut = await receive(socket, "conversation.item.truncate")
        error = {
            "type": "invalid_request_error",
            "code": None,
            "message": "Audio content of 90ms is already shorter than 100ms.",
            "event_id": cut["event_id"],
        }
        for _ in range(20):
            await send(socket, "error", error=error)
        await send(socket, "input_audio_buffer.speech_stopped", item_id="item_u")
        await until_closed(socket)

    with capture_logs() as logs:
        async with serving(script) as url, calling(url) as call:
            await call.first(SpeechStarted)
            call.agent.truncate("item_a", 100)
            await call.event(2)
            [note] = call.noted("upstream_error")

    assert note["client_event"] == "conversation.item.truncate"
    assert note["event_id"].startswith("cut-")
    assert len([entry for entry in logs if entry["event"] == "upstream_error"]) == 1


async def test_report_session_termination_is_recorded() -> None:
    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        await socket.close(1011, "internal")

    with capture_logs() as logs:
        async with serving(script) as url, calling(url) as call:
            await call.first(AgentFailed)
            [ended] = call.noted("session_ended")
        async with serving(serve_well) as url, calling(url) as call:
            await call.event()

    assert (ended["session_id"], ended["by"], ended["close_code"]) == ("sess_1", "service", 1011)
    told = [entry for entry in logs if entry["event"] == "upstream_session_ended"]
    assert [(entry["session_id"], entry["call_id"]) for entry in told] == [("sess_1", CALL)] * 2
    assert told[1]["detail"] == "closed by the gateway"


# No path leaves a socket open

Point = Callable[[ServerConnection], Awaitable[Any]]


async def nothing(_socket: ServerConnection) -> None:
    """Let the client do what it does."""


async def close_1000(socket: ServerConnection) -> None:
    await socket.close(1000)


async def close_4000(socket: ServerConnection) -> None:
    await socket.close(4000)


async def drop_tcp(socket: ServerConnection) -> None:
    socket.transport.abort()


async def talk_nonsense(socket: ServerConnection) -> None:
    await socket.send("hello")


async def send_a_final_error(socket: ServerConnection) -> None:
    await send(socket, "error", error={"type": "invalid_request_error", "code": "invalid_value", "message": "No."})


async def stay_silent(socket: ServerConnection) -> None:
    with suppress(ConnectionClosed):
        while True:
            await socket.recv()


async def before_created(_socket: ServerConnection) -> None:
    return


async def after_created(socket: ServerConnection) -> None:
    await send(socket, "session.created", session={"id": "sess_1"})


async def after_update(socket: ServerConnection) -> None:
    await after_created(socket)
    await receive(socket, "session.update")


async def in_an_answer(socket: ServerConnection) -> None:
    await make_ready(socket)
    await send(socket, "response.created", response={"id": "resp_1", "status": "in_progress"})
    await say(socket, bytes(480))


async def after_an_answer(socket: ServerConnection) -> None:
    await make_ready(socket)
    await answer_turn(socket, "resp_1", "item_a", "Hello.")


@pytest.mark.parametrize("action", ["hang_up", "reconnect"])
@pytest.mark.parametrize("what", [close_1000, close_4000, drop_tcp, talk_nonsense, send_a_final_error, stay_silent])
@pytest.mark.parametrize("point", [before_created, after_created, after_update, in_an_answer, after_an_answer])
async def test_report_no_path_leaves_a_socket_open(point: Point, what: Point, action: str) -> None:
    sockets: list[ServerConnection] = []

    async def script(socket: ServerConnection) -> None:
        sockets.append(socket)
        with suppress(ConnectionClosed):
            await point(socket)
            await what(socket)
        with suppress(TimeoutError):
            await until_closed(socket)

    loss = {"action": action, "give_up_after_s": 0.2}
    profile = AgentProfile.model_validate({"instructions": "Be brief.", "on_loss": loss})
    async with serving(script) as url:
        call = Call(url, profile=profile)
        call.agent.open(call.emit)
        await asyncio.sleep(0.3)
        await call.agent.close()
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("agent")]
        await until(lambda: all(socket.close_code is not None for socket in sockets))
    assert sockets
    assert sum(isinstance(event, AgentFailed) for event in call.events) <= 1


@pytest.mark.parametrize("moment_s", [0.0, 0.001, 0.005, 0.02, 0.05, 0.1])
async def test_report_closing_at_any_moment_leaves_no_socket_open(moment_s: float) -> None:
    sockets: list[ServerConnection] = []

    def slow_down(_connection: ServerConnection, _request: Request) -> Response | None:
        return None

    async def script(socket: ServerConnection) -> None:
        sockets.append(socket)
        with suppress(ConnectionClosed):
            await send(socket, "session.created", session={"id": "sess_1"})
            update = json.loads(await socket.recv())
            await asyncio.sleep(0.04)
            await send(socket, "session.updated", session=update["session"] | {"id": "sess_1"})
        await until_closed(socket)

    async with serving(script, process_request=slow_down) as url:
        call = Call(url)
        call.agent.open(call.emit)
        await asyncio.sleep(moment_s)
        await call.agent.close()
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("agent")]
        await until(lambda: all(socket.close_code is not None for socket in sockets))
