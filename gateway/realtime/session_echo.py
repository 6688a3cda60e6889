"""Whether the session a server echoes is the one that was asked for."""

from __future__ import annotations

import math

from gateway.realtime.wire_objects import EchoedAudio, EchoedFormat, EchoedTurnDetection, EchoedVoice, Session
from gateway.realtime.wire_session import (
    AudioConfig,
    CustomVoice,
    G711Audio,
    PcmAudio,
    SemanticVad,
    ServerVad,
    SessionConfig,
)

Value = str | float | None
Essentials = dict[str, Value]

TOLERANCE = 1e-6
"""Relative; services keep thresholds in single precision."""

TURN_FIELDS = ("threshold", "prefix_padding_ms", "silence_duration_ms", "create_response", "interrupt_response")


def find_difference(config: SessionConfig, echo: Session) -> str | None:
    """
    Return in words the first difference that would spoil a call: audio formats, voice, turn detection.

    What was not asked for is not compared; nor are details of turn detection that the server does not echo. None: the
    session is the one wanted.
    """
    echoed = _essentials(echo.audio)
    for field, wanted in _essentials(config.audio).items():
        if wanted is not None and not _same(wanted, echoed[field]):
            return f"{field} is {echoed[field]!r}, asked for {wanted!r}"
    asked = config.audio.input.turn_detection if config.audio and config.audio.input else None
    told = echo.audio.input.turn_detection if echo.audio and echo.audio.input else None
    return _turn_difference(asked, told)


def _essentials(audio: AudioConfig | EchoedAudio | None) -> Essentials:
    heard = audio.input if audio is not None else None
    spoken = audio.output if audio is not None else None
    turns = heard.turn_detection if heard is not None else None
    return {
        **_format("session.audio.input.format", heard.format if heard is not None else None),
        **_format("session.audio.output.format", spoken.format if spoken is not None else None),
        "session.audio.output.voice": _voice(spoken.voice if spoken is not None else None),
        "session.audio.input.turn_detection.type": turns.type if turns is not None else None,
    }


def _format(place: str, audio: PcmAudio | G711Audio | EchoedFormat | None) -> Essentials:
    rate = None if audio is None or isinstance(audio, G711Audio) else audio.rate
    return {f"{place}.type": audio.type if audio is not None else None, f"{place}.rate": rate}


def _voice(voice: str | CustomVoice | EchoedVoice | None) -> str | None:
    return voice if voice is None or isinstance(voice, str) else voice.id


def _turn_difference(asked: ServerVad | SemanticVad | None, told: EchoedTurnDetection | None) -> str | None:
    for field in TURN_FIELDS:
        wanted, echoed = getattr(asked, field, None), getattr(told, field, None)
        if wanted is not None and echoed is not None and not _same(wanted, echoed):
            return f"session.audio.input.turn_detection.{field} is {echoed!r}, asked for {wanted!r}"
    return None


def _same(wanted: Value, echoed: Value) -> bool:
    if isinstance(wanted, float) and isinstance(echoed, int | float):
        return math.isclose(wanted, echoed, rel_tol=TOLERANCE)
    return wanted == echoed
