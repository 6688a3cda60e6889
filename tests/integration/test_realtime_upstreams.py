"""Who the client says it is, to which service, in which format; and the model's tools over a real socket."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr
from websockets.asyncio.server import ServerConnection

from gateway.audio.g711 import pcm_to_alaw, pcm_to_ulaw, ulaw_to_pcm
from gateway.audio.pcm import PHONE
from gateway.call.builtin_tools import HangUpAsked, TransferAsked
from gateway.call.events import AgentReady, AgentSpoke, CallerSpoke, SpeechStarted
from gateway.dialplan.model.agent import AgentProfile
from gateway.errors import AgentLost, AgentRefused
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.upstream.realtime.wire.session import SessionConfig
from tests.fakes.raw_peer import tunnelling
from tests.fakes.realtime_service import (
    KEY,
    Json,
    answer_turn,
    calling,
    make_ready,
    receive,
    send,
    serving,
    skip_to,
    until_closed,
)
from tests.fakes.threads import on_clock
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

ALICE = "sip:alice@192.0.2.1"


class Door:
    """A service that remembers how its clients came in."""

    def __init__(self) -> None:
        self.path = ""
        self.headers: dict[str, str] = {}

    async def __call__(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.path = socket.request.path
        self.headers = {name.lower(): value for name, value in socket.request.headers.raw_items()}
        await make_ready(socket)
        await until_closed(socket)


async def come_in(profile: AgentProfile | None = None, more: Json | None = None, **settings: Any) -> Door:
    door = Door()
    profile = profile or AgentProfile(instructions="Be brief.", model="my-model")
    async with serving(door) as url, calling(url, profile=profile, more=more, **settings) as call:
        assert isinstance(await call.event(), AgentReady)
    return door


async def test_openai_is_greeted_with_a_bearer_key_and_the_model() -> None:
    door = await come_in()

    assert door.path == "/v1/realtime?tenant=7&model=my-model"
    assert door.headers["authorization"] == f"Bearer {KEY}"
    assert "openai-beta" not in door.headers
    assert "openai-safety-identifier" not in door.headers


async def test_azure_is_greeted_with_an_api_key_and_the_deployment() -> None:
    door = await come_in(auth="api-key", model_parameter="deployment", headers={"x-ms-client": "gateway"})

    assert door.path == "/v1/realtime?tenant=7&deployment=my-model"
    assert door.headers["api-key"] == KEY
    assert door.headers["x-ms-client"] == "gateway"
    assert "authorization" not in door.headers


async def test_a_service_that_lays_its_session_out_otherwise_is_spoken_with() -> None:
    changes: list[Json] = []

    async def script(socket: ServerConnection) -> None:
        await send(socket, "session.created", session={"id": "s", "voice": "ara", "turn_detection": {"type": None}})
        update = await receive(socket, "session.update")
        asked = update["session"]
        changes.append(asked)
        await send(socket, "ping", timestamp=1)
        echo = {"modalities": ["audio"], "input_audio_format": "not specified", "output_audio_format": "not specified"}
        await send(socket, "session.updated", session=echo | asked)
        completed = "conversation.item.input_audio_transcription.completed"
        await send(socket, completed, item_id="i", transcript="Hello?", status="in_progress")
        await send(socket, completed, item_id="i", transcript="Hello, it is me.", status="completed")
        await answer_turn(socket, "r", "a", "Hi.", status_details="unimplemented", usage={})
        changes.append((await skip_to(socket, "session.update"))["session"])
        await until_closed(socket)

    profile = AgentProfile(instructions="Be brief.", model="my-model", voice="eve")
    async with serving(script) as url, calling(url, profile=profile, session_layout="xai") as call:
        spoke = await call.first(AgentSpoke)
        call.agent.mute_caller()
        await until(lambda: len(changes) == 2)

    assert spoke.text == "Hi."
    assert [event.text for event in call.events if isinstance(event, CallerSpoke)] == ["Hello, it is me."]
    assert changes[0]["voice"] == "eve"
    assert changes[0]["turn_detection"]["type"] == "server_vad"
    assert changes[0]["audio"]["output"].keys() == {"format", "speed"}
    assert changes[1] == {"type": "realtime", "turn_detection": None}
    assert call.noted("session_differs") == call.noted("odd_message") == []


async def test_the_caller_is_named_by_a_hash() -> None:
    door = await come_in(more={"caller": ALICE}, safety_key="pepper")

    expected = hmac.new(b"pepper", ALICE.encode(), hashlib.sha256).hexdigest()
    assert door.headers["openai-safety-identifier"] == expected


async def test_proxies_of_the_environment_do_not_hijack_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "ws_proxy", "wss_proxy", "all_proxy", "socks_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    assert (await come_in()).path


async def test_a_proxy_is_used_when_it_is_asked_for() -> None:
    asked: list[bytes] = []
    async with tunnelling(asked) as proxy:
        await come_in(proxy=proxy)

    assert asked[0].startswith(b"CONNECT 127.0.0.1:")


# Ephemeral keys


class FakeMinter:
    """Mints keys that count."""

    def __init__(self, *failures: Exception) -> None:
        self.asked: list[tuple[SessionConfig, str | None, str | None]] = []
        self.failures = list(failures)

    async def mint(
        self,
        session: SessionConfig,
        *,
        model: str | None = None,
        seconds: int = 600,
        safety_identifier: str | None = None,
    ) -> FakeMinted:
        self.asked.append((session, model, safety_identifier))
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        return FakeMinted(SecretStr(f"ek_{len(self.asked)}"))


class FakeMinted:
    def __init__(self, value: SecretStr) -> None:
        self.value = value


MINTED = AgentProfile(instructions="Be brief.", model="my-model", client_secret=True)


async def test_a_call_is_opened_with_a_freshly_minted_key() -> None:
    minter = FakeMinter()

    door = await come_in(MINTED, {"minter": minter, "caller": ALICE}, safety_key="pepper")

    assert door.headers["authorization"] == "Bearer ek_1"
    assert "openai-safety-identifier" not in door.headers, "it is bound to the key"
    [(session, model, identifier)] = minter.asked
    assert session.instructions == "Be brief."
    assert model == "my-model"
    assert identifier == hmac.new(b"pepper", ALICE.encode(), hashlib.sha256).hexdigest()


async def test_each_attempt_gets_a_key_of_its_own() -> None:
    minter = FakeMinter(AgentLost("the mint is away"))

    door = await come_in(MINTED, {"minter": minter})

    assert door.headers["authorization"] == "Bearer ek_2"


@pytest.mark.parametrize("more", [{}, {"minter": FakeMinter(AgentRefused("no"))}], ids=["nobody mints", "refused"])
async def test_without_a_key_the_agent_is_refused(more: Json) -> None:
    async with serving(Door()) as url, calling(url, profile=MINTED, more=more) as call:
        assert isinstance(await call.error(), AgentRefused)
        assert call.noted("agent_retry") == []


# Formats


@pytest.mark.parametrize(("audio_format", "encode"), [("pcmu", pcm_to_ulaw), ("pcma", pcm_to_alaw)])
async def test_in_the_phones_own_format_nothing_is_resampled(audio_format: str, encode: Any) -> None:
    tone = (4000 * np.sin(np.arange(1600) / 4)).astype("<i2").tobytes()
    frames = [tone[start : start + 320] for start in range(0, len(tone), 320)]
    heard: list[bytes] = []
    formats: list[Json] = []

    async def script(socket: ServerConnection) -> None:
        asked = await make_ready(socket)
        formats.extend(asked["audio"][side]["format"] for side in ("input", "output"))
        delta = base64.b64encode(encode(tone)).decode()
        await send(socket, "response.output_audio.delta", response_id="resp_1", item_id="item_a", delta=delta)
        await send(socket, "response.output_audio.done", response_id="resp_1", item_id="item_a")
        while len(b"".join(heard)) < len(tone) // 2:
            heard.append(base64.b64decode((await receive(socket, "input_audio_buffer.append"))["audio"]))
        await send(socket, "input_audio_buffer.speech_started", item_id="item_u")
        cut = await receive(socket, "conversation.item.truncate")
        heard.append(str(cut["audio_end_ms"]).encode())
        await until_closed(socket)

    profile = AgentProfile.model_validate({"instructions": "x", "audio_format": audio_format})
    async with serving(script) as url, calling(url, profile=profile) as call:
        await call.event()
        for frame in frames:
            await on_clock(call.uplink.write_frame, frame)
            await asyncio.sleep(0.003)
        await call.first(SpeechStarted)
        call.agent.truncate("item_a", 150)
        await until(lambda: heard[-1] == b"150")
        played = await call.listen()

    assert formats == [{"type": f"audio/{audio_format}"}] * 2
    assert b"".join(heard[:-1]) == encode(tone)
    assert heard[-1] == b"150", "counted at 8 bytes per millisecond"
    assert len(played) == PHONE.bytes_of(200)
    if audio_format == "pcmu":
        assert played == ulaw_to_pcm(encode(tone))


# Tools


TOOLS = {
    "builtin": ["hang_up", "transfer_call", "send_dtmf", "wait"],
    "transfer_targets": {"sales": "sip:sales@192.0.2.7"},
}


async def test_the_models_calls_become_events_and_their_answers_go_back() -> None:
    told: list[Json] = []

    async def script(socket: ServerConnection) -> None:
        asked = await make_ready(socket)
        told.append({"tools": [tool["name"] for tool in asked["tools"]]})
        await send(socket, "response.created", response={"id": "resp_1", "status": "in_progress"})
        for number, (name, arguments) in enumerate(
            [("transfer_call", '{"target": "sales"}'), ("hang_up", "{}"), ("fly", "{}")]
        ):
            ids = {"response_id": "resp_1", "item_id": f"item_{number}", "call_id": f"call_{number}"}
            await send(socket, "response.function_call_arguments.done", name=name, arguments=arguments, **ids)
        await send(socket, "response.done", response={"id": "resp_1", "status": "completed"})
        told.extend([await receive(socket, "conversation.item.create") for _ in range(3)])
        told.append(await receive(socket, "response.create"))
        await until_closed(socket)

    profile = AgentProfile.model_validate({"instructions": "x", "tools": TOOLS})
    async with serving(script) as url, calling(url, profile=profile) as call:
        transfer = await call.first(TransferAsked)
        hang_up = await call.first(HangUpAsked)
        call.agent.answer_tool(hang_up.tool_call_id, "ok", respond=False)
        call.agent.answer_tool(transfer.tool_call_id, "busy", respond=True)
        await until(lambda: len(told) == 5)
        assert call.noted("tool_rejected")[0]["tool"] == "fly"

    assert transfer.target == "sip:sales@192.0.2.7"
    assert told[0]["tools"] == TOOLS["builtin"]
    outputs = {event["item"]["call_id"]: event["item"]["output"] for event in told[1:4]}
    assert outputs["call_0"] == "busy"
    assert outputs["call_1"] == "ok"
    assert "no tool 'fly'" in json.loads(outputs["call_2"])["error"]


async def test_a_response_that_hit_a_rate_limit_is_asked_for_again_after_the_stated_delay() -> None:
    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        first = await receive(socket, "response.create")
        error = {"code": "rate_limit_exceeded", "message": "Please try again in 50ms."}
        failed = {"id": "resp_1", "status": "failed", "status_details": {"type": "failed", "error": error}}
        await send(socket, "response.done", response=failed)
        second = await receive(socket, "response.create")
        assert second["response"] == first["response"]
        await answer_turn(socket, "resp_2", "item_a", "Hello.")
        await send(socket, "input_audio_buffer.speech_started", item_id="item_u")
        await until_closed(socket)

    async with serving(script) as url, calling(url) as call:
        await call.event()
        call.agent.greet()
        await call.first(SpeechStarted)
        assert (await call.note("response_failed"))["code"] == "rate_limit_exceeded"


async def test_a_goodbye_is_said_in_place_of_what_is_being_said() -> None:
    said: list[Json] = []

    async def script(socket: ServerConnection) -> None:
        await make_ready(socket)
        await send(socket, "response.created", response={"id": "resp_1", "status": "in_progress"})
        await send(socket, "input_audio_buffer.speech_stopped", item_id="item_u")
        said.append(await skip_to(socket, "response.cancel"))
        await send(socket, "response.done", response={"id": "resp_1", "status": "cancelled"})
        said.append(await skip_to(socket, "response.create"))
        await until_closed(socket)

    async with serving(script) as url, calling(url) as call:
        await call.event(1)
        assert call.agent.responding
        call.agent.say_goodbye("the session is over")
        await until(lambda: len(said) == 2)

    assert said[0]["response_id"] == "resp_1"
    assert "the session is over" in said[1]["response"]["instructions"]


async def test_the_simulator_finds_nothing_wrong_with_any_format() -> None:
    async with Simulator(SimulatorOptions(key=KEY, think_ms=10, speed=50)) as simulator:
        for audio_format in ("pcm", "pcmu", "pcma"):
            profile = AgentProfile.model_validate(
                {"instructions": "x", "greeting": "Hello.", "audio_format": audio_format, "tools": TOOLS}
            )
            async with calling(simulator.url, profile=profile) as call:
                await call.event()
                call.agent.greet()
                await call.event(1)
                await call.speak(5)
                await asyncio.sleep(0.05)
        assert [connection.violations for connection in simulator.connections] == [[], [], []]
