"""
Whether the session a server echoes is the one that was asked for.

What is left out, or null, is no contradiction: many services echo only a part. Turn detection that is null is one: that
is how the API says that there is none. Where a service echoes it beside ``audio`` alone, that is what counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.upstream.realtime.wire.objects import (
    EchoedFormat,
    EchoedOutput,
    EchoedSession,
    EchoedTurnDetection,
    EchoedVoice,
)
from gateway.upstream.realtime.wire.session import (
    AudioConfig,
    AudioFormat,
    CustomVoice,
    PcmAudio,
    SessionConfig,
    TurnDetection,
)

Value = str | float | None

TOLERANCE = 1e-6
"""Relative; services keep thresholds in single precision."""

TURN_DETAILS = ("threshold", "prefix_padding_ms", "silence_duration_ms", "interrupt_response")
"""Of turn detection; a service that clamps one of them still detects turns."""

SHOWN = 60
"""Characters of a text that are shown, around the place where it differs."""


@dataclass(frozen=True, slots=True)
class Difference:
    """
    A field of the session that is not as it was asked for; ``spoils``: a call cannot go on with it.

    ``got`` and ``wanted`` are in words, short.
    """

    field: str
    got: str
    wanted: str
    spoils: bool

    def __str__(self) -> str:
        return f"{self.field} is {self.got}, asked for {self.wanted}"


def find_differences(config: SessionConfig, echo: EchoedSession) -> tuple[Difference, ...]:
    """
    Return all differences; what was not asked for, and what the echo leaves out, is none.

    Other audio formats, instructions and modalities spoil a call, and so does turn detection that is gone, is of
    another kind or does not let the agent answer. Another voice, and other details of turn detection, do not.
    """
    return tuple(_differences(config, echo))


def beta_field(echo: EchoedSession) -> str | None:
    """Return the field by which an echo shows that the service speaks the beta interface; None if it does not."""
    audio = echo.audio
    for name, side in (("input", audio.input if audio else None), ("output", audio.output if audio else None)):
        if side is not None and isinstance(side.format, str):
            return f"session.audio.{name}.format is {side.format[:SHOWN]!r}"
    for name in ("input_audio_format", "output_audio_format", "modalities"):
        if audio is None and getattr(echo, name) is not None:
            return f"session.{name}"
    return None


def _differences(config: SessionConfig, echo: EchoedSession) -> Iterator[Difference]:
    asked = config.audio or AudioConfig()
    heard, spoken = (echo.audio.input, echo.audio.output) if echo.audio is not None else (None, None)
    yield from _text("session.instructions", config.instructions, echo.instructions)
    yield from _modality(config.output_modalities, echo.output_modalities)
    if asked.input is not None:
        yield from _format("session.audio.input.format", asked.input.format, heard.format if heard else None)
        if heard is not None and "turn_detection" in heard.model_fields_set:
            yield from _turns("session.audio.input.turn_detection", asked.input.turn_detection, heard.turn_detection)
        elif "turn_detection" in echo.model_fields_set and _is_off(echo.turn_detection):
            yield from _turns("session.turn_detection", asked.input.turn_detection, None)
    if asked.output is not None:
        yield from _format("session.audio.output.format", asked.output.format, spoken.format if spoken else None)
        yield from _voice(asked.output.voice, spoken, echo)


def _text(field: str, wanted: str | None, got: str | None) -> Iterator[Difference]:
    wanted, got = (wanted or "").strip(), got.strip() if got is not None else None
    if not wanted or got is None or got == wanted:  # a service has its own in the place of none
        return
    same = next((n for n, (mine, theirs) in enumerate(zip(wanted, got, strict=False)) if mine != theirs), None)
    at = max(0, (min(len(wanted), len(got)) if same is None else same) - SHOWN // 2)
    yield Difference(field, _shown(got, at), _shown(wanted, at), spoils=True)


def _shown(text: str, at: int) -> str:
    shown = repr(text[at : at + SHOWN])
    return f"{'...' if at else ''}{shown}{'...' if len(text) > at + SHOWN else ''}"


def _modality(wanted: tuple[str, ...] | None, got: tuple[str, ...] | None) -> Iterator[Difference]:
    if wanted is not None and got is not None and not set(wanted) <= set(got):
        yield Difference("session.output_modalities", repr(list(got))[:SHOWN], repr(list(wanted)), spoils=True)


def _format(field: str, wanted: AudioFormat | None, got: EchoedFormat | str | None) -> Iterator[Difference]:
    if wanted is None or not isinstance(got, EchoedFormat):  # a format in one word: see beta_field
        return
    yield from _value(f"{field}.type", wanted.type, got.type, spoils=True)
    if isinstance(wanted, PcmAudio):  # G.711 has one rate
        yield from _value(f"{field}.rate", wanted.rate, got.rate, spoils=True)


def _turns(field: str, wanted: TurnDetection | None, got: EchoedTurnDetection | None) -> Iterator[Difference]:
    if wanted is None:
        return
    if got is None or _is_off(got):
        yield Difference(field, "null", repr(wanted.type), spoils=True)
        return
    yield from _value(f"{field}.type", wanted.type, got.type, spoils=True)
    yield from _value(f"{field}.create_response", wanted.create_response, got.create_response, spoils=True)
    for name in TURN_DETAILS:
        yield from _value(f"{field}.{name}", getattr(wanted, name, None), getattr(got, name), spoils=False)


def _is_off(turns: EchoedTurnDetection | None) -> bool:
    """Return whether an echo says that turns are not detected: by null, or by a type that is null."""
    return turns is None or ("type" in turns.model_fields_set and turns.type is None)


def _voice(wanted: str | CustomVoice | None, spoken: EchoedOutput | None, echo: EchoedSession) -> Iterator[Difference]:
    nested = _name(spoken.voice) if spoken is not None else None
    field, got = ("session.audio.output.voice", nested) if nested else ("session.voice", _name(echo.voice))
    asked = _name(wanted)
    if asked and got and got.casefold() != asked.casefold():
        yield Difference(field, repr(got[:SHOWN]), repr(asked), spoils=False)


def _name(voice: str | CustomVoice | EchoedVoice | None) -> str | None:
    if isinstance(voice, EchoedVoice):
        return voice.id or voice.name
    return voice.id if isinstance(voice, CustomVoice) else voice


def _value(field: str, wanted: Value, got: Value, *, spoils: bool) -> Iterator[Difference]:
    if wanted is not None and got is not None and not _same(wanted, got):
        yield Difference(field, repr(got)[:SHOWN], repr(wanted), spoils)


def _same(wanted: Value, got: Value) -> bool:
    if isinstance(wanted, float) and isinstance(got, int | float):
        return math.isclose(wanted, got, rel_tol=TOLERANCE)
    return wanted == got
