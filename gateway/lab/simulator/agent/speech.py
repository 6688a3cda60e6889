"""Audio formats of the protocol, and the agent's sentences cut and encoded once for all connections."""

from __future__ import annotations

import base64
import functools
import math
from dataclasses import dataclass

from gateway.audio import g711
from gateway.audio.pcm import BYTES_PER_SAMPLE, MODEL, PHONE
from gateway.audio.resample import Downsampler, Upsampler
from gateway.lab.speech import agent_sentences

PCM = "audio/pcm"
PCMU = "audio/pcmu"
PCMA = "audio/pcma"


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


def bytes_per_ms(format_type: str) -> int:
    """Return the bytes of one millisecond: 48 for PCM, 8 for G.711."""
    return MODEL.bytes_per_ms if format_type == PCM else PHONE.rate_hz // 1000


def sample_bytes(format_type: str) -> int:
    """Return the bytes of one sample: 2 for PCM, 1 for G.711."""
    return BYTES_PER_SAMPLE if format_type == PCM else 1


def rate_hz(format_type: str) -> int:
    """Return the sample rate: 24000 for PCM, 8000 for G.711."""
    return MODEL.rate_hz if format_type == PCM else PHONE.rate_hz


def to_pcm(format_type: str, audio: bytes) -> bytes:
    """Decode to 16-bit PCM at the format's own rate."""
    if format_type == PCMU:
        return g711.ulaw_to_pcm(audio)
    return g711.alaw_to_pcm(audio) if format_type == PCMA else audio


def to_pcm24k(format_type: str, audio: bytes) -> bytes:
    """Decode a whole stretch of audio to 16-bit PCM at 24 kHz."""
    pcm = to_pcm(format_type, audio)
    return pcm if format_type == PCM else Upsampler().process(pcm)


class Converter:
    """
    Changes a stream of audio from one format of the protocol into another.

    Args:
        source: format type of what comes in.
        target: format type of what is wanted.
    """

    def __init__(self, source: str, target: str) -> None:
        self._source = source
        self._target = target
        self._resampler: Upsampler | Downsampler | None = None
        if rate_hz(source) != rate_hz(target):
            self._resampler = Upsampler() if target == PCM else Downsampler()

    def process(self, audio: bytes) -> bytes:
        """Convert the next part; the same bytes where the formats are the same."""
        if self._source == self._target:
            return audio
        pcm = to_pcm(self._source, audio)
        if self._resampler is not None:
            pcm = self._resampler.process(pcm)
        if self._target == PCMU:
            return g711.pcm_to_ulaw(pcm)
        return g711.pcm_to_alaw(pcm) if self._target == PCMA else pcm


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
