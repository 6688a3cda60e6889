"""From a profile in the dialplan to the session that is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from gateway.call.builtin_tools import OfferedTools, ToolDefinition
from gateway.dialplan.model.agent import AgentProfile, ToolSet, TransferTarget, TurnDetection
from gateway.dialplan.read.loader import load_dialplan
from gateway.errors import AgentRefused
from gateway.tools.arguments import Parameters
from gateway.upstream.realtime.config import (
    direct_session,
    end_of_speech_ms,
    mcp_rules,
    mistakes_in,
    offered_tools,
    session_config,
    session_update,
)
from gateway.upstream.realtime.wire.client import SessionUpdate
from gateway.upstream.realtime.wire.codec import encode
from gateway.upstream.realtime.wire.session import McpTool, SessionConfig

pytestmark = pytest.mark.unit


def test_everything_that_matters_is_said_explicitly() -> None:
    profile = AgentProfile(
        instructions="Be brief.",
        voice="cedar",
        language="de",
        turn_detection=TurnDetection(threshold=0.6, silence_duration_ms=700, interrupt_response=False),
        tools=ToolSet(builtin=()),
    )

    assert json.loads(session_config(profile).model_dump_json(exclude_unset=True)) == {
        "type": "realtime",
        "output_modalities": ["audio"],
        "instructions": "Be brief.",
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "noise_reduction": None,
                "transcription": {"model": "gpt-realtime-whisper", "language": "de"},
                "turn_detection": {
                    "type": "server_vad",
                    "threshold": 0.6,
                    "prefix_padding_ms": 300,
                    "silence_duration_ms": 700,
                    "idle_timeout_ms": None,
                    "create_response": True,
                    "interrupt_response": False,
                },
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "cedar", "speed": 1.0},
        },
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "truncation": "auto",
    }


def test_a_profile_without_transcription_switches_it_off() -> None:
    config = session_config(AgentProfile(instructions="Be brief.", transcription=None))

    assert config.audio is not None
    assert config.audio.input is not None
    assert config.audio.input.transcription is None
    assert "transcription" in config.audio.input.model_fields_set


def test_the_language_is_left_out_when_the_profile_has_none() -> None:
    config = session_config(AgentProfile(instructions="Be brief."))

    assert '"transcription":{"model":"gpt-realtime-whisper"}' in config.model_dump_json(exclude_unset=True)


def wire(profile: AgentProfile, **more: Any) -> dict[str, Any]:
    session: dict[str, Any] = json.loads(session_config(profile, **more).model_dump_json(exclude_unset=True))
    return session


def test_every_wish_of_a_profile_is_in_the_session() -> None:
    session = wire(
        AgentProfile(
            instructions="Be brief.",
            voice="voice_abc",
            speed=1.25,
            audio_format="pcmu",
            noise_reduction="far_field",
            max_output_tokens=500,
            reasoning="low",
            retention_ratio=0.8,
            tracing="auto",
            turn_detection=TurnDetection(kind="semantic_vad", eagerness="high"),
        )
    )

    assert session["audio"]["input"]["format"] == session["audio"]["output"]["format"] == {"type": "audio/pcmu"}
    assert session["audio"]["input"]["noise_reduction"] == {"type": "far_field"}
    assert session["audio"]["input"]["turn_detection"] == {
        "type": "semantic_vad",
        "eagerness": "high",
        "create_response": True,
        "interrupt_response": True,
    }
    assert session["audio"]["output"]["voice"] == {"id": "voice_abc"}
    assert session["audio"]["output"]["speed"] == 1.25
    assert session["max_output_tokens"] == 500
    assert session["reasoning"] == {"effort": "low"}
    assert session["truncation"] == {"type": "retention_ratio", "retention_ratio": 0.8}
    assert session["tracing"] == "auto"


def test_the_idle_timeout_is_the_server_vads() -> None:
    session = wire(AgentProfile(instructions="x", turn_detection=TurnDetection(idle_timeout_ms=6000)))

    assert session["audio"]["input"]["turn_detection"]["idle_timeout_ms"] == 6000


def test_with_a_guard_the_service_does_not_interrupt_by_itself() -> None:
    session = wire(AgentProfile(instructions="x", turn_detection=TurnDetection(guard_ms=300)))

    assert session["audio"]["input"]["turn_detection"]["interrupt_response"] is False


TOOLS = ToolSet.model_validate(
    {
        "builtin": ["hang_up", "transfer_call"],
        "transfer_targets": {"sales": "sip:sales@192.0.2.1"},
        "webhooks": [{"name": "find_table", "description": "Finds one.", "url": "http://127.0.0.1/x"}],
        "plugins": [{"name": "weather"}],
        "mcp": [
            {
                "server_label": "crm",
                "server_url": "https://crm.example/mcp",
                "authorization": "CRM",
                "allowed_tools": ["look_up"],
            }
        ],
    }
)
WEATHER = ToolDefinition("weather", "Tells it.", {"type": "object", "properties": {}})


def test_tools_of_every_kind_are_offered() -> None:
    profile = AgentProfile(instructions="x", tools=TOOLS)

    tools = wire(profile, own_tools=[WEATHER], secrets={"crm": SecretStr("token")})["tools"]

    assert [tool.get("name") or tool["server_label"] for tool in tools] == [
        "hang_up",
        "transfer_call",
        "find_table",
        "weather",
        "crm",
    ]
    assert tools[-1] == {
        "type": "mcp",
        "server_label": "crm",
        "server_url": "https://crm.example/mcp",
        "require_approval": "never",
        "authorization": "token",
        "allowed_tools": ["look_up"],
    }
    assert offered_tools(profile, [WEATHER]) == OfferedTools(
        ("hang_up", "transfer_call"),
        {"sales": TransferTarget(uri="sip:sales@192.0.2.1")},
        frozenset({"find_table", "weather"}),
    )


def test_numbers_and_booleans_of_a_schema_reach_the_wire_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    schema = (
        '{"type":"object","properties":{"n":{"type":"integer","enum":[1,2,12345678901234567890],"minimum":1},'
        '"f":{"multipleOf":0.5,"const":-1.5},"u":{"default":false},"z":{"const":null},"t":{"enum":["yes","1"]}},'
        '"additionalProperties":false}'
    )
    tool = f"{{name: t, description: x, url: https://h/x, parameters: {schema}}}"
    file.write_text(
        f"agents: {{a: {{instructions: x, tools: {{webhooks: [{tool}]}}}}}}\nroutes: [{{name: all, agent: a}}]\n"
    )
    (profile,) = load_dialplan(file).dialplan.agents.values()
    assert f'"parameters":{schema}' in encode(SessionUpdate(session=session_config(profile)))
    arguments = Parameters(profile.tools.webhooks[0].parameters)
    assert arguments.read('{"n": 2, "f": -1.5, "u": true, "z": null, "t": "yes"}') == {
        **{"n": 2, "f": -1.5, "u": True, "z": None, "t": "yes"},
    }
    for wrong in ('{"n": "2"}', '{"n": 3}', '{"f": 1.5}', '{"z": "null"}', '{"t": true}', '{"x": 1}'):
        assert "wrong arguments" in arguments.read(wrong).output  # type: ignore[union-attr]


def test_a_warm_target_makes_the_model_say_what_it_is_about() -> None:
    tools = {"builtin": ["transfer_call"], "transfer_targets": {"sales": {"uri": "sip:a@192.0.2.1", "warm": True}}}

    [transfer] = wire(AgentProfile.model_validate({"instructions": "x", "tools": tools}))["tools"]

    assert transfer["parameters"]["required"] == ["target", "summary"]


def test_a_missing_token_refuses_the_session_by_the_name_of_the_secret() -> None:
    with pytest.raises(AgentRefused, match="'CRM'"):
        session_config(AgentProfile(instructions="x", tools=TOOLS))


def test_a_tool_that_cannot_be_offered_refuses_the_session_by_the_name_of_the_field() -> None:
    bad = ToolDefinition("two words", "Cannot be called.", {"type": "object"})

    with pytest.raises(AgentRefused, match=r"session\.tools\.name: String should match pattern"):
        session_config(AgentProfile(instructions="x"), [bad])


@pytest.mark.parametrize(
    ("session", "field"),
    [
        ({"voice": "marin"}, "voice"),
        ({"modalities": ["audio", "text"]}, "modalities"),
        ({"temperature": 0.8}, "temperature"),
        ({"input_audio_format": "pcm16"}, "input_audio_format"),
        ({"turn_detection": {"type": "server_vad"}}, "turn_detection"),
        ({"output_modalities": ["audio", "text"]}, "output_modalities"),
        ({"max_output_tokens": 5000}, "max_output_tokens"),
        ({"model": "gpt-realtime"}, "model"),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}}, "audio.input.format.rate"),
        ({"audio": {"input": {"format": {"type": "audio/pcm"}}}}, "audio.input.format.rate"),
        ({"audio": {"input": {"format": "g711_ulaw"}}}, "audio.input.format"),
        ({"audio": {"output": {"speed": 2.0}}}, "audio.output.speed"),
        (
            {"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 1.5}}}},
            "audio.input.turn_detection.threshold",
        ),
        (
            {"audio": {"input": {"turn_detection": {"type": "semantic_vad", "threshold": 0.5}}}},
            "audio.input.turn_detection.threshold",
        ),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools.0.name"),
        (
            {"truncation": {"type": "retention_ratio", "retention_ratio": 2}},
            "truncation.retention_ratio",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_report_slightly_malformed_sessions_are_refused_here_by_the_name_of_the_field(
    session: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        SessionConfig.model_validate(session)

    assert f"session.{field}: " in mistakes_in(refused.value)


# MCP servers


def mcp_server(**more: Any) -> AgentProfile:
    server = {"server_label": "manuals", "server_url": "https://mcp.example.com/"} | more
    return AgentProfile.model_validate({"instructions": "x", "tools": {"mcp": [server]}})


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ({}, "never"),
        ({"require_approval": "always"}, "always"),
        ({"require_approval": ["order"]}, {"always": {"tool_names": ["order"]}}),
        (
            {"require_approval": ["order"], "allowed_tools": ["search", "order"]},
            {"always": {"tool_names": ["order"]}, "never": {"tool_names": ["search"]}},
        ),
    ],
)
def test_which_tools_need_an_approval_is_told_as_the_service_wants_it(more: dict[str, Any], asked: object) -> None:
    *_, tool = session_config(mcp_server(**more)).tools or ()

    assert isinstance(tool, McpTool)
    assert tool.require_approval == asked


@pytest.mark.parametrize(
    ("more", "granted"),
    [
        ({}, {"search", "order"}),
        ({"allowed_tools": ["search"]}, {"search"}),
        ({"require_approval": "always"}, set()),
        ({"require_approval": ["order"]}, {"search"}),
        ({"require_approval": "always", "approve": "all"}, {"search", "order"}),
        ({"require_approval": "always", "approve": "all", "allowed_tools": ["order"]}, {"order"}),
        ({"require_approval": ["order"], "approve": ["order"]}, {"order"}),
        ({"approve": "none"}, set()),
    ],
)
def test_requests_for_approval_are_granted_as_the_profile_says(more: dict[str, Any], granted: set[str]) -> None:
    rule = mcp_rules(mcp_server(**more, timeout_s=7))["manuals"]

    assert {name for name in ("search", "order") if not rule.objection(name)} == granted
    assert rule.limit_s == 7


def test_own_tools_are_offered_as_they_are_defined() -> None:
    tool = ToolDefinition("find_table", "Finds one.", {"type": "object", "properties": {}})
    profile = AgentProfile(instructions="x", tools=ToolSet(builtin=()))

    [offered] = json.loads(session_update(profile, [tool]))["session"]["tools"]

    assert offered == {
        "type": "function",
        "name": "find_table",
        "description": "Finds one.",
        "parameters": {"type": "object", "properties": {}},
    }


@pytest.mark.parametrize(
    ("turns", "silence_ms"), [(TurnDetection(silence_duration_ms=700), 700), (TurnDetection(kind="semantic_vad"), 0)]
)
def test_only_turn_detection_by_loudness_waits_in_silence_for_the_end_of_a_sound(
    turns: TurnDetection, silence_ms: int
) -> None:
    assert end_of_speech_ms(AgentProfile(instructions="x", turn_detection=turns)) == silence_ms


# A client that talks to the service itself


def test_a_session_without_the_gateway_offers_no_tool_that_nobody_runs_and_no_token() -> None:
    tools = ToolSet.model_validate(
        {
            "builtin": ["hang_up", "wait"],
            "webhooks": [{"name": "order", "description": "Looks up.", "url": "https://h/"}],
            "mcp": [
                {"server_label": "open", "server_url": "https://m/"},
                {"server_label": "closed", "server_url": "https://m/", "authorization": "crm"},
            ],
        }
    )
    session = direct_session(AgentProfile(instructions="Be brief.", tools=tools))
    (server,) = session.tools or ()
    assert isinstance(server, McpTool)
    assert server.server_label == "open"


def test_a_profile_makes_a_session_with_its_voice() -> None:
    session = direct_session(AgentProfile(instructions="Be brief.", voice="cedar"))
    assert session.tools == ()
    assert session.audio is not None
    assert session.audio.output is not None
    assert session.audio.output.voice == "cedar"
