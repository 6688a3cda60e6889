"""
What a client may send, field by field, and the reading of one message.

Written down from the Realtime API's reference on its own, not shared with the gateway's client: a mistake made there
must show here.
"""

from __future__ import annotations

import binascii
import json
import math
from typing import Any, Never

from gateway.lab.simulator.wire.schema import (
    Check,
    ClientMistake,
    anything,
    array,
    boolean,
    by_kind,
    integer,
    invalid_value,
    keyed,
    missing,
    nullable,
    number,
    one_of,
    record,
    tagged,
    text,
)

APPEND = "input_audio_buffer.append"
LARGEST_APPEND_BYTES = 15 * 1024 * 1024
VOICES = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")
REASONING_EFFORTS = ("minimal", "low", "medium", "high", "xhigh")
TRANSCRIBERS = (
    "gpt-realtime-whisper",
    "gpt-live-transcribe",
    "gpt-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
    "gpt-4o-transcribe-diarize",
    "whisper-1",
)

_string = text()
_type = {"type": _string}  # `tagged` has judged its value

_format = tagged(
    "type",
    {
        "audio/pcm": record(_type | {"rate": integer(24000, 24000)}),
        "audio/pcmu": record(_type),
        "audio/pcma": record(_type),
    },
)
_voice = by_kind({str: one_of(*VOICES), dict: record({}, required={"id": _string})})
_turn_flags: dict[str, Check] = {"create_response": boolean, "interrupt_response": boolean}
_turn_detection = tagged(
    "type",
    {
        "server_vad": record(
            _type
            | _turn_flags
            | {
                "threshold": number(0.0, 1.0),
                "prefix_padding_ms": integer(0),
                "silence_duration_ms": integer(0),
                "idle_timeout_ms": nullable(integer(5000, 30000)),
            }
        ),
        "semantic_vad": record(_type | _turn_flags | {"eagerness": one_of("low", "medium", "high", "auto")}),
    },
)
_transcription = record(
    {
        "language": nullable(_string),
        "languages": array(_string),
        "keywords": array(_string),
        "prompt": nullable(_string),
        "delay": one_of(*REASONING_EFFORTS),
    },
    required={"model": one_of(*TRANSCRIBERS)},
)
_noise_reduction = record({"strength": number()}, required={"type": one_of("near_field", "far_field")})
_max_tokens = by_kind({int: integer(1, 4096), str: one_of("inf")})
_modalities = array(one_of("audio", "text"), least=1, most=1)
_mcp_filter = by_kind({list: array(_string), dict: record({"tool_names": array(_string), "read_only": boolean})})
_tool = tagged(
    "type",
    {
        "function": record(
            _type | {"description": _string, "parameters": keyed(most=1000, longest_key=1000, value=anything)},
            required={"name": _string},
        ),
        "mcp": record(
            _type
            | {
                "server_url": _string,
                "connector_id": _string,
                "tunnel_id": _string,
                "authorization": _string,
                "headers": keyed(most=100, longest_key=1000, value=_string),
                "allowed_tools": nullable(_mcp_filter),
                "require_approval": anything,
                "server_description": _string,
                "allowed_callers": anything,
                "defer_loading": boolean,
            },
            required={"server_label": _string},
        ),
    },
)
_tool_choice = by_kind(
    {
        str: one_of("auto", "none", "required"),
        dict: tagged(
            "type",
            {
                "function": record(_type, required={"name": _string}),
                "mcp": record(_type | {"name": nullable(_string)}, required={"server_label": _string}),
            },
        ),
    }
)
_token_limits = record({"post_instructions": integer(0)})
_retention = record(
    {"token_limits": nullable(_token_limits)},
    required={"type": one_of("retention_ratio"), "retention_ratio": number(0.0, 1.0)},
)
_metadata = keyed(most=16, longest_key=64, value=text(longest=512))
_tracing = by_kind(
    {
        str: one_of("auto"),
        dict: record({"workflow_name": _string, "group_id": _string, "metadata": anything}),
    }
)
_prompt = record({"version": nullable(_string), "variables": anything}, required={"id": _string})
_shared: dict[str, Check] = {
    "output_modalities": _modalities,
    "instructions": _string,
    "tools": array(_tool),
    "tool_choice": _tool_choice,
    "parallel_tool_calls": boolean,
    "reasoning": record({"effort": one_of(*REASONING_EFFORTS)}),
    "prompt": nullable(_prompt),
}
_session = record(
    _shared
    | {
        "model": _string,
        "max_output_tokens": _max_tokens,
        "truncation": by_kind({str: one_of("auto", "disabled"), dict: _retention}),
        "tracing": nullable(_tracing),
        "include": nullable(array(one_of("item.input_audio_transcription.logprobs"))),
        "audio": record(
            {
                "input": record(
                    {
                        "format": _format,
                        "noise_reduction": nullable(_noise_reduction),
                        "transcription": nullable(_transcription),
                        "turn_detection": nullable(_turn_detection),
                    }
                ),
                "output": record({"format": _format, "voice": _voice, "speed": number(0.25, 1.5)}),
            }
        ),
    },
    required={"type": one_of("realtime")},
)

_input_text = record(_type, required={"text": _string})
_user_part = tagged(
    "type",
    {
        "input_text": _input_text,
        "input_audio": record(_type | {"transcript": nullable(_string)}, required={"audio": _string}),
        "input_image": record(_type | {"detail": one_of("auto", "low", "high")}, required={"image_url": _string}),
    },
)
_parts = {
    "system": tagged("type", {"input_text": _input_text}),
    "user": _user_part,
    "assistant": tagged("type", {"output_text": record(_type, required={"text": _string})}),
}
_item_extras: dict[str, Check] = _type | {
    "id": text(longest=32),
    "status": one_of("completed", "incomplete", "in_progress"),
    "object": one_of("realtime.item"),
}
_message = tagged(
    "role",
    {
        role: record(_item_extras | {"role": _string}, required={"content": array(part, least=1)})
        for role, part in _parts.items()
    },
)
_item_kinds: dict[str, Check] = {
    "message": _message,
    "function_call": record(_item_extras | {"call_id": _string}, required={"name": _string, "arguments": _string}),
    "function_call_output": record(_item_extras, required={"call_id": _string, "output": _string}),
    "mcp_approval_response": record(
        _item_extras | {"reason": nullable(_string)},
        required={"approval_request_id": _string, "approve": boolean},
    ),
}
_item = tagged("type", _item_kinds)
_response = record(
    _shared
    | {
        "audio": record({"output": record({"format": _format, "voice": _voice})}),
        "conversation": one_of("auto", "none"),
        "input": nullable(
            array(tagged("type", _item_kinds | {"item_reference": record(_type, required={"id": _string})}))
        ),
        "max_output_tokens": _max_tokens,
        "metadata": nullable(_metadata),
    }
)

_head: dict[str, Check] = _type | {"event_id": text(longest=512)}
_one_item = {"item_id": _string}
CLIENT_EVENTS: dict[str, Check] = {
    "session.update": record(_head, required={"session": _session}),
    APPEND: record(_head, required={"audio": _string}),
    "input_audio_buffer.commit": record(_head),
    "input_audio_buffer.clear": record(_head),
    "conversation.item.create": record(_head | {"previous_item_id": nullable(_string)}, required={"item": _item}),
    "conversation.item.retrieve": record(_head, required=_one_item),
    "conversation.item.delete": record(_head, required=_one_item),
    "conversation.item.truncate": record(
        _head, required=_one_item | {"content_index": integer(0), "audio_end_ms": integer(0)}
    ),
    "response.create": record(_head | {"response": _response}),
    "response.cancel": record(_head | {"response_id": _string}),
}
_check_secret_request = record(
    {
        "expires_after": record({"anchor": one_of("created_at"), "seconds": integer(10, 7200)}),
        "session": _session,
    }
)
# Named by the service among the types it knows, but meant for translation sessions.
_TRANSLATION_EVENTS = ("session.close", "session.input_audio_buffer.append")


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")  # RFC 8259 section 6


def _finite(text_of_number: str) -> float:
    value = float(text_of_number)
    if not math.isfinite(value):
        raise ValueError(f"{text_of_number} is out of range")
    return value


_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def decode(message: str | bytes) -> dict[str, Any]:
    """
    Read one frame into an event; its fields are not judged yet.

    Raises:
        ClientMistake: a binary frame, not JSON, not an object.
    """
    if isinstance(message, bytes):
        raise ClientMistake("invalid_event", "Binary frames are not part of the protocol; send text.")
    try:
        event = _decoder.decode(message)
    except (ValueError, RecursionError):
        raise ClientMistake("invalid_json", "The message is not valid JSON.") from None
    if not isinstance(event, dict):
        raise ClientMistake("invalid_event", "The message is JSON, but not an object.")
    return event


def check_event(event: dict[str, Any]) -> None:
    """
    Judge an event's type and every field of it, at any depth.

    Raises:
        ClientMistake: the first thing that is wrong.
    """
    name = event.get("type")
    if name is None:
        raise missing("type")
    check = CLIENT_EVENTS.get(name) if isinstance(name, str) else None
    if check is None:
        raise invalid_value(name, "type", (*CLIENT_EVENTS, *_TRANSLATION_EVENTS))
    check(event, "")


def check_secret_request(body: dict[str, Any]) -> None:
    """
    Judge the body of ``POST /v1/realtime/client_secrets``.

    Raises:
        ClientMistake: the first thing that is wrong.
    """
    _check_secret_request(body, "")


def decode_audio(value: str, *, sample_bytes: int) -> bytes:
    """
    Turn the ``audio`` field of an append into bytes.

    Args:
        value: base64 text.
        sample_bytes: 2 for PCM, 1 for G.711.

    Raises:
        ClientMistake: not base64, half a sample, or above 15 MiB.
    """
    try:
        audio = binascii.a2b_base64(value, strict_mode=True)
    except ValueError:  # binascii.Error is one
        raise ClientMistake("invalid_value", "Invalid 'audio': not valid base64.", "audio") from None
    if len(audio) % sample_bytes:
        message = f"Invalid 'audio': {len(audio)} bytes are not whole 16-bit samples."
        raise ClientMistake("invalid_value", message, "audio")
    if len(audio) > LARGEST_APPEND_BYTES:
        raise ClientMistake("invalid_value", "Invalid 'audio': larger than 15 MiB.", "audio")
    return audio
