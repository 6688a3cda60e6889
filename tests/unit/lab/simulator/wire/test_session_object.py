from __future__ import annotations

from typing import Any

import pytest

from gateway.lab.simulator.wire.schema import ClientMistake
from gateway.lab.simulator.wire.session_object import PERSONA, check_update, default_session, merged

pytestmark = pytest.mark.unit


@pytest.fixture
def session() -> dict[str, Any]:
    return default_session("sess_1", "gpt-realtime", now_s=1000.0)


def refused(session: dict[str, Any], update: dict[str, Any], **state: bool) -> ClientMistake:
    with pytest.raises(ClientMistake) as caught:
        check_update(session, update, **({"has_spoken": False, "is_responding": False} | state))
    return caught.value


def test_what_an_update_does_not_name_keeps_its_value(session: dict[str, Any]) -> None:
    updated = merged(session, {"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcmu"}}}})
    assert updated["audio"]["input"] == session["audio"]["input"] | {"format": {"type": "audio/pcmu"}}
    assert updated["audio"]["output"] == session["audio"]["output"]
    assert updated | {"audio": None} == session | {"audio": None}


def test_the_session_before_an_update_is_left_as_it_was(session: dict[str, Any]) -> None:
    before = default_session("sess_1", "gpt-realtime", now_s=1000.0)
    merged(session, {"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 0.9}}}})
    assert session == before


def test_turn_detection_is_merged_over_its_own_kind(session: dict[str, Any]) -> None:
    part = {"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 0.9}}}}
    detection = merged(session, part)["audio"]["input"]["turn_detection"]
    assert (detection["threshold"], detection["silence_duration_ms"]) == (0.9, 200)


def test_another_kind_of_turn_detection_starts_from_its_defaults(session: dict[str, Any]) -> None:
    part = {"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}}
    assert merged(session, part)["audio"]["input"]["turn_detection"] == {
        "type": "semantic_vad",
        "eagerness": "auto",
        "create_response": True,
        "interrupt_response": True,
    }


def test_null_switches_turn_detection_and_transcription_off(session: dict[str, Any]) -> None:
    on = merged(session, {"audio": {"input": {"transcription": {"model": "whisper-1"}}}})
    assert on["audio"]["input"]["transcription"] == {"model": "whisper-1", "language": None, "prompt": None}
    off = merged(on, {"audio": {"input": {"transcription": None, "turn_detection": None}}})
    assert off["audio"]["input"]["transcription"] is None
    assert off["audio"]["input"]["turn_detection"] is None


def test_empty_instructions_bring_the_persona_back(session: dict[str, Any]) -> None:
    own = merged(session, {"instructions": "Be short."})
    assert own["instructions"] == "Be short."
    assert merged(own, {"instructions": ""})["instructions"] == PERSONA


@pytest.mark.parametrize(
    ("model", "voice", "silence_ms"), [("gpt-realtime", "alloy", 200), ("gpt-realtime-2.1", "marin", 500)]
)
def test_defaults_follow_the_model(model: str, voice: str, silence_ms: int) -> None:
    audio = default_session("sess_1", model, now_s=0.0)["audio"]
    assert audio["output"]["voice"] == voice
    assert audio["input"]["turn_detection"]["silence_duration_ms"] == silence_ms


def test_what_is_fixed_cannot_be_changed(session: dict[str, Any]) -> None:
    assert refused(session, {"model": "gpt-realtime-2.1"}).param == "session.model"
    voice = {"audio": {"output": {"voice": "cedar"}}}
    check_update(session, voice, has_spoken=False, is_responding=True)
    assert refused(session, voice, has_spoken=True).code == "cannot_update_voice"
    speed = {"audio": {"output": {"speed": 1.2}}}
    assert refused(session, speed, is_responding=True).param == "session.audio.output.speed"
    traced = merged(session, {"tracing": "auto"})
    assert refused(traced, {"tracing": None}).param == "session.tracing"
    check_update(
        traced, {"model": "gpt-realtime", "tracing": "auto", "audio": {"output": {"voice": "alloy"}}},
        has_spoken=True, is_responding=True,
    )  # fmt: skip


def test_reasoning_is_for_the_models_that_reason(session: dict[str, Any]) -> None:
    wanted = {"reasoning": {"effort": "low"}}
    assert refused(session, wanted).param == "session.reasoning"
    reasoner = default_session("sess_1", "gpt-realtime-2.1-mini", now_s=0.0)
    check_update(reasoner, wanted, has_spoken=False, is_responding=False)


@pytest.mark.parametrize(
    ("transcription", "field"),
    [
        ({"model": "gpt-realtime-whisper", "prompt": "names"}, "prompt"),
        ({"model": "whisper-1", "delay": "low"}, "delay"),
        ({"model": "whisper-1", "keywords": ["SIP"]}, "keywords"),
        ({"model": "gpt-4o-transcribe", "languages": ["en"]}, "languages"),
    ],
)
def test_transcription_fields_must_fit_the_model(
    session: dict[str, Any], transcription: dict[str, Any], field: str
) -> None:
    mistake = refused(session, {"audio": {"input": {"transcription": transcription}}})
    assert mistake.param == f"session.audio.input.transcription.{field}"
