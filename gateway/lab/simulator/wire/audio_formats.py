"""The audio formats of the protocol: their rates and sizes, and one turned into another."""

from __future__ import annotations

from gateway.audio import g711
from gateway.audio.pcm import BYTES_PER_SAMPLE, MODEL, PHONE
from gateway.audio.resample import Downsampler, Upsampler

PCM = "audio/pcm"
PCMU = "audio/pcmu"
PCMA = "audio/pcma"


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
