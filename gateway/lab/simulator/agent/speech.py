"""The agent's sentences, cut and encoded once for all connections."""

from __future__ import annotations

import base64
import functools
import math
from dataclasses import dataclass

from gateway.lab.simulator.wire.audio_formats import PCM, Converter, bytes_per_ms
from gateway.lab.speech import agent_sentences


@dataclass(frozen=True, slots=True)
class Delta:
    """One piece of speech in the output format, as base64 text and as bytes."""

    encoded: str
    audio: bytes


@dataclass(frozen=True, slots=True)
class Utterance:
    """A sentence ready to be sent."""

    text: str
    deltas: tuple[Delta, ...]


@functools.lru_cache(maxsize=64)
def utterance(
    sentence: int, format_type: str, delta_ms: int, text: str | None = None, for_s: float | None = None
) -> Utterance:
    """
    Return a sentence in deltas of ``delta_ms``, the last one shorter.

    Args:
        sentence: index into ``agent_sentences()``.
        format_type: ``audio/pcm``, ``audio/pcmu`` or ``audio/pcma``.
        delta_ms: milliseconds of speech per delta.
        text: what is written down in place of the sentence's own words.
        for_s: seconds it lasts, repeated or cut; None is as long as it is.
    """
    spoken = agent_sentences()[sentence]
    audio = Converter(PCM, format_type).process(spoken.pcm24k)
    if for_s is not None:
        wanted = bytes_per_ms(format_type) * int(for_s * 1000)
        audio = (audio * math.ceil(wanted / len(audio)))[:wanted]
    step = bytes_per_ms(format_type) * delta_ms
    pieces = (audio[start : start + step] for start in range(0, len(audio), step))
    deltas = tuple(Delta(base64.b64encode(piece).decode("ascii"), piece) for piece in pieces)
    return Utterance(text or spoken.text, deltas)
