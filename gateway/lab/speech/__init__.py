"""Speech that ships with the gateway: the practice agent's sentences and a caller's voice."""

from __future__ import annotations

import functools
import json
import wave
from dataclasses import dataclass
from pathlib import Path

from gateway.audio.pcm import BYTES_PER_SAMPLE, MODEL, PHONE, PcmFormat
from gateway.audio.resample import Resampler
from gateway.audio.wav import read_wav

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Sentence:
    """
    One sentence of the practice agent.

    Attributes:
        text: what is said.
        pcm24k: signed 16-bit little-endian mono PCM at 24 kHz.
    """

    text: str
    pcm24k: bytes


@functools.cache
def agent_sentences() -> tuple[Sentence, ...]:
    """Load the agent's sentences, the greeting first. Kept in memory from the first call on."""
    listed = json.loads((_HERE / "sentences.json").read_text(encoding="utf-8"))
    return tuple(Sentence(entry["text"], _read_pcm24k(_HERE / entry["file"])) for entry in listed)


def caller_wav() -> Path:
    """Return the file with a caller's voice: 8 kHz 16-bit mono, two sentences, 1.5 s of silence between."""
    return _HERE / "caller.wav"


def caller_speech(seconds: float, fmt: PcmFormat = PHONE) -> bytes:
    """Return the caller's voice, repeated to this length: signed 16-bit little-endian mono PCM in ``fmt``."""
    rate_hz, pcm = read_wav(caller_wav())
    if rate_hz != fmt.rate_hz:
        pcm = Resampler(rate_hz, fmt.rate_hz).process(pcm)
    wanted = fmt.bytes_of(round(seconds * 1000))
    return (pcm * (wanted // len(pcm) + 1))[:wanted]


def _read_pcm24k(path: Path) -> bytes:
    with wave.open(str(path), "rb") as sound:
        form = (sound.getframerate(), sound.getsampwidth(), sound.getnchannels())
        if form != (MODEL.rate_hz, BYTES_PER_SAMPLE, 1):
            raise ValueError(f"{path.name}: (rate, bytes, channels) is {form}, not 24 kHz 16-bit mono")
        return sound.readframes(sound.getnframes())
