"""PCM as the gateway counts it: signed 16-bit little-endian mono, at a rate, in frames of a fixed length."""

from __future__ import annotations

from dataclasses import dataclass

BYTES_PER_SAMPLE = 2


@dataclass(frozen=True, slots=True)
class PcmFormat:
    """
    A stream of 16-bit mono PCM.

    Attributes:
        rate_hz: samples per second.
        ptime_ms: length of one frame.
    """

    rate_hz: int
    ptime_ms: int = 20

    @property
    def frame_samples(self) -> int:
        """Samples in one frame."""
        return self.rate_hz * self.ptime_ms // 1000

    @property
    def frame_bytes(self) -> int:
        """Bytes in one frame (320 at 8 kHz and 20 ms)."""
        return self.frame_samples * BYTES_PER_SAMPLE

    @property
    def bytes_per_ms(self) -> int:
        """Bytes in one millisecond."""
        return self.rate_hz * BYTES_PER_SAMPLE // 1000

    def ms(self, size_bytes: int) -> int:
        """Return the whole milliseconds that ``size_bytes`` bytes last."""
        return size_bytes // self.bytes_per_ms

    def bytes_of(self, ms: int) -> int:
        """Return how many bytes ``ms`` milliseconds take."""
        return ms * self.bytes_per_ms


PHONE = PcmFormat(8000)
"""What the SIP leg carries once G.711 is decoded."""

WIDEBAND = PcmFormat(16000)
"""What the SIP leg carries in a worker that offers G.722 (which samples at 16 kHz, RFC 3551 section 4.5.2)."""

MODEL = PcmFormat(24000)
"""What the Realtime API calls ``audio/pcm``."""
