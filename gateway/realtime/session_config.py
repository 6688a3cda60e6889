"""From an agent's profile in the dialplan to the session the upstream is asked for."""

from __future__ import annotations

from gateway.dialplan.model import AgentProfile
from gateway.realtime.wire_session import (
    AudioConfig,
    AudioInput,
    AudioOutput,
    PcmAudio,
    ServerVad,
    SessionConfig,
    Transcription,
)


def session_config(profile: AgentProfile) -> SessionConfig:
    """
    Return the session of this profile.

    All that matters is said: the service's defaults differ from model to model. Fields that only reasoning models
    have are left out, since the others refuse an update that names them.
    """
    pcm = PcmAudio(rate=24000)
    turns = profile.turn_detection
    return SessionConfig(
        output_modalities=("audio",),
        instructions=profile.instructions,
        audio=AudioConfig(
            input=AudioInput(
                format=pcm,
                noise_reduction=None,
                transcription=_transcription(profile),
                turn_detection=ServerVad(
                    threshold=turns.threshold,
                    prefix_padding_ms=turns.prefix_padding_ms,
                    silence_duration_ms=turns.silence_duration_ms,
                    idle_timeout_ms=None,
                    create_response=True,
                    interrupt_response=turns.interrupt_response,
                ),
            ),
            output=AudioOutput(format=pcm, voice=profile.voice, speed=1.0),
        ),
        tools=(),
        tool_choice="auto",
        max_output_tokens="inf",
        truncation="auto",
    )


def greeting_instructions(profile: AgentProfile) -> str | None:
    """
    Return the instructions of the first response; None when the caller is to speak first.

    Instructions of a response replace the session's, so the essentials are repeated.
    """
    if profile.greeting is None:
        return None
    return f"{profile.instructions}\n\nThe call was just answered. Say this now, then wait: {profile.greeting}"


def _transcription(profile: AgentProfile) -> Transcription | None:
    if profile.transcription is None:
        return None
    if profile.language is None:
        return Transcription(model=profile.transcription)
    return Transcription(model=profile.transcription, language=profile.language)
