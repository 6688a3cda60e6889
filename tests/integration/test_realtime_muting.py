"""A caller who is not to be heard for a while: what is sent, and that turn detection rests, over real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection

from gateway.call.events import AgentBack, AgentReady, CallerSpoke, SpeechStarted, SpeechStopped
from gateway.dialplan.model.agent import AgentProfile
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.lab.simulator.faults.faults import parse_fault
from gateway.lab.simulator.transport.connection import Connection
from gateway.upstream import agent as client
from tests.fakes.realtime_service import KEY, Call, calling, make_ready, send, serving, skip_to, until_closed
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

LOUD = 8000
QUICK: dict[str, Any] = {"think_ms": 0, "speed": 1000.0, "key": KEY}


def profile(**more: Any) -> AgentProfile:
    return AgentProfile.model_validate({"instructions": "Be brief.", "model": "gpt-realtime-2.1"} | more)


async def speak(call: Call, frames: int, level: int = LOUD) -> None:
    """Speak as fast as the agent takes it."""
    for _ in range(frames // 10):
        await call.speak(10, level)
        await asyncio.sleep(0.005)


async def heard(connection: Connection, above_ms: int) -> None:
    await until(lambda: connection.heard_ms > above_ms)


def count(call: Call, kind: type) -> int:
    return len([event for event in call.events if isinstance(event, kind)])


def updates(connection: Connection) -> list[Any]:
    """What the client asked of turn detection after its first configuration."""
    asked = [event["session"] for event in connection.received if event["type"] == "session.update"]
    return [session["audio"]["input"]["turn_detection"] for session in asked[1:]]


@pytest.mark.parametrize("audio_format", ["pcm", "pcmu"])
async def test_a_muted_caller_is_not_heard_until_unmuted_and_is_understood_then(audio_format: str) -> None:
    async with Simulator(SimulatorOptions(**QUICK)) as simulator:
        turns = {"silence_duration_ms": 300, "idle_timeout_ms": 9000}
        async with calling(simulator.url, profile=profile(audio_format=audio_format, turn_detection=turns)) as call:
            assert isinstance(await call.event(), AgentReady)
            seen = await simulator.connection(1)
            assert seen.session is not None
            wanted = seen.session["audio"]["input"]["turn_detection"]
            await speak(call, 20)
            await call.first(SpeechStarted)  # in the middle of a turn

            call.agent.mute_caller()
            call.agent.mute_caller()
            await until(lambda: not seen.listens)
            before_ms = seen.heard_ms
            await speak(call, 100)
            assert seen.heard_ms == before_ms
            assert not call.agent.responding, "the turn that was cut off draws no answer"

            call.agent.unmute_caller()
            call.agent.unmute_caller()
            await until(lambda: seen.listens)
            assert seen.session["audio"]["input"]["turn_detection"] == wanted
            await speak(call, 20)
            await speak(call, 40, level=0)
            await call.first(CallerSpoke)
            await until(lambda: count(call, SpeechStarted) == 2)
        await seen.wait_closed()

    assert updates(seen)[0] is None
    assert len(updates(seen)) == 2
    assert [event.type for event in seen.events].count("input_audio_buffer.clear") == 2
    assert count(call, SpeechStopped) == 1, "of the turn that was cut off none is told"
    assert before_ms + 1150 < seen.heard_ms < before_ms + 1250, "what was said while muted was not sent later either"
    assert seen.violations == []


@pytest.mark.parametrize("audio_format", ["pcm", "pcmu", "pcma"])
async def test_a_muted_caller_may_be_replaced_by_as_much_silence(audio_format: str) -> None:
    async with Simulator(SimulatorOptions(**QUICK)) as simulator:
        async with calling(simulator.url, profile=profile(audio_format=audio_format, on_hold="silence")) as call:
            await call.event()
            seen = await simulator.connection(1)
            call.agent.mute_caller()
            await speak(call, 100)
            await heard(seen, 1900)
            call.agent.unmute_caller()
            await until(lambda: seen.listens)
            muted_ms = seen.heard_ms
            await speak(call, 20)
            await call.first(SpeechStarted)
        await seen.wait_closed()

    pcm = np.frombuffer(seen.heard, "<i2").astype(int)
    assert muted_ms >= 1900
    assert max(abs(pcm[: muted_ms * 24])) <= 16, "A-law has no 0, but 8"
    assert max(abs(pcm[muted_ms * 24 :])) > LOUD / 2
    assert count(call, SpeechStarted) == 1
    assert seen.violations == []


async def test_nobody_asks_a_muted_caller_whether_they_are_there() -> None:
    async with Simulator(SimulatorOptions(**QUICK)) as simulator:
        turns = {"idle_timeout_ms": 5000}
        asked = profile(audio_format="pcmu", turn_detection=turns, on_hold="silence", greeting="Hello.")
        async with calling(simulator.url, profile=asked) as call:
            await call.event()
            seen = await simulator.connection(1)
            call.agent.greet()
            await until(lambda: any(event.type == "response.done" for event in seen.sent))
            call.agent.mute_caller()
            await until(lambda: not seen.listens)
            await speak(call, 750)  # 15 s
            await heard(seen, 14_500)
            call.agent.unmute_caller()
            await until(lambda: seen.listens)
            await speak(call, 50, level=0)
            await heard(seen, 15_500)
            assert "input_audio_buffer.timeout_triggered" not in [event.type for event in seen.sent]

            call.agent.tell("The caller is back.", respond=True)
            await until(lambda: [event.type for event in seen.sent].count("response.done") == 2)
            await speak(call, 500, level=0)
            await until(lambda: "input_audio_buffer.timeout_triggered" in [event.type for event in seen.sent])
        await seen.wait_closed()

    assert seen.violations == []


@pytest.mark.parametrize("on_hold", ["pause", "silence"])
async def test_a_caller_muted_before_the_session_is_ready_is_not_heard_in_it(on_hold: str) -> None:
    async with Simulator(SimulatorOptions(key=KEY, faults=("slow=0.3",))) as simulator:
        early = profile(early_audio="hold", on_hold=on_hold)
        async with calling(simulator.url, profile=early) as call:
            await speak(call, 20)
            call.agent.mute_caller()
            await speak(call, 20)
            assert isinstance(await call.event(), AgentReady)
            seen = await simulator.connection(1)
            await until(lambda: not seen.listens)
            await speak(call, 20)
            await asyncio.sleep(0.05)
            assert max(seen.heard, default=0) == 0
            call.agent.unmute_caller()
            await until(lambda: seen.listens)
            await speak(call, 20)
            await call.first(SpeechStarted)
        await seen.wait_closed()

    assert seen.violations == []


async def test_a_caller_unmuted_before_the_session_is_ready_leaves_it_as_it_is() -> None:
    async with Simulator(SimulatorOptions(key=KEY, faults=("slow=0.2",))) as simulator:
        async with calling(simulator.url) as call:
            call.agent.mute_caller()
            call.agent.unmute_caller()
            await call.event()
            await speak(call, 20)
            await call.first(SpeechStarted)
            seen = await simulator.connection(1)
        await seen.wait_closed()

    assert updates(seen) == []
    assert seen.violations == []


async def test_a_session_that_takes_the_place_of_a_lost_one_does_not_hear_a_muted_caller() -> None:
    async with Simulator(SimulatorOptions(**QUICK)) as simulator:
        back = profile(on_loss={"action": "reconnect"}, early_audio="hold")
        async with calling(simulator.url, profile=back) as call:
            await call.event()
            call.agent.mute_caller()
            simulator.add_fault(1, parse_fault("drop=0"))
            await speak(call, 20)
            await call.first(AgentBack)
            second = await simulator.connection(2)
            await until(lambda: not second.listens)
            await speak(call, 50)
            assert second.heard_ms == 0
            call.agent.unmute_caller()
            await until(lambda: second.listens)
            await speak(call, 20)
            await call.first(SpeechStarted)
        await second.wait_closed()

    assert second.violations == []


async def test_a_session_that_takes_the_place_of_an_old_one_does_not_hear_a_muted_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "QUIET_S", 0.1)
    async with Simulator(SimulatorOptions(**QUICK, faults=("expire=3,first=1",))) as simulator:
        async with calling(simulator.url, profile=profile(), roll_over_before_s=2.5, expiry_goodbye_s=0.2) as call:
            await call.event()
            call.agent.mute_caller()
            await call.note("session_ended")
            second = await simulator.connection(2)
            await until(lambda: not second.listens)
            await speak(call, 50)
            assert second.heard_ms == 0
            call.agent.unmute_caller()
            await until(lambda: second.listens)
            await speak(call, 20)
            await call.first(SpeechStarted)
        for connection in simulator.connections:
            await connection.wait_closed()

    assert [connection.violations for connection in simulator.connections] == [[], []]


async def test_a_caller_is_heard_again_though_the_service_refuses_it_at_first() -> None:
    async with Simulator(SimulatorOptions(**QUICK)) as simulator:
        async with calling(simulator.url) as call:
            await call.event()
            seen = await simulator.connection(1)
            call.agent.mute_caller()
            await until(lambda: not seen.listens)
            simulator.add_fault(1, parse_fault("reject=session.update:server_error,first=1"))
            call.agent.unmute_caller()
            noted = await call.note("upstream_error")
        await seen.wait_closed()

    assert (noted["code"], noted["client_event"]) == ("server_error", "session.update")
    assert updates(seen)[0] is None
    assert len(updates(seen)) == 3, "asked for once more, and not for ever"
    assert seen.violations == []


async def test_speech_that_the_service_tells_of_too_late_interrupts_nobody() -> None:
    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        await skip_to(socket, "session.update")
        await send(socket, "input_audio_buffer.speech_started", item_id="item_u")
        await send(socket, "session.updated", session={"id": "sess_1", "audio": {"input": {"turn_detection": None}}})
        await skip_to(socket, "session.update")
        await send(socket, "input_audio_buffer.speech_started", item_id="item_v")
        await until_closed(socket)

    async with serving(script) as url, calling(url) as call:
        await call.event()
        call.agent.mute_caller()
        await asyncio.sleep(0.1)
        call.agent.unmute_caller()
        await call.first(SpeechStarted)

    assert [type(event) for event in call.events] == [AgentReady, SpeechStarted]
