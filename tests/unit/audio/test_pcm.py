"""Arithmetic between milliseconds, samples and bytes."""

from __future__ import annotations

import pytest

from gateway.audio.pcm import MODEL, PHONE, PcmFormat

pytestmark = pytest.mark.unit


def test_the_phone_s_frame_is_320_bytes_and_the_model_s_960() -> None:
    assert (PHONE.frame_samples, PHONE.frame_bytes, PHONE.bytes_per_ms) == (160, 320, 16)
    assert (MODEL.frame_samples, MODEL.frame_bytes, MODEL.bytes_per_ms) == (480, 960, 48)


def test_other_frame_lengths_are_counted_too() -> None:
    assert PcmFormat(16000, ptime_ms=30).frame_bytes == 960


def test_milliseconds_and_bytes_convert_both_ways_in_whole_milliseconds() -> None:
    assert PHONE.bytes_of(250) == 4000
    assert PHONE.ms(4000) == 250
    assert PHONE.ms(4015) == 250
    assert PHONE.ms(0) == PHONE.bytes_of(0) == 0
