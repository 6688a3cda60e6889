"""What goes over the wire: the 46 server events, and the client's."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.errors import WireError
from gateway.realtime import wire_client as client
from gateway.realtime import wire_server as server
from gateway.realtime.wire import encode, encode_append, parse_http_refusal, parse_server_event
from gateway.realtime.wire_session import (
    AudioConfig,
    AudioInput,
    AudioOutput,
    FunctionTool,
    G711Audio,
    PcmAudio,
    RetentionRatio,
    ServerVad,
    SessionConfig,
)

pytestmark = pytest.mark.unit

Json = dict[str, Any]

PCM = bytes(range(256)) * 2
USAGE = {"total_tokens": 9, "input_tokens": 4, "output_tokens": 5, "input_token_details": {"audio_tokens": 4}}
FULL_SESSION: Json = {
    "type": "realtime",
    "object": "realtime.session",
    "id": "sess_1",
    "model": "gpt-realtime-2.1",
    "output_modalities": ["audio"],
    "instructions": "Be brief.",
    "tools": [],
    "tool_choice": "auto",
    "max_output_tokens": "inf",
    "tracing": None,
    "truncation": "auto",
    "prompt": None,
    "expires_at": 1790000000,
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "transcription": {"model": "gpt-realtime-whisper", "language": None, "prompt": None},
            "noise_reduction": None,
            "turn_detection": {
                "type": "server_vad",
                "threshold": 0.5,
                "prefix_padding_ms": 300,
                "silence_duration_ms": 500,
                "idle_timeout_ms": None,
                "create_response": True,
                "interrupt_response": True,
            },
        },
        "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin", "speed": 1.0},
    },
    "include": None,
}
MESSAGE: Json = {
    "id": "item_a",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "phase": "final_answer",
    "content": [{"type": "output_audio", "transcript": "Hello."}],
}
CALL: Json = {
    "id": "item_f",
    "type": "function_call",
    "status": "completed",
    "name": "hang_up",
    "call_id": "call_1",
    "arguments": "{}",
}
RESPONSE: Json = {
    "object": "realtime.response",
    "id": "resp_1",
    "status": "completed",
    "status_details": None,
    "output": [MESSAGE, CALL],
    "conversation_id": "conv_1",
    "output_modalities": ["audio"],
    "max_output_tokens": "inf",
    "audio": {"output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin"}},
    "usage": USAGE,
    "metadata": None,
}
OUTPUT: Json = {"response_id": "resp_1", "output_index": 0, "item_id": "item_a"}
PART: Json = OUTPUT | {"content_index": 0}
HEARD: Json = {"item_id": "item_u", "content_index": 0}
TRANSCRIPTION = "conversation.item.input_audio_transcription"
ITEM: Json = {"item": MESSAGE, "previous_item_id": None}

SAMPLES: dict[str, Json] = {
    "session.created": {"session": FULL_SESSION},
    "session.updated": {"session": FULL_SESSION},
    "error": {"error": {"type": "server_error", "code": None, "message": "m", "param": None, "event_id": None}},
    "rate_limits.updated": {
        "rate_limits": [{"name": "tokens", "limit": 40000, "remaining": 39000, "reset_seconds": 1.5}]
    },
    "conversation.created": {"conversation": {"id": "conv_1", "object": "realtime.conversation"}},
    "input_audio_buffer.speech_started": {"audio_start_ms": 840, "item_id": "item_u"},
    "input_audio_buffer.speech_stopped": {"audio_end_ms": 2100, "item_id": "item_u"},
    "input_audio_buffer.committed": {"item_id": "item_u", "previous_item_id": None},
    "input_audio_buffer.cleared": {},
    "input_audio_buffer.timeout_triggered": {"audio_start_ms": 0, "audio_end_ms": 6000, "item_id": "item_u"},
    "input_audio_buffer.dtmf_event_received": {"event": "5", "received_at": 1790000000},
    "conversation.item.added": ITEM,
    "conversation.item.done": ITEM,
    "conversation.item.created": ITEM,
    "conversation.item.retrieved": {"item": MESSAGE | {"content": [{"type": "input_audio", "audio": "AAAA"}]}},
    "conversation.item.deleted": {"item_id": "item_u"},
    "conversation.item.truncated": {"item_id": "item_a", "content_index": 0, "audio_end_ms": 700},
    f"{TRANSCRIPTION}.delta": HEARD | {"delta": "Good", "obfuscation": "x1"},
    f"{TRANSCRIPTION}.segment": HEARD | {"id": "s", "text": "Good", "speaker": "A", "start": 0.1, "end": 1.0},
    f"{TRANSCRIPTION}.completed": HEARD | {"transcript": "Good day.", "usage": {"type": "duration", "seconds": 2}},
    f"{TRANSCRIPTION}.failed": HEARD | {"error": {"type": "x", "code": "DeploymentNotFound", "message": "m"}},
    "response.created": {"response": RESPONSE | {"status": "in_progress", "output": [], "usage": None}},
    "response.output_item.added": {"response_id": "resp_1", "output_index": 1, "item": CALL | {"arguments": ""}},
    "response.output_item.done": {"response_id": "resp_1", "output_index": 1, "item": CALL},
    "response.content_part.added": PART | {"part": {"type": "audio", "transcript": ""}},
    "response.content_part.done": PART | {"part": {"type": "text", "text": "Hello."}, "content": {}},
    "response.output_text.delta": PART | {"delta": "Hel"},
    "response.output_text.done": PART | {"text": "Hello."},
    "response.output_audio.delta": PART | {"delta": base64.b64encode(PCM).decode()},
    "response.output_audio.done": PART,
    "response.output_audio_transcript.delta": PART | {"delta": "Hel", "obfuscation": "jk2"},
    "response.output_audio_transcript.done": PART | {"transcript": "Hello."},
    "response.function_call_arguments.delta": OUTPUT | {"call_id": "call_1", "delta": "{"},
    "response.function_call_arguments.done": OUTPUT | {"call_id": "call_1", "name": "f", "arguments": "{}"},
    "response.done": {"response": RESPONSE},
    "mcp_list_tools.in_progress": {"item_id": "mcp_1"},
    "mcp_list_tools.completed": {"item_id": "mcp_1"},
    "mcp_list_tools.failed": {"item_id": "mcp_1"},
    "response.mcp_call_arguments.delta": OUTPUT | {"delta": "{"},
    "response.mcp_call_arguments.done": OUTPUT | {"arguments": "{}"},
    "response.mcp_call.in_progress": {"item_id": "mcp_1", "output_index": 0},
    "response.mcp_call.completed": {"item_id": "mcp_1", "output_index": 0},
    "response.mcp_call.failed": {"item_id": "mcp_1", "output_index": 0},
    "output_audio_buffer.started": {"response_id": "resp_1"},
    "output_audio_buffer.stopped": {"response_id": "resp_1"},
    "output_audio_buffer.cleared": {"response_id": "resp_1"},
}


def test_the_samples_are_the_46_events_of_the_api() -> None:
    assert len(SAMPLES) == 46


@pytest.mark.parametrize("name", SAMPLES)
def test_a_documented_event_is_parsed_with_its_type(name: str) -> None:
    text = json.dumps({"type": name, "event_id": "event_1", "something_new": {"a": [1]}} | SAMPLES[name])

    for event in (parse_server_event(text), parse_server_event(text.encode())):
        assert not isinstance(event, server.UnknownServerEvent)
        assert event.type == name
        assert event.event_id == "event_1"
        written = event.model_dump()
        assert set(SAMPLES[name]) - {"obfuscation", "content"} - set(written) == set()


ACTED_UPON = {
    "session.created",
    "session.updated",
    "error",
    "response.created",
    "response.done",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    f"{TRANSCRIPTION}.completed",
}


@pytest.mark.parametrize("name", SAMPLES)
def test_only_what_the_gateway_acts_upon_is_required(name: str) -> None:
    text = json.dumps({"type": name})

    if name in ACTED_UPON:
        with pytest.raises(WireError, match=name):
            parse_server_event(text)
    else:
        nulled = json.dumps({"type": name} | dict.fromkeys(SAMPLES[name]))
        assert parse_server_event(text) == parse_server_event(nulled)


def test_an_audio_delta_arrives_as_bytes() -> None:
    text = json.dumps({"type": "response.output_audio.delta"} | SAMPLES["response.output_audio.delta"])

    event = parse_server_event(text)

    assert isinstance(event, server.OutputAudioDelta)
    assert (event.response_id, event.item_id, event.delta) == ("resp_1", "item_a", PCM)


def test_an_unknown_type_is_told_and_tolerated() -> None:
    assert parse_server_event('{"type":"ping","timestamp":1}') == server.UnknownServerEvent("ping")


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "",
        "[]",
        "null",
        '"session.created"',
        "{}",
        '{"event_id":"event_1"}',
        '{"type":null}',
        '{"type":"response.output_audio.delta","item_id":"i","delta":"*"}',
        '{"type":"response.output_audio.delta","item_id":7,"delta":"AAAA"}',
        b"\xff\xfe",
    ],
)
def test_what_is_not_the_protocol_is_a_wire_error(text: str | bytes) -> None:
    with pytest.raises(WireError):
        parse_server_event(text)


def test_a_wire_error_does_not_quote_what_was_said() -> None:
    with pytest.raises(WireError) as raised:
        parse_server_event(json.dumps({"type": f"{TRANSCRIPTION}.completed", "transcript": "my secret"}))

    assert "secret" not in str(raised.value)


def test_the_body_of_an_http_refusal_is_read_if_it_is_one() -> None:
    refusal = parse_http_refusal(b'{"error":{"code":"call_id_not_found","message":"No call."}}')

    assert refusal is not None
    assert (refusal.code, refusal.message) == ("call_id_not_found", "No call.")
    assert parse_http_refusal(b"<html>") is None


MINIMAL_CLIENT_EVENTS: dict[str, tuple[client.ClientEvent, Json]] = {
    "session.update": (
        client.SessionUpdate(session=SessionConfig(tools=())),
        {"session": {"type": "realtime", "tools": []}},
    ),
    "input_audio_buffer.append": (client.InputAudioBufferAppend(audio="AAAA"), {"audio": "AAAA"}),
    "input_audio_buffer.commit": (client.InputAudioBufferCommit(), {}),
    "input_audio_buffer.clear": (client.InputAudioBufferClear(), {}),
    "conversation.item.create": (
        client.ConversationItemCreate(item=client.FunctionCallOutput(call_id="c", output="ok")),
        {"item": {"type": "function_call_output", "call_id": "c", "output": "ok"}},
    ),
    "conversation.item.retrieve": (client.ConversationItemRetrieve(item_id="i"), {"item_id": "i"}),
    "conversation.item.delete": (client.ConversationItemDelete(item_id="i"), {"item_id": "i"}),
    "conversation.item.truncate": (
        client.ConversationItemTruncate(item_id="i", content_index=0, audio_end_ms=20),
        {"item_id": "i", "content_index": 0, "audio_end_ms": 20},
    ),
    "response.create": (
        client.ResponseCreate(event_id="e", response=client.ResponseOverrides(instructions="Greet.")),
        {"event_id": "e", "response": {"instructions": "Greet."}},
    ),
    "response.cancel": (client.ResponseCancel(), {}),
    "output_audio_buffer.clear": (client.OutputAudioBufferClear(), {}),
}


@pytest.mark.parametrize("name", MINIMAL_CLIENT_EVENTS)
def test_a_client_event_is_written_with_what_was_set_and_nothing_else(name: str) -> None:
    event, fields = MINIMAL_CLIENT_EVENTS[name]

    assert json.loads(encode(event)) == {"type": name} | fields
    assert ", " not in encode(event)


def test_none_that_was_set_clears_a_field() -> None:
    audio = AudioConfig(input=AudioInput(turn_detection=None, noise_reduction=None))

    written = json.loads(encode(client.SessionUpdate(session=SessionConfig(audio=audio))))

    assert written["session"]["audio"] == {"input": {"turn_detection": None, "noise_reduction": None}}


def test_a_rich_session_and_response_keep_their_tags() -> None:
    config = SessionConfig(
        audio=AudioConfig(
            input=AudioInput(format=G711Audio(type="audio/pcma"), turn_detection=ServerVad(threshold=0.4)),
            output=AudioOutput(format=PcmAudio(rate=24000), voice="cedar", speed=1.25),
        ),
        tools=(FunctionTool(name="f", parameters={"type": "object"}),),
        truncation=RetentionRatio(retention_ratio=0.8),
    )
    greeting = client.UserMessage(content=(client.InputText(text="Hi."), client.InputAudio(audio="AAAA")))
    response = client.ResponseCreate(
        response=client.ResponseOverrides(input=(greeting, client.ItemReference(id="i")), conversation="none")
    )

    session = json.loads(encode(client.SessionUpdate(session=config)))["session"]
    assert session["audio"]["input"] == {
        "format": {"type": "audio/pcma"},
        "turn_detection": {"type": "server_vad", "threshold": 0.4},
    }
    assert session["audio"]["output"]["format"] == {"type": "audio/pcm", "rate": 24000}
    assert session["truncation"] == {"type": "retention_ratio", "retention_ratio": 0.8}
    assert session["tools"] == [{"type": "function", "name": "f", "parameters": {"type": "object"}}]
    assert json.loads(encode(response))["response"]["input"] == [
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "Hi."}, {"type": "input_audio", "audio": "AAAA"}],
        },
        {"type": "item_reference", "id": "i"},
    ]


WRONG_SESSIONS: list[Json] = [
    {"temperature": 0.8},
    {"model": "gpt-realtime"},
    {"type": "transcription"},
    {"output_modalities": ["audio", "text"]},
    {"output_modalities": []},
    {"max_output_tokens": 0},
    {"max_output_tokens": 4097},
    {"max_output_tokens": "many"},
    {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}},
    {"audio": {"input": {"format": {"type": "audio/pcmu", "rate": 8000}}}},
    {"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 1.1}}}},
    {"audio": {"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 4999}}}},
    {"audio": {"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 30001}}}},
    {"audio": {"input": {"turn_detection": {"type": "semantic_vad", "threshold": 0.5}}}},
    {"audio": {"output": {"speed": 0.2}}},
    {"audio": {"output": {"speed": 1.6}}},
    {"truncation": {"type": "retention_ratio", "retention_ratio": 1.5}},
    {"tools": [{"type": "function", "function": {"name": "f"}}]},
]


@pytest.mark.parametrize("session", WRONG_SESSIONS, ids=str)
def test_a_session_the_service_would_refuse_cannot_be_made(session: Json) -> None:
    with pytest.raises(ValidationError):
        SessionConfig.model_validate(session)


def test_metadata_and_event_ids_have_limits() -> None:
    for metadata in ({str(n): "v" for n in range(17)}, {"k" * 65: "v"}, {"k": "v" * 513}):
        with pytest.raises(ValidationError):
            client.ResponseOverrides(metadata=metadata)
    with pytest.raises(ValidationError):
        client.ResponseCreate(event_id="e" * 513)


def test_client_events_are_frozen() -> None:
    event = client.ResponseCancel()

    with pytest.raises(ValidationError):
        event.response_id = "resp_1"  # type: ignore[misc]


def test_the_fast_append_is_the_same_message() -> None:
    pcm = bytes(range(240)) * 4

    slow = encode(client.InputAudioBufferAppend(audio=base64.b64encode(pcm).decode()))

    assert encode_append(pcm) == slow
    assert len(slow) == 1280 + len('{"type":"input_audio_buffer.append","audio":""}')
