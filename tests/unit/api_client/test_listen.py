"""Audio of a call as messages of the API, put in time."""

from __future__ import annotations

import io
import wave

import pytest

from gateway.api_client.listen import in_time, wav_header
from gateway.store.audio import AudioBlock

pytestmark = pytest.mark.unit

FRAMES_OF_40_MS = 320


def message(number: int, at_ms: int, sample: bytes = b"\x01\x00\x02\x00") -> bytes:
    return AudioBlock(number, at_ms, sample * FRAMES_OF_40_MS).packed()


def test_messages_in_a_row_are_passed_on_as_they_are() -> None:
    pieces = list(in_time(iter([message(0, 5000), message(1, 5040), message(2, 5081)]), limit_ms=60_000))
    assert pieces == 3 * [b"\x01\x00\x02\x00" * FRAMES_OF_40_MS]


def test_what_is_missing_is_silence_of_the_same_length() -> None:
    first, silence, last = in_time(iter([message(0, 0), message(3, 120)]), limit_ms=60_000)
    assert silence == bytes(4 * 8 * 80)
    assert first == last


def test_a_message_that_claims_to_be_from_far_ahead_adds_a_minute_at_most() -> None:
    pieces = list(in_time(iter([message(0, 0), message(1, 2**32 - 1)]), limit_ms=1e12))
    assert len(pieces[1]) == 60_000 * 8 * 4


def test_it_ends_at_the_limit() -> None:
    endless = (message(number, 40 * number) for number in range(1000))
    assert len(list(in_time(endless, limit_ms=100))) == 3


def test_the_header_is_that_of_a_stereo_wav_file() -> None:
    pcm = bytes(4 * 80)
    with wave.open(io.BytesIO(wav_header(80) + pcm)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (2, 2, 8000, 80)


def test_the_header_of_a_stream_leaves_room_for_any_length() -> None:
    with wave.open(io.BytesIO(wav_header())) as file:
        assert file.getnframes() > 8000 * 86400
