"""A sample of each of the 46 events a server sends, as the API documents them; without ``type`` and ``event_id``."""

from __future__ import annotations

import base64
from typing import Any

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
