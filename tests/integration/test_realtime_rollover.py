"""A session grows old: another takes its place in a pause, or the end is announced."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from gateway.audio.g711 import ulaw_to_pcm
from gateway.call.events import AgentBack, AgentExpiring, AgentFailed, SpeechStopped
from gateway.dialplan.model.agent import AgentProfile
from gateway.errors import AgentLost
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.upstream import agent as client
from tests.fakes.realtime_service import KEY, Call, Json, answer_turn, calling, hear_turn, make_ready, send, serving
from tests.fakes.threads import on_clock
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

SHORT = {"roll_over_before_s": 3.0, "expiry_goodbye_s": 0.5}


def old(**profile: Any) -> AgentProfile:
    return AgentProfile.model_validate({"instructions": "Be brief.", "audio_format": "pcmu"} | profile)


@pytest.fixture(autouse=True)
def a_short_pause_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "QUIET_S", 0.1)


class Service:
    """Sessions of a few seconds; keeps what each is sent, and how each was closed."""

    def __init__(self, *, life_s: float = 4.0, talk: bool = False, refuse_from: int = 99) -> None:
        self.life_s = life_s
        self.talk = talk
        self.refuse_from = refuse_from
        self.events: list[list[Json]] = []
        self.codes: dict[int, int | None] = {}
        self.sockets: list[ServerConnection] = []

    async def __call__(self, socket: ServerConnection) -> None:
        number = len(self.events)
        events: list[Json] = []
        self.events.append(events)
        self.sockets.append(socket)
        if number >= self.refuse_from:
            await socket.close(3000, "invalid_request_error.invalid_api_key")
            return
        expires_at = int(time.time() + (self.life_s if number == 0 else 3600))
        await make_ready(socket, f"sess_{number + 1}", expires_at=expires_at)
        if self.talk and number == 0:
            await hear_turn(socket, "item_u", "My name is Ada.")
            await answer_turn(socket, "resp_1", "item_a", "Hello Ada.")
        try:
            while True:
                events.append(json.loads(await socket.recv()))
        except ConnectionClosed:
            self.codes[number] = socket.close_code

    def types(self, number: int) -> list[str]:
        return [event["type"] for event in self.events[number]]


async def drain(call: Call) -> None:
    """Play what is queued."""
    await call.listen()


async def test_another_session_takes_over_in_a_pause_and_knows_what_was_said() -> None:
    service = Service(talk=True)
    async with serving(service) as url, calling(url, profile=old(), **SHORT) as call:
        await call.first(SpeechStopped)
        speaking = asyncio.create_task(keep_speaking(call))
        await asyncio.sleep(0.3)
        await drain(call)
        await until(lambda: 0 in service.codes)
        speaking.cancel()
        await asyncio.wait([speaking])
        ended = await call.note("session_ended")

    assert service.codes[0] == 1000, "the old session is closed with CLOSE"
    assert (ended["session_id"], ended["by"]) == ("sess_1", "gateway")
    told = [event["item"] for event in service.events[1] if event["type"] == "conversation.item.create"]
    assert [(item["role"], item["content"][0]["text"]) for item in told] == [
        ("user", "My name is Ada."),
        ("assistant", "Hello Ada."),
    ]
    assert service.types(1)[:2] == ["conversation.item.create"] * 2, "the history goes before any audio"
    assert "response.create" not in service.types(1)
    assert not any(isinstance(event, AgentBack | AgentExpiring | AgentFailed) for event in call.events)


async def keep_speaking(call: Call) -> None:
    """Count, a frame every 5 ms, so that what is missing or doubled shows."""
    number = 0
    while True:
        number += 1
        await call.speak(1, level=number * 100 % 8000)
        await asyncio.sleep(0.005)


async def test_no_frame_of_the_caller_is_lost_or_sent_twice_at_the_change() -> None:
    service = Service()
    sent: list[bytes] = []
    async with serving(service) as url, calling(url, profile=old(), **SHORT) as call:
        await call.event()
        for number in range(400):
            frame = np.full(160, number * 37 % 8000, "<i2").tobytes()
            await on_clock(call.uplink.write_frame, frame)
            sent.append(frame)
            await asyncio.sleep(0.006)
            if 0 in service.codes and service.types(1).count("input_audio_buffer.append") > 20:
                break
        await asyncio.sleep(0.1)

    heard = [
        base64.b64decode(event["audio"])
        for events in service.events
        for event in events
        if event["type"] == "input_audio_buffer.append"
    ]
    received = np.frombuffer(ulaw_to_pcm(b"".join(heard)), "<i2").astype(float)
    expected = np.frombuffer(b"".join(sent), "<i2").astype(float)
    assert received.size == expected.size
    assert np.abs(received - expected).max() < 300, "mu-law's own error"
    assert "input_audio_buffer.append" in service.types(0)
    assert "input_audio_buffer.append" in service.types(1)


async def test_nobody_is_interrupted_by_a_change_of_sessions() -> None:
    service = Service(life_s=3.0)
    async with serving(service) as url, calling(url, profile=old(), **SHORT) as call:
        await call.event()
        await send(service.sockets[0], "input_audio_buffer.speech_started", item_id="item_u")
        await until(lambda: len(service.events) == 2)
        await asyncio.sleep(0.3)
        assert 0 not in service.codes, "while the caller speaks it waits"

        await send(service.sockets[0], "input_audio_buffer.speech_stopped", item_id="item_u")
        await until(lambda: service.codes.get(0) == 1000)


async def test_without_roll_over_the_end_is_announced_and_then_comes() -> None:
    service = Service(life_s=2.0)
    loss = {"action": "reconnect"}
    profile = old(roll_over=False, on_loss=loss)
    async with serving(service) as url, calling(url, profile=profile, **SHORT) as call:
        expiring = await call.first(AgentExpiring)
        assert 0 < expiring.left_s <= 1
        error = {"type": "invalid_request_error", "code": "session_expired", "message": "Over."}
        await send(service.sockets[0], "error", error=error)
        await service.sockets[0].close(1001)
        failed = await call.first(AgentFailed)

    assert isinstance(failed.error, AgentLost)
    assert failed.error.code == "session_expired"
    assert len(service.events) == 1


async def test_where_no_other_session_is_to_be_had_the_end_is_announced() -> None:
    service = Service(life_s=2.0, refuse_from=1)
    async with serving(service) as url, calling(url, profile=old(), **SHORT) as call:
        assert (await call.note("roll_over_refused"))["close_code"] == 3000
        await call.first(AgentExpiring)

    assert len(service.events) == 2


async def test_where_nobody_pauses_the_end_is_announced_and_the_second_session_is_given_up() -> None:
    service = Service(life_s=2.0)
    async with serving(service) as url, calling(url, profile=old(), **SHORT) as call:
        await call.event()
        await send(service.sockets[0], "input_audio_buffer.speech_started", item_id="item_u")
        await call.first(AgentExpiring)
        await until(lambda: service.codes.get(1) == 1000)

        call.agent.say_goodbye("the time is over")
        assert "response.create" not in service.types(0), "not over the caller"
        await send(service.sockets[0], "input_audio_buffer.speech_stopped", item_id="item_u")
        await until(lambda: "response.create" in service.types(0))


async def test_a_session_lost_while_another_waits_ends_the_call_as_any_loss() -> None:
    service = Service(life_s=3.0)
    async with serving(service) as url, calling(url, profile=old(), **SHORT) as call:
        await call.event()
        await send(service.sockets[0], "input_audio_buffer.speech_started", item_id="item_u")
        await until(lambda: len(service.events) == 2)
        service.sockets[0].transport.abort()
        assert isinstance((await call.first(AgentFailed)).error, AgentLost)
        await until(lambda: service.codes.get(1) == 1000)


async def test_closing_while_a_second_session_waits_closes_both() -> None:
    service = Service(life_s=3.0)
    async with serving(service) as url:
        async with calling(url, profile=old(), **SHORT) as call:
            await call.event()
            await send(service.sockets[0], "input_audio_buffer.speech_started", item_id="item_u")
            await until(lambda: len(service.events) == 2)
            await asyncio.sleep(0.1)
        await until(lambda: service.codes == {0: 1000, 1: 1000})
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("agent")]


async def test_a_session_without_an_end_is_left_alone() -> None:
    async def script(socket: ServerConnection) -> None:
        await make_ready(socket, expires_at=0)
        await socket.wait_closed()

    async with serving(script) as url, calling(url, profile=old(), **SHORT) as call:
        await call.event()
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("agent age")]


async def test_the_simulators_sessions_expire_as_the_services_do() -> None:
    options = SimulatorOptions(key=KEY, faults=("expire=0.5",))
    async with Simulator(options) as simulator, calling(simulator.url) as call:
        failed = await call.first(AgentFailed)

    assert failed.error.code == "session_expired"


async def test_the_simulators_sessions_are_replaced_again_and_again_without_a_violation() -> None:
    options = SimulatorOptions(key=KEY, faults=("expire=2",), think_ms=10, speed=50)
    async with Simulator(options) as simulator:
        profile = old(greeting="Hello.")
        async with calling(simulator.url, profile=profile, roll_over_before_s=1.5, expiry_goodbye_s=0.2) as call:
            await call.event()
            call.agent.greet()
            await call.event(1)
            for _ in range(250):
                await call.speak(1, level=0)
                if call.playout.queued_ms:
                    await drain(call)
                await asyncio.sleep(0.02)
        for connection in simulator.connections:
            await connection.wait_closed()

    assert len(simulator.connections) >= 3
    assert [connection.violations for connection in simulator.connections if connection.violations] == []
    assert {connection.close_code for connection in simulator.connections} == {1000}
    assert "conversation.item.create" in [event.type for event in simulator.connections[1].events]
    assert not any(isinstance(event, AgentExpiring | AgentFailed | AgentBack) for event in call.events)
