"""G.711, the telephone's codec: mu-law (PCMU) and A-law (PCMA), a byte per sample, to 16-bit PCM and back."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # audioop left the standard library in 3.13 (PEP 594); there audioop-lts gives the same module.
    warnings.filterwarnings("ignore", message="'audioop' is deprecated", category=DeprecationWarning)
    import audioop

from gateway.audio.pcm import BYTES_PER_SAMPLE

ULAW_SILENCE = b"\xff"
"""A sample of value 0 in mu-law (ITU-T G.711)."""

ALAW_SILENCE = b"\xd5"
"""The smallest positive sample in A-law, which has no zero (ITU-T G.711)."""


def ulaw_to_pcm(data: bytes) -> bytes:
    """Decode mu-law bytes to twice as many bytes of signed 16-bit little-endian PCM."""
    return audioop.ulaw2lin(data, BYTES_PER_SAMPLE)


def pcm_to_ulaw(pcm: bytes) -> bytes:
    """Encode whole samples of signed 16-bit little-endian PCM to half as many bytes of mu-law."""
    return audioop.lin2ulaw(pcm, BYTES_PER_SAMPLE)


def alaw_to_pcm(data: bytes) -> bytes:
    """Decode A-law bytes to twice as many bytes of signed 16-bit little-endian PCM."""
    return audioop.alaw2lin(data, BYTES_PER_SAMPLE)


def pcm_to_alaw(pcm: bytes) -> bytes:
    """Encode whole samples of signed 16-bit little-endian PCM to half as many bytes of A-law."""
    return audioop.lin2alaw(pcm, BYTES_PER_SAMPLE)


def peak(pcm: bytes) -> int:
    """Return the largest sample, 0 to 32,768, of 16-bit PCM at any rate; 0 of none."""
    return audioop.max(pcm, BYTES_PER_SAMPLE)
