"""Whether the session a server echoes is the one that was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.dialplan.model.agent import AgentProfile, TurnDetection
from gateway.upstream.realtime.config import Difference, beta_field, find_differences, session_config
from gateway.upstream.realtime.wire.objects import EchoedSession
from gateway.upstream.realtime.wire.session import SessionConfig

pytestmark = pytest.mark.unit

Json = dict[str, Any]

SERVER_VAD = TurnDetection(threshold=0.6, silence_duration_ms=700)
SEMANTIC_VAD = TurnDetection(kind="semantic_vad")
PROFILE = AgentProfile(instructions="Be brief.\nBe kind.", turn_detection=SERVER_VAD)
TURNS = "session.audio.input.turn_detection"
LEFT_OUT = object()


def echo_of(config: SessionConfig) -> Json:
    return config.model_dump(mode="json", exclude_unset=True)


def changed(path: str, value: object, profile: AgentProfile = PROFILE) -> tuple[Difference, ...]:
    """Return the differences of an echo in which one field is another, or is left out."""
    config = session_config(profile)
    echo = inner = echo_of(config)
    *steps, name = path.split(".")
    for step in steps:
        inner = inner.setdefault(step, {})
    inner[name] = value
    if value is LEFT_OUT:
        del inner[name]
    session = EchoedSession.model_validate(echo)
    assert beta_field(session) is None
    return find_differences(config, session)


@pytest.mark.parametrize(
    "profile",
    [
        PROFILE,
        AgentProfile(instructions="x", turn_detection=SEMANTIC_VAD, audio_format="pcma", voice="voice_123"),
        AgentProfile(instructions="x", audio_format="pcmu"),
    ],
)
def test_an_equal_echo_has_no_difference(profile: AgentProfile) -> None:
    config = session_config(profile)

    assert find_differences(config, EchoedSession.model_validate(echo_of(config))) == ()


@pytest.mark.parametrize(
    "path",
    [
        "audio",
        "audio.input",
        "audio.input.format",
        "audio.input.format.rate",
        "audio.input.format.type",
        "audio.input.turn_detection",
        f"{TURNS.removeprefix('session.')}.type",
        f"{TURNS.removeprefix('session.')}.create_response",
        f"{TURNS.removeprefix('session.')}.threshold",
        "audio.output",
        "audio.output.format",
        "audio.output.format.rate",
        "audio.output.voice",
        "instructions",
        "output_modalities",
        "type",
        "tools",
    ],
)
def test_what_an_echo_leaves_out_is_no_difference(path: str) -> None:
    assert changed(path, LEFT_OUT) == ()
    if not path.endswith(("turn_detection", "turn_detection.type")):
        assert changed(path, None) == ()


def test_an_echo_of_nothing_at_all_is_no_difference() -> None:
    assert find_differences(session_config(PROFILE), EchoedSession()) == ()


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("audio.input.format", {"type": "audio/pcmu"}, "session.audio.input.format.type is 'audio/pcmu', asked for "),
        ("audio.output.format.rate", 16000, "session.audio.output.format.rate is 16000, asked for 24000"),
        ("audio.input.turn_detection", None, f"{TURNS} is null, asked for 'server_vad'"),
        ("audio.input.turn_detection", {"type": "semantic_vad"}, f"{TURNS}.type is 'semantic_vad', asked for "),
        ("audio.input.turn_detection.create_response", False, f"{TURNS}.create_response is False, asked for True"),
        ("output_modalities", ["text"], "session.output_modalities is ['text'], asked for ['audio']"),
        ("output_modalities", [], "session.output_modalities is [], asked for ['audio']"),
        ("instructions", "Be brief.", "session.instructions is 'Be brief.', asked for 'Be brief.\\nBe kind.'"),
        ("audio.input.turn_detection.type", None, f"{TURNS} is null, asked for 'server_vad'"),
        ("instructions", "", "session.instructions is '', asked for 'Be brief.\\nBe kind.'"),
    ],
)
def test_a_contradiction_spoils_the_call_and_names_the_field(path: str, value: object, told: str) -> None:
    [difference] = changed(path, value)

    assert difference.spoils
    assert str(difference).startswith(told)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("audio.output.voice", "alloy", "session.audio.output.voice is 'alloy', asked for 'marin'"),
        ("audio.output.voice", {"name": "ava"}, "session.audio.output.voice is 'ava', asked for 'marin'"),
        ("audio.output.voice", {"id": "voice_1"}, "session.audio.output.voice is 'voice_1', asked for 'marin'"),
        ("audio.input.turn_detection.threshold", 0.5, f"{TURNS}.threshold is 0.5, asked for 0.6"),
        ("audio.input.turn_detection.silence_duration_ms", 200, f"{TURNS}.silence_duration_ms is 200, asked for 700"),
        ("audio.input.turn_detection.prefix_padding_ms", 0, f"{TURNS}.prefix_padding_ms is 0, asked for 300"),
        ("audio.input.turn_detection.interrupt_response", False, f"{TURNS}.interrupt_response is False, asked for "),
    ],
)
def test_another_voice_or_a_clamped_detail_does_not_spoil_the_call(path: str, value: object, told: str) -> None:
    [difference] = changed(path, value)

    assert not difference.spoils
    assert str(difference).startswith(told)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("instructions", "  Be brief.\nBe kind.\n"),
        ("output_modalities", ["audio", "text"]),
        ("audio.input.turn_detection.threshold", 0.6000000238418579),
        ("audio.output.voice", "Marin"),
        ("audio.output.voice", {"name": "marin", "type": "standard"}),
        ("voice", "eve"),
        ("turn_detection", None),
        ("turn_detection", {"type": "server_vad", "threshold": 0.1}),
        ("modalities", ["text", "audio"]),
    ],
)
def test_the_same_in_other_words_or_beside_it_is_no_difference(path: str, value: object) -> None:
    assert changed(path, value) == ()


@pytest.mark.parametrize("turns", [None, {"type": None}])
def test_turn_detection_that_is_off_beside_the_audio_counts_where_it_is_not_echoed_in_it(turns: object) -> None:
    config = session_config(PROFILE)

    [difference] = find_differences(
        config, EchoedSession.model_validate({"turn_detection": turns, "audio": {"input": {}}})
    )

    assert difference == Difference("session.turn_detection", "null", "'server_vad'", spoils=True)


def test_a_services_own_instructions_in_the_place_of_none_are_no_difference() -> None:
    config = session_config(AgentProfile(instructions=" "))

    assert find_differences(config, EchoedSession(instructions="You are helpful.")) == ()


def test_a_voice_is_looked_for_beside_the_audio_too() -> None:
    config = session_config(PROFILE)

    [difference] = find_differences(config, EchoedSession.model_validate({"voice": "eve", "audio": {"output": {}}}))

    assert difference == Difference("session.voice", "'eve'", "'marin'", spoils=False)


def test_g711_has_no_rate_to_differ() -> None:
    assert changed("audio.input.format.rate", 8000, AgentProfile(instructions="x", audio_format="pcmu")) == ()


def test_long_instructions_are_shown_where_they_differ() -> None:
    profile = AgentProfile(instructions="a" * 500 + "b" + "c" * 500)

    [difference] = changed("instructions", "a" * 500 + "x" + "c" * 500, profile)

    assert difference.got == f"...'{'a' * 30}x{'c' * 29}'..."
    assert difference.wanted == f"...'{'a' * 30}b{'c' * 29}'..."


@pytest.mark.parametrize(
    ("session", "field"),
    [
        ({"input_audio_format": "pcm16", "output_audio_format": "pcm16"}, "session.input_audio_format"),
        ({"output_audio_format": "g711_ulaw", "voice": "alloy"}, "session.output_audio_format"),
        ({"modalities": ["text", "audio"], "turn_detection": {"type": "server_vad"}}, "session.modalities"),
        ({"audio": {"input": {"format": "pcm16"}}}, "session.audio.input.format is 'pcm16'"),
        ({"audio": {"output": {"format": "pcm16"}}}, "session.audio.output.format is 'pcm16'"),
    ],
)
def test_an_echo_of_the_beta_interface_is_known_by_its_fields(session: Json, field: str) -> None:
    assert beta_field(EchoedSession.model_validate(session)) == field


@pytest.mark.parametrize(
    "session",
    [
        {},
        {"voice": "eve", "turn_detection": {"type": "server_vad"}},
        {"audio": {"input": {"format": {"type": "audio/pcm"}}}, "input_audio_format": "pcm16", "modalities": ["audio"]},
        {"input_audio_format": None, "modalities": None},
    ],
)
def test_other_fields_do_not_make_an_echo_one_of_the_beta_interface(session: Json) -> None:
    assert beta_field(EchoedSession.model_validate(session)) is None
