"""G.711 against the tables of the standard."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audio import g711

pytestmark = pytest.mark.unit

EVERY_BYTE = bytes(range(256))


def samples(pcm: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(pcm) // 2}h", pcm)


def test_mu_law_decodes_the_values_of_the_standard() -> None:
    assert samples(g711.ulaw_to_pcm(b"\x00\x80\xff\x7f\x0f")) == (-32124, 32124, 0, 0, -16764)


def test_a_law_decodes_the_values_of_the_standard() -> None:
    assert samples(g711.alaw_to_pcm(b"\xd5\x55\xaa\x2a")) == (8, -8, 32256, -32256)


def test_silence_bytes_decode_to_the_least_there_is() -> None:
    assert samples(g711.ulaw_to_pcm(g711.ULAW_SILENCE)) == (0,)
    assert samples(g711.alaw_to_pcm(g711.ALAW_SILENCE)) == (8,)
    assert g711.pcm_to_ulaw(bytes(2)) == g711.ULAW_SILENCE
    assert g711.pcm_to_alaw(bytes(2)) == g711.ALAW_SILENCE


def test_every_code_survives_decoding_and_encoding() -> None:
    assert g711.pcm_to_alaw(g711.alaw_to_pcm(EVERY_BYTE)) == EVERY_BYTE
    # mu-law has two zeros; both come back as the positive one
    assert g711.pcm_to_ulaw(g711.ulaw_to_pcm(EVERY_BYTE)) == EVERY_BYTE.replace(b"\x7f", b"\xff")


@given(st.integers(-32768, 32767))
def test_any_sample_comes_back_within_the_step_of_its_segment(value: int) -> None:
    pcm = struct.pack("<h", value)
    (through_ulaw,) = samples(g711.ulaw_to_pcm(g711.pcm_to_ulaw(pcm)))
    (through_alaw,) = samples(g711.alaw_to_pcm(g711.pcm_to_alaw(pcm)))
    assert abs(through_ulaw - value) <= max(16, abs(value) // 16)
    assert abs(through_alaw - value) <= max(16, abs(value) // 16)


def test_a_byte_per_sample() -> None:
    assert len(g711.ulaw_to_pcm(bytes(160))) == len(g711.alaw_to_pcm(bytes(160))) == 320
    assert len(g711.pcm_to_ulaw(bytes(320))) == len(g711.pcm_to_alaw(bytes(320))) == 160
