"""Whether the session a server echoes is the one that was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.dialplan.model import AgentProfile, TurnDetection
from gateway.realtime.session_config import session_config
from gateway.realtime.session_echo import find_difference
from gateway.realtime.wire_objects import Session

pytestmark = pytest.mark.unit

SERVER_VAD = TurnDetection(threshold=0.6, silence_duration_ms=700)
SEMANTIC_VAD = TurnDetection(kind="semantic_vad")


def difference(profile: AgentProfile, **turn_detection: Any) -> str | None:
    config = session_config(profile)
    echo = config.model_dump(mode="json", exclude_unset=True)
    echo["audio"]["input"]["turn_detection"].update(turn_detection)
    return find_difference(config, Session.model_validate(echo))


@pytest.mark.parametrize(
    "profile",
    [
        AgentProfile(instructions="x", turn_detection=SERVER_VAD),
        AgentProfile(instructions="x", turn_detection=SEMANTIC_VAD, audio_format="pcma", voice="voice_123"),
        AgentProfile(instructions="x", audio_format="pcmu"),
    ],
)
def test_an_equal_echo_has_no_difference(profile: AgentProfile) -> None:
    assert difference(profile) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threshold", 0.5),
        ("silence_duration_ms", 200),
        ("prefix_padding_ms", 0),
        ("create_response", False),
        ("interrupt_response", False),
    ],
)
def test_another_turn_detection_is_a_difference(field: str, value: object) -> None:
    told = difference(AgentProfile(instructions="x", turn_detection=SERVER_VAD), **{field: value})

    assert told is not None
    assert told.startswith(f"session.audio.input.turn_detection.{field} is {value!r}, asked for ")


def test_details_that_are_not_echoed_are_not_missed() -> None:
    profile = AgentProfile(instructions="x", turn_detection=SERVER_VAD)

    assert difference(profile, threshold=None, silence_duration_ms=None, interrupt_response=None) is None


def test_single_precision_is_no_difference() -> None:
    profile = AgentProfile(instructions="x", turn_detection=SERVER_VAD)

    assert difference(profile, threshold=0.6000000238418579) is None


def test_a_custom_voice_may_be_echoed_by_its_id_alone() -> None:
    profile = AgentProfile(instructions="x", voice="voice_123")
    config = session_config(profile)
    echo = config.model_dump(mode="json", exclude_unset=True)
    echo["audio"]["output"]["voice"] = "voice_123"

    assert find_difference(config, Session.model_validate(echo)) is None
    echo["audio"]["output"]["voice"] = {"id": "voice_456"}
    assert find_difference(config, Session.model_validate(echo)) is not None
