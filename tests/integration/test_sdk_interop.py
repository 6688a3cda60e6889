"""The official Python SDK as the other side: its client against the simulator, its types against both sides."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from openai.types.realtime import RealtimeClientEvent
from pydantic import BaseModel, TypeAdapter

from gateway.audio.g711 import pcm_to_ulaw
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.lab.simulator.wire.event_types import SERVER_EVENT_TYPES
from gateway.lab.simulator.wire.validate import check_event, decode
from gateway.lab.speech import caller_wav
from gateway.upstream.realtime.wire import client as client_events
from gateway.upstream.realtime.wire import session
from gateway.upstream.realtime.wire.codec import encode, encode_append
from tests.fakes.realtime import RawClient, connected, parsed, read_wav, scripted, undeclared

pytestmark = pytest.mark.integration

CLIENT_EVENT: TypeAdapter[BaseModel] = TypeAdapter(RealtimeClientEvent)
LIMIT_S = 40.0
LOOK_UP = {"type": "function", "name": "look_up", "description": "finds", "parameters": {"type": "object"}}


@asynccontextmanager
async def sdk(simulator: Simulator, model: str = "gpt-realtime") -> AsyncIterator[AsyncRealtimeConnection]:
    """Connect as a user of the SDK does, but for the address."""
    address = simulator.url.removesuffix("/realtime")
    async with (
        AsyncOpenAI(api_key="sk-test", base_url=address.replace("ws", "http"), websocket_base_url=address) as client,
        client.realtime.connect(model=model) as connection,
    ):
        yield connection


async def until(connection: AsyncRealtimeConnection, event_type: str) -> list[Any]:
    """Return the events up to the next of that type."""
    events: list[Any] = []
    async with asyncio.timeout(LIMIT_S):
        while not events or events[-1].type != event_type:
            events.append(await connection.recv())
    return events


async def test_the_sdk_takes_a_spoken_turn_a_tool_call_and_an_error() -> None:
    options = scripted({"output": [{"say": "I will look."}, {"call": "look_up", "arguments": {"number": 12}}]})
    async with Simulator(options) as simulator:
        async with sdk(simulator) as connection:
            assert [event.type for event in await until(connection, "session.created")] == ["session.created"]
            detection = {"type": "server_vad", "silence_duration_ms": 500}
            phone = {"format": {"type": "audio/pcmu"}, "turn_detection": detection}
            audio = {"input": phone, "output": {"format": {"type": "audio/pcmu"}, "voice": "marin"}}
            session: Any = {"type": "realtime", "audio": audio, "tools": [LOOK_UP]}
            await connection.session.update(session=session)
            await until(connection, "session.updated")
            speech = pcm_to_ulaw(read_wav(caller_wav()))[: 8 * 4000]
            for start in range(0, len(speech), 160):
                await connection.input_audio_buffer.append(audio=base64.b64encode(speech[start : start + 160]).decode())
            spoken, call = (await until(connection, "response.done"))[-1].response.output
            assert spoken.content[0].transcript == "I will look."
            assert (call.name, json.loads(call.arguments)) == ("look_up", {"number": 12})
            await connection.conversation.item.create(
                item={"type": "function_call_output", "call_id": call.call_id, "output": "found"}
            )
            await connection.response.create()
            answer = await until(connection, "response.done")
            heard = b"".join(base64.b64decode(e.delta) for e in answer if e.type == "response.output_audio.delta")
            assert len(heard) > 8 * 2000
            await connection.conversation.item.retrieve(item_id="nothing", event_id="mine")
            (error,) = [event for event in await until(connection, "error") if event.type == "error"]
            assert (error.error.code, error.error.event_id) == ("item_retrieve_invalid_item_id", "mine")
        seen = await simulator.connection(1)
        await seen.wait_closed()
        assert [text.split(":")[0] for text in seen.violations] == ["conversation.item.retrieve"]
        assert seen.close_code == 1000


async def test_the_sdk_mints_a_client_secret_and_connects_with_it() -> None:
    async with Simulator(SimulatorOptions(key="sk-test")) as simulator:
        address = simulator.secrets_url.removesuffix("/realtime/client_secrets")
        async with AsyncOpenAI(api_key="sk-test", base_url=address) as client:
            secret = await client.realtime.client_secrets.create(
                expires_after={"anchor": "created_at", "seconds": 60},
                session={"type": "realtime", "model": "gpt-realtime-2.1", "instructions": "Be brief."},
            )
        assert type(secret).model_validate(secret.to_dict(mode="json"), strict=True) == secret
        assert secret.session.type == "realtime"
        websocket = simulator.url.removesuffix("/realtime")
        async with (
            AsyncOpenAI(api_key=secret.value, websocket_base_url=websocket) as client,
            client.realtime.connect(model="gpt-realtime-2.1") as connection,
        ):
            (created,) = await until(connection, "session.created")
            assert created.session.instructions == "Be brief."


async def _everything(client: RawClient) -> None:
    """Make the simulator say each thing it can say."""
    await client.configure(tools=[{"type": "mcp", "server_label": "manuals", "server_url": "https://mcp.example.com"}])
    await client.next("mcp_list_tools.completed")
    await client.configure_phone(idle_timeout_ms=5000)
    await client.speak_first_sentence()
    await client.next("response.done")
    kind = "conversation.item.input_audio_transcription.completed"
    if kind not in client.types():
        await client.next(kind)
    await client.send("response.create")
    call = (await client.next("response.done"))["response"]["output"][1]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "found"}
    await client.send("conversation.item.create", item=output)
    await client.send("response.create", response={"output_modalities": ["text"]})
    await client.next("response.done")
    for status in ("incomplete", "failed"):
        await client.send("response.create")
        assert (await client.next("response.done"))["response"]["status"] == status
    await client.send("response.create")
    spoken = (await client.next("response.done"))["response"]["output"][0]["id"]
    await client.send("conversation.item.truncate", item_id=spoken, content_index=0, audio_end_ms=0)
    await client.send("conversation.item.retrieve", item_id=spoken)
    await client.send("conversation.item.delete", item_id=spoken)
    for _ in range(20):
        await client.append(b"\xff" * 8 * 500)
    await client.next("input_audio_buffer.timeout_triggered")
    await client.next("response.done")
    await client.send("input_audio_buffer.clear")
    await client.next("input_audio_buffer.cleared")
    await client.refused("response.cancel")


@pytest.mark.parametrize("model", ["gpt-realtime", "gpt-realtime-2.1"])
async def test_every_server_event_is_of_the_sdks_class_for_its_type(model: str) -> None:
    call = {"call": "look_up", "arguments": {"number": 12}}
    options = scripted(
        {},
        {"output": [{}, call], "overlap": True},
        {},
        {"end": {"status": "incomplete", "reason": "content_filter"}},
        {"end": {"status": "failed", "code": "insufficient_quota"}},
        {"output": [{}, {"mcp": "search", "early": True}, {"mcp": "search", "ends": "failed", "early": True}]},
    )
    async with Simulator(options) as simulator, connected(simulator, f"?model={model}") as client:
        await _everything(client)
        assert SERVER_EVENT_TYPES - set(client.types()) == set()
        for event in client.events:
            parsed(event)


def _sessions() -> Iterator[session.SessionConfig]:
    """Yield configurations that between them set every field, each to each of its kinds."""
    pcm, pcmu = session.PcmAudio(rate=24000), session.G711Audio(type="audio/pcmu")
    function = session.FunctionTool(name="look_up", description="finds", parameters={"type": "object"})
    mcp = session.McpTool(
        server_label="shop",
        server_url="https://mcp.example",
        authorization="token",
        headers={"x": "y"},
        allowed_tools=("find",),
        require_approval="never",
        server_description="a shop",
        defer_loading=False,
    )
    yield session.SessionConfig()
    yield session.SessionConfig(
        output_modalities=("audio",),
        instructions="Be brief.",
        audio=session.AudioConfig(
            input=session.AudioInput(
                format=pcmu,
                noise_reduction=session.NoiseReduction(type="far_field"),
                transcription=session.Transcription(model="gpt-realtime-whisper", language="en"),
                turn_detection=session.ServerVad(
                    threshold=0.5, prefix_padding_ms=300, silence_duration_ms=500, idle_timeout_ms=5000
                ),
            ),
            output=session.AudioOutput(format=pcmu, voice="marin", speed=1.0),
        ),
        include=("item.input_audio_transcription.logprobs",),
        tools=(function, mcp),
        tool_choice="auto",
        parallel_tool_calls=True,
        reasoning=session.Reasoning(effort="low"),
        max_output_tokens=4096,
        truncation="auto",
        tracing="auto",
        prompt=session.Prompt(id="pmpt_1", version="2", variables={"name": "x"}),
    )
    yield session.SessionConfig(
        output_modalities=("text",),
        audio=session.AudioConfig(
            input=session.AudioInput(
                format=pcm,
                noise_reduction=None,
                transcription=None,
                turn_detection=session.SemanticVad(eagerness="high", create_response=False),
            ),
            output=session.AudioOutput(format=pcm, voice=session.CustomVoice(id="voice_1")),
        ),
        tools=(),
        tool_choice=session.FunctionChoice(name="look_up"),
        max_output_tokens="inf",
        truncation=session.RetentionRatio(
            retention_ratio=0.8, token_limits=session.TokenLimits(post_instructions=1000)
        ),
        tracing=session.Tracing(workflow_name="calls", group_id="1", metadata={"a": "b"}),
    )
    yield session.SessionConfig(
        audio=session.AudioConfig(input=session.AudioInput(turn_detection=None)),
        tool_choice=session.McpChoice(server_label="shop", name="find"),
        tracing=None,
    )


def _items() -> Iterator[Any]:
    """Yield an item of each kind a client may create."""
    yield client_events.SystemMessage(id="s", content=(client_events.InputText(text="You resumed."),))
    image = client_events.InputImage(image_url="data:image/png;base64,AA==", detail="low")
    audio = client_events.InputAudio(audio="AAAA", transcript="hello")
    yield client_events.UserMessage(content=(client_events.InputText(text="Hello"), audio, image))
    yield client_events.AssistantMessage(status="completed", content=(client_events.OutputText(text="Hello"),))
    yield client_events.FunctionCall(name="look_up", arguments="{}", call_id="call_1")
    yield client_events.FunctionCallOutput(object="realtime.item", call_id="call_1", output="found")
    yield client_events.McpApprovalResponse(id="m", approval_request_id="a", approve=True, reason="why not")


def _client_events() -> Iterator[client_events.ClientEvent]:
    """Yield every event the gateway's own models can write."""
    for config in _sessions():
        yield client_events.SessionUpdate(event_id="1", session=config)
    yield client_events.InputAudioBufferAppend(audio="AAAA")
    yield client_events.InputAudioBufferCommit(event_id="2")
    yield client_events.InputAudioBufferClear()
    for item in _items():
        yield client_events.ConversationItemCreate(item=item, previous_item_id="root")
    yield client_events.ConversationItemRetrieve(item_id="i")
    yield client_events.ConversationItemDelete(item_id="i")
    yield client_events.ConversationItemTruncate(item_id="i", content_index=0, audio_end_ms=1200)
    yield client_events.ResponseCreate()
    yield client_events.ResponseCreate(
        response=client_events.ResponseOverrides(
            audio=client_events.ResponseAudio(
                output=client_events.ResponseAudioOutput(format=session.G711Audio(type="audio/pcma"), voice="cedar")
            ),
            conversation="none",
            input=tuple(_items()),  # an item_reference is in the SDK's prose, not in its types
            instructions="Say goodbye.",
            max_output_tokens=100,
            metadata={"for": "a note"},
            output_modalities=("text",),
            parallel_tool_calls=False,
            prompt=session.Prompt(id="pmpt_1"),
            reasoning=session.Reasoning(effort="minimal"),
            tool_choice="none",
            tools=(session.FunctionTool(name="look_up"),),
        )
    )
    yield client_events.ResponseCancel(response_id="resp_1")
    yield client_events.OutputAudioBufferClear()


# Fields that the API's reference has and this version of the SDK's types has not.
NOT_IN_THE_SDK = {"item.object"}


@pytest.mark.parametrize("text", [*map(encode, _client_events()), encode_append(bytes(960))])
def test_every_client_event_of_ours_is_one_of_the_sdk_and_passes_the_simulator(text: str) -> None:
    event = json.loads(text)
    model = CLIENT_EVENT.validate_json(text, strict=True)
    assert getattr(model, "type", None) == event["type"]
    assert set(undeclared(model)) <= NOT_IN_THE_SDK
    if event["type"] != "output_audio_buffer.clear":  # for legs where the service plays the audio
        check_event(decode(text))


def test_no_client_event_of_ours_is_left_out() -> None:
    every = set(client_events.ClientEvent.__subclasses__())
    assert {type(event) for event in _client_events()} == every
