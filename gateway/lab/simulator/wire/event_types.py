"""Names of the protocol's events, for faults that name one."""

from __future__ import annotations

from gateway.lab.simulator.wire.validate import CLIENT_EVENTS

_LADDER = ("output_text", "output_audio", "output_audio_transcript", "function_call_arguments")
SERVER_EVENT_TYPES = frozenset(
    {
        "error",
        "rate_limits.updated",
        *(f"session.{name}" for name in ("created", "updated")),
        *(
            f"input_audio_buffer.{name}"
            for name in ("speech_started", "speech_stopped", "committed", "cleared", "timeout_triggered")
        ),
        *(f"conversation.item.{name}" for name in ("added", "done", "retrieved", "deleted", "truncated")),
        *(f"conversation.item.input_audio_transcription.{name}" for name in ("delta", "completed")),
        *(f"response.{name}" for name in ("created", "done")),
        *(f"response.{name}.{end}" for name in ("output_item", "content_part") for end in ("added", "done")),
        *(f"response.{name}.{end}" for name in _LADDER for end in ("delta", "done")),
        "response.mcp_call_arguments.done",
        *(f"mcp_list_tools.{step}" for step in ("in_progress", "completed")),
        *(f"response.mcp_call.{step}" for step in ("in_progress", "completed", "failed")),
    }
)
"""Everything the simulator may send."""

CLIENT_EVENT_TYPES = frozenset(CLIENT_EVENTS)
"""Everything a client may send."""
