"""From a profile in the dialplan to the session that is asked for."""

from __future__ import annotations

import json

import pytest

from gateway.dialplan.model import AgentProfile, TurnDetection
from gateway.realtime.session_config import greeting_instructions, session_config

pytestmark = pytest.mark.unit


def test_everything_that_matters_is_said_explicitly() -> None:
    profile = AgentProfile(
        instructions="Be brief.",
        voice="cedar",
        language="de",
        turn_detection=TurnDetection(threshold=0.6, silence_duration_ms=700, interrupt_response=False),
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


def test_the_greeting_repeats_the_instructions_it_replaces() -> None:
    greeting = greeting_instructions(AgentProfile(instructions="You are Ada.", greeting="Hello, Ada here."))

    assert greeting is not None
    assert "You are Ada." in greeting
    assert "Hello, Ada here." in greeting


def test_without_a_greeting_the_caller_speaks_first() -> None:
    assert greeting_instructions(AgentProfile(instructions="Be brief.")) is None
