"""Recorded sounds that are played to callers once: announcements and the prompts of menus."""

from __future__ import annotations

from pathlib import Path

from gateway.audio.pcm import BYTES_PER_SAMPLE, PcmFormat
from gateway.audio.resample import Resampler, delay_ms
from gateway.audio.wav import read_wav


def load_sound(path: Path, fmt: PcmFormat) -> bytes:
    """
    Return a WAV file (8 or 16 kHz, mono, 16 bits) as signed 16-bit little-endian mono PCM in ``fmt``.

    Raises:
        ConfigError: no such file, or one of another kind; says which and the cure.
    """
    rate_hz, pcm = read_wav(path)
    if rate_hz == fmt.rate_hz:
        return pcm
    late = bytes(round(delay_ms(rate_hz, fmt.rate_hz) * rate_hz / 1000) * BYTES_PER_SAMPLE)
    return Resampler(rate_hz, fmt.rate_hz).process(pcm + late)
