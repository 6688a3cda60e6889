from __future__ import annotations

import base64
from typing import Any

import pytest

from gateway.lab.simulator.wire.schema import ClientMistake
from gateway.lab.simulator.wire.validate import check_event, decode, decode_audio

pytestmark = pytest.mark.unit

MESSAGE = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}


def update(**fields: Any) -> dict[str, Any]:
    return {"type": "session.update", "session": {"type": "realtime", **fields}}


def input_side(**fields: Any) -> dict[str, Any]:
    return update(audio={"input": fields})


def output_side(**fields: Any) -> dict[str, Any]:
    return update(audio={"output": fields})


def vad(**fields: Any) -> dict[str, Any]:
    return input_side(turn_detection={"type": "server_vad", **fields})


def item(**fields: Any) -> dict[str, Any]:
    return {"type": "conversation.item.create", "item": MESSAGE | fields}


def mistake_in(event: dict[str, Any]) -> ClientMistake:
    with pytest.raises(ClientMistake) as caught:
        check_event(event)
    return caught.value


FULL_UPDATE = {
    "type": "session.update",
    "event_id": "cfg-1",
    "session": {
        "type": "realtime",
        "output_modalities": ["audio"],
        "instructions": "Be short.",
        "audio": {
            "input": {
                "format": {"type": "audio/pcmu"},
                "noise_reduction": {"type": "far_field"},
                "transcription": {"model": "gpt-realtime-whisper", "language": "en"},
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
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": {"id": "voice_1"}, "speed": 1},
        },
        "tools": [{"type": "function", "name": "hang_up", "parameters": {"type": "object", "properties": {}}}],
        "tool_choice": {"type": "function", "name": "hang_up"},
        "max_output_tokens": 4096,
        "truncation": {"type": "retention_ratio", "retention_ratio": 0.8},
        "tracing": None,
        "include": ["item.input_audio_transcription.logprobs"],
    },
}


@pytest.mark.parametrize(
    "event",
    [
        FULL_UPDATE,
        input_side(turn_detection=None, transcription=None, noise_reduction=None),
        input_side(turn_detection={"type": "semantic_vad", "eagerness": "low", "create_response": False}),
        {"type": "input_audio_buffer.append", "audio": "AAAA", "event_id": "a-1"},
        {"type": "input_audio_buffer.commit"},
        {"type": "input_audio_buffer.clear"},
        item(),
        item(role="assistant", content=[{"type": "output_text", "text": "earlier"}]),
        {"type": "conversation.item.create", "item": {"type": "function_call_output", "call_id": "c", "output": "{}"}},
        {"type": "conversation.item.truncate", "item_id": "item_1", "content_index": 0, "audio_end_ms": 0},
        {"type": "response.create"},
        {
            "type": "response.create",
            "response": {
                "conversation": "none",
                "input": [{"type": "item_reference", "id": "item_1"}, MESSAGE],
                "metadata": {"turn": "1"},
                "instructions": "Greet the caller.",
                "max_output_tokens": "inf",
            },
        },
        {"type": "response.cancel", "response_id": "resp_1"},
    ],
    ids=lambda event: str(event["type"]),
)
def test_what_the_protocol_allows_is_accepted(event: dict[str, Any]) -> None:
    check_event(event)


@pytest.mark.parametrize(
    ("event", "code", "param"),
    [
        ({}, "missing_required_parameter", "type"),
        ({"type": 7}, "invalid_value", "type"),
        ({"type": "response.begin"}, "invalid_value", "type"),
        ({"type": "transcription_session.update"}, "invalid_value", "type"),
        ({"type": "output_audio_buffer.clear"}, "invalid_value", "type"),
        ({"type": "response.create", "event_id": 7}, "invalid_type", "event_id"),
        ({"type": "response.create", "event_id": "x" * 513}, "string_above_max_length", "event_id"),
        ({"type": "session.update", "session": {"instructions": ""}}, "missing_required_parameter", "session.type"),
        ({"type": "session.update"}, "missing_required_parameter", "session"),
        ({"type": "session.update", "session": []}, "invalid_type", "session"),
        (update(type="transcription"), "invalid_value", "session.type"),
        (update(voice="alloy"), "unknown_parameter", "session.voice"),
        (update(modalities=["text"]), "unknown_parameter", "session.modalities"),
        (update(temperature=0.8), "unknown_parameter", "session.temperature"),
        (update(input_audio_format="g711_ulaw"), "unknown_parameter", "session.input_audio_format"),
        (update(turn_detection=None), "unknown_parameter", "session.turn_detection"),
        (update(output_modalities=["audio", "text"]), "invalid_value", "session.output_modalities"),
        (update(output_modalities=["video"]), "invalid_value", "session.output_modalities[0]"),
        (update(max_output_tokens=0), "integer_below_min_value", "session.max_output_tokens"),
        (update(max_output_tokens=4097), "integer_above_max_value", "session.max_output_tokens"),
        (update(max_output_tokens="many"), "invalid_value", "session.max_output_tokens"),
        (update(max_output_tokens=1.5), "invalid_type", "session.max_output_tokens"),
        (update(tools=[{"type": "function", "function": {}}]), "unknown_parameter", "session.tools[0].function"),
        (update(tools=[{"type": "function"}]), "missing_required_parameter", "session.tools[0].name"),
        (
            update(truncation={"type": "retention_ratio", "retention_ratio": 1.2}),
            "decimal_above_max_value",
            "session.truncation.retention_ratio",
        ),
        (
            input_side(format={"type": "audio/pcm", "rate": 16000}),
            "integer_below_min_value",
            "session.audio.input.format.rate",
        ),
        (
            input_side(format={"type": "audio/pcm", "rate": 48000}),
            "integer_above_max_value",
            "session.audio.input.format.rate",
        ),
        (
            input_side(format={"type": "audio/pcmu", "rate": 8000}),
            "unknown_parameter",
            "session.audio.input.format.rate",
        ),
        (input_side(format={"type": "audio/opus"}), "invalid_value", "session.audio.input.format.type"),
        (input_side(format="pcm16"), "invalid_type", "session.audio.input.format"),
        (input_side(gain=2), "unknown_parameter", "session.audio.input.gain"),
        (vad(threshold=1.5), "decimal_above_max_value", "session.audio.input.turn_detection.threshold"),
        (vad(threshold=True), "invalid_type", "session.audio.input.turn_detection.threshold"),
        (
            vad(silence_duration_ms=-1),
            "integer_below_min_value",
            "session.audio.input.turn_detection.silence_duration_ms",
        ),
        (vad(idle_timeout_ms=4999), "integer_below_min_value", "session.audio.input.turn_detection.idle_timeout_ms"),
        (vad(eagerness="low"), "unknown_parameter", "session.audio.input.turn_detection.eagerness"),
        (input_side(transcription={"model": "whisper-9"}), "invalid_value", "session.audio.input.transcription.model"),
        (output_side(voice="nobody"), "invalid_value", "session.audio.output.voice"),
        (output_side(speed=2.0), "decimal_above_max_value", "session.audio.output.speed"),
        (output_side(speed=0.1), "decimal_below_min_value", "session.audio.output.speed"),
        ({"type": "input_audio_buffer.append"}, "missing_required_parameter", "audio"),
        ({"type": "input_audio_buffer.append", "audio": 5}, "invalid_type", "audio"),
        ({"type": "input_audio_buffer.append", "audio": "", "rate": 8000}, "unknown_parameter", "rate"),
        (item(role="robot"), "invalid_value", "item.role"),
        (item(role="assistant", content=[{"type": "output_audio"}]), "invalid_value", "item.content[0].type"),
        (item(id="x" * 33), "string_above_max_length", "item.id"),
        (
            {"type": "conversation.item.truncate", "content_index": 0, "audio_end_ms": 1},
            "missing_required_parameter",
            "item_id",
        ),
        (
            {"type": "conversation.item.truncate", "item_id": None, "content_index": 0, "audio_end_ms": 1},
            "invalid_type",
            "item_id",
        ),
        (
            {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": -1},
            "integer_below_min_value",
            "audio_end_ms",
        ),
        ({"type": "response.create", "response": {"voice": "alloy"}}, "unknown_parameter", "response.voice"),
        ({"type": "response.create", "response": {"conversation": "all"}}, "invalid_value", "response.conversation"),
        (
            {"type": "response.create", "response": {"metadata": {"k": "v" * 513}}},
            "string_above_max_length",
            "response.metadata.k",
        ),
    ],
)
def test_each_breach_is_told_with_its_code_and_place(event: dict[str, Any], code: str, param: str) -> None:
    mistake = mistake_in(event)
    assert (mistake.code, mistake.param) == (code, param)


def test_the_complaint_about_an_unknown_type_lists_the_known_ones() -> None:
    message = mistake_in({"type": "response.begin"}).message
    assert "'response.create'" in message
    assert "'session.input_audio_buffer.append'" in message
    assert "output_audio_buffer.clear" not in message


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"{}", "invalid_event"),
        ("{", "invalid_json"),
        ('{"type": NaN}', "invalid_json"),
        ('{"type": 1e999}', "invalid_json"),
        ("[" * 100_000, "invalid_json"),
        ("[]", "invalid_event"),
        ('"session.update"', "invalid_event"),
    ],
)
def test_a_frame_that_is_no_event_is_refused(frame: str | bytes, code: str) -> None:
    with pytest.raises(ClientMistake) as caught:
        decode(frame)
    assert caught.value.code == code


@pytest.mark.parametrize("audio", ["A", "AAA", "AA=A", "ä", "AA AA", "AAAA\n", "AAAAA="])
def test_bad_base64_is_refused(audio: str) -> None:
    with pytest.raises(ClientMistake) as caught:
        decode_audio(audio, sample_bytes=1)
    assert (caught.value.code, caught.value.param) == ("invalid_value", "audio")


def test_half_a_sample_is_refused_for_pcm_alone() -> None:
    odd = base64.b64encode(bytes(161)).decode()
    assert decode_audio(odd, sample_bytes=1) == bytes(161)
    with pytest.raises(ClientMistake) as caught:
        decode_audio(odd, sample_bytes=2)
    assert caught.value.param == "audio"
