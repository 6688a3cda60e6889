"""The session object: its defaults, and how a ``session.update`` is merged into it."""

from __future__ import annotations

import re
from typing import Any

from gateway.lab.simulator.wire.schema import ClientMistake

MODEL_NAMES = re.compile(
    r"gpt-realtime(-1\.5|-2|-2\.1|-2\.1-mini|-mini)?(-\d{4}-\d\d-\d\d)?"
    r"|gpt-audio-1\.5|gpt-audio-mini(-\d{4}-\d\d-\d\d)?"
    r"|gpt-4o(-mini)?-realtime-preview(-\d{4}-\d\d-\d\d)?"
)
REASONING_MODELS = re.compile(r"gpt-realtime-2.*")
PERSONA = (
    "You are a friendly voice assistant. Speak naturally, keep answers short, and answer in the language you hear. "
    "(Built-in persona of the simulator: the client set no instructions.)"
)
SESSION_S = 3600
LIVE_TRANSCRIBER = "gpt-realtime-whisper"
KEYWORD_TRANSCRIBERS = ("gpt-transcribe", "gpt-live-transcribe")


def default_session(session_id: str, model: str, *, now_s: float) -> dict[str, Any]:
    """Return the session a fresh connection to this model has, every key present."""
    newer = model.startswith("gpt-realtime-2")
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": session_id,
        "model": model,
        "output_modalities": ["audio"],
        "instructions": PERSONA,
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "expires_at": int(now_s) + SESSION_S,
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": None,
                "noise_reduction": None,
                "turn_detection": _server_vad() | {"silence_duration_ms": 500 if newer else 200},
            },
            "output": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "voice": "marin" if newer else "alloy",
                "speed": 1.0,
            },
        },
        "include": None,
    }


def _server_vad() -> dict[str, Any]:
    return {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
        "idle_timeout_ms": None,
        "create_response": True,
        "interrupt_response": True,
    }


def _semantic_vad() -> dict[str, Any]:
    return {"type": "semantic_vad", "eagerness": "auto", "create_response": True, "interrupt_response": True}


def merged(session: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """
    Return the session with the fields that ``update`` names; the others keep their value.

    Args:
        session: the session in force.
        update: ``session`` of a ``session.update`` whose fields have been checked.
    """
    result = session | {key: value for key, value in update.items() if key != "audio"}
    if result["instructions"] == "":
        result["instructions"] = PERSONA  # observed: an empty text brings the service's own persona back
    audio = update.get("audio", {})
    result["audio"] = {
        "input": _merged_input(session["audio"]["input"], audio.get("input", {})),
        "output": _with_format(session["audio"]["output"] | audio.get("output", {})),
    }
    return result


def _merged_input(current: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    result = current | wanted
    if wanted.get("transcription") is not None:
        result["transcription"] = {"language": None, "prompt": None} | wanted["transcription"]
    if wanted.get("turn_detection") is not None:
        result["turn_detection"] = _turn_detection(current["turn_detection"], wanted["turn_detection"])
    return _with_format(result)


def _with_format(side: dict[str, Any]) -> dict[str, Any]:
    return side | {"format": complete_format(side["format"])}


def complete_format(audio_format: dict[str, Any]) -> dict[str, Any]:
    """Return the format with the rate that PCM always has."""
    return {"type": "audio/pcm", "rate": 24000} if audio_format["type"] == "audio/pcm" else audio_format


def _turn_detection(current: dict[str, Any] | None, wanted: dict[str, Any]) -> dict[str, Any]:
    """Merge over the same kind of detection; over its defaults where the kind changes."""
    if current is not None and current["type"] == wanted["type"]:
        return current | wanted
    return (_server_vad() if wanted["type"] == "server_vad" else _semantic_vad()) | wanted


def check_update(session: dict[str, Any], update: dict[str, Any], *, has_spoken: bool, is_responding: bool) -> None:
    """
    Judge what depends on the session's state, not on the message alone.

    Args:
        session: the session in force.
        update: the fields wanted.
        has_spoken: audio of the agent was sent in this session.
        is_responding: a response is being generated.

    Raises:
        ClientMistake: the whole update is to be dropped.
    """
    if update.get("model", session["model"]) != session["model"]:
        raise ClientMistake("invalid_value", "The model of a session cannot be changed.", "session.model")
    if session["tracing"] is not None and update.get("tracing", session["tracing"]) != session["tracing"]:
        raise ClientMistake("invalid_value", "Tracing cannot be changed once it is on.", "session.tracing")
    check_reasoning(session["model"], update, "session")
    output, wanted = session["audio"]["output"], update.get("audio", {}).get("output", {})
    if has_spoken and wanted.get("voice", output["voice"]) != output["voice"]:
        raise ClientMistake("cannot_update_voice", "The voice cannot be changed once audio was sent.")
    if is_responding and wanted.get("speed", output["speed"]) != output["speed"]:
        message = "The speed can only be changed between responses."
        raise ClientMistake("invalid_value", message, "session.audio.output.speed")
    _check_transcription(update.get("audio", {}).get("input", {}).get("transcription"))


def check_reasoning(model: str, update: dict[str, Any], path: str) -> None:
    """Refuse the fields that only reasoning models have."""
    if REASONING_MODELS.fullmatch(model):
        return
    for field in ("reasoning", "parallel_tool_calls"):
        if field in update:
            raise ClientMistake("invalid_value", f"'{field}' is not supported by {model}.", f"{path}.{field}")


def _check_transcription(wanted: dict[str, Any] | None) -> None:
    if wanted is None:
        return
    model, path = wanted.get("model"), "session.audio.input.transcription"
    misfits = [field for field in ("languages", "keywords") if model not in KEYWORD_TRANSCRIBERS]
    misfits += ["delay"] if model != LIVE_TRANSCRIBER else []
    for field in misfits:
        if field in wanted:
            raise ClientMistake("invalid_value", f"'{field}' is not supported by {model}.", f"{path}.{field}")
    if model == LIVE_TRANSCRIBER and wanted.get("prompt") is not None:
        raise ClientMistake("invalid_value", f"'prompt' is not supported by {model}.", f"{path}.prompt")
