"""Whether the session a server echoes is the one that was asked for."""

from __future__ import annotations

from gateway.realtime.wire_objects import EchoedAudio, EchoedFormat, EchoedVoice, Session
from gateway.realtime.wire_session import AudioConfig, CustomVoice, G711Audio, PcmAudio, SessionConfig

Essentials = dict[str, str | int | None]


def find_difference(config: SessionConfig, echo: Session) -> str | None:
    """
    Return in words the first difference that would spoil a call: audio formats, voice, kind of turn detection.

    What was not asked for is not compared. None: the session is the one wanted.
    """
    echoed = _essentials(echo.audio)
    for field, wanted in _essentials(config.audio).items():
        if wanted is not None and echoed[field] != wanted:
            return f"{field} is {echoed[field]!r}, asked for {wanted!r}"
    return None


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
