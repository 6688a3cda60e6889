"""Every event the gateway sends, judged by the types of the service's own SDK."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.realtime import (
    ConversationItemCreateEvent,
    ConversationItemTruncateEvent,
    InputAudioBufferAppendEvent,
    ResponseCancelEvent,
    ResponseCreateEvent,
    SessionUpdateEvent,
)
from pydantic import BaseModel, SecretStr, TypeAdapter

from gateway.call.builtin_tools import ToolDefinition
from gateway.dialplan.model.agent import AgentProfile
from gateway.ids import CallId
from gateway.upstream.core.history import History
from gateway.upstream.core.prompts import goodbye
from gateway.upstream.realtime.config import offered_tools, session_config
from gateway.upstream.realtime.dialect import RealtimeDialect
from gateway.upstream.realtime.function_calls import CalledFunctions
from tests.fakes.orders import greet

pytestmark = pytest.mark.unit

SDK: dict[str, type[BaseModel]] = {
    "session.update": SessionUpdateEvent,
    "input_audio_buffer.append": InputAudioBufferAppendEvent,
    "conversation.item.create": ConversationItemCreateEvent,
    "conversation.item.truncate": ConversationItemTruncateEvent,
    "response.create": ResponseCreateEvent,
    "response.cancel": ResponseCancelEvent,
}
TOOLS = {
    "builtin": ["hang_up", "transfer_call", "send_dtmf", "wait"],
    "transfer_targets": {"sales": "sip:sales@192.0.2.1"},
    "mcp": [{"server_label": "crm", "server_url": "https://crm.example/mcp", "authorization": "crm"}],
}
PROFILES = {
    "plain": AgentProfile(instructions="Be brief."),
    "all": AgentProfile.model_validate(
        {
            "instructions": "Be brief.",
            "voice": "voice_123",
            "speed": 1.2,
            "language": "de",
            "turn_detection": {"kind": "semantic_vad", "eagerness": "low"},
            "audio_format": "pcma",
            "noise_reduction": "near_field",
            "max_output_tokens": 100,
            "reasoning": "low",
            "retention_ratio": 0.5,
            "tracing": "auto",
            "tools": TOOLS,
        }
    ),
}
WEATHER = ToolDefinition("weather", "Tells it.", {"type": "object", "properties": {"at": {"type": "string"}}})


def all_events(profile: AgentProfile) -> list[dict[str, Any]]:
    """Let a session send one of everything."""
    history = History()
    calls = CalledFunctions(CallId("call-1"), offered_tools(profile, [WEATHER]), history)
    config = session_config(profile, [WEATHER], {"crm": SecretStr("token")})
    dialect = RealtimeDialect(CallId("call-1"), config, history=history, calls=calls)

    def hear(name: str, **fields: Any) -> None:
        dialect.receive(json.dumps({"type": name, "event_id": "event_1"} | fields))

    texts = [*dialect.configure()]
    hear("session.updated", session=json.loads(texts[0])["session"] | {"id": "sess_1"})
    texts += dialect.append(b"\x00" * 960)
    texts += greet(dialect, "Say hello.")
    hear("response.created", response={"id": "resp_1", "status": "in_progress"})
    hear("response.output_audio.delta", response_id="resp_1", item_id="item_a", delta="AAAA" * 400)
    item = {"id": "item_f", "type": "function_call", "name": "weather", "call_id": "call_1", "arguments": "{}"}
    hear("response.output_item.done", response_id="resp_1", item=item)
    history.caller_said("item_u", "Hi.")
    history.agent_said("item_a", "Hello.")
    texts += dialect.truncate({"item_a": 1})
    texts += dialect.answer_tool("call_1", "sunny", respond=False)
    texts += dialect.say_goodbye(goodbye(profile, "the end"))
    texts += dialect.seed(history.items())
    return [json.loads(text) for text in texts]


@pytest.mark.parametrize("name", PROFILES)
def test_the_sdk_knows_every_event_and_every_field(name: str) -> None:
    events = all_events(PROFILES[name])

    assert {event["type"] for event in events} == SDK.keys()
    for event in events:
        parsed = TypeAdapter(SDK[event["type"]]).validate_python(event)
        assert unknown_fields(parsed) == [], event["type"]


def unknown_fields(model: Any, place: str = "") -> list[str]:
    """Return the fields that the SDK keeps only because it keeps everything."""
    if isinstance(model, list):
        return [found for inner in model for found in unknown_fields(inner, place)]
    if not isinstance(model, BaseModel):
        return []
    unknown = [f"{place}.{field}" for field in model.model_extra or ()]
    for field in model.model_fields_set:
        unknown += unknown_fields(getattr(model, field), f"{place}.{field}")
    return unknown
