"""Delays worked out from audio and the times it passed at."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.audio.pcm import PHONE, WIDEBAND
from gateway.audio.wav import read_wav
from gateway.lab.bench.delay import Delays, Track, leg_ms
from gateway.lab.speech import caller_speech, caller_wav

pytestmark = pytest.mark.unit


def every_20_ms(count: int, first_at: float) -> list[tuple[float, float]]:
    return [(first_at + number * 0.02, 20.0 * (number + 1)) for number in range(count)]


def test_a_part_passed_with_the_packet_it_was_in() -> None:
    track = Track(b"", every_20_ms(3, 100.0), late_ms=2.5)
    passed = [track.passed_at(ms) for ms in (0, 2.5, 22.4, 22.5, 62.4, 62.5)]
    assert passed == [None, 100.0, 100.0, pytest.approx(100.02), pytest.approx(100.04), None]


@pytest.mark.parametrize(("later_s", "shift_ms"), [(0.045, 0), (0.045, 130), (0.1, 33)])
def test_a_leg_is_the_time_between_packets_not_the_place_in_the_stream(later_s: float, shift_ms: int) -> None:
    speech = caller_speech(6)
    sent = Track(speech, every_20_ms(300, 50.0))
    # The other stream began earlier: its silence is ahead of the speech.
    marks = every_20_ms(320, 50.0 + later_s - shift_ms / 1000)
    received = Track(bytes(PHONE.bytes_of(shift_ms)) + speech, marks)
    delays = leg_ms(sent, received)
    assert len(delays) >= 5
    assert np.mean(delays) == pytest.approx(later_s * 1000, abs=3)


def test_what_is_not_found_again_gives_no_figure() -> None:
    noise = np.random.default_rng(1).normal(0, 3000, 6 * 8000).astype("<i2").tobytes()
    marks = every_20_ms(300, 0.0)
    assert leg_ms(Track(caller_speech(6), marks), Track(noise, marks)) == []


def test_the_gateway_s_share_is_both_ways_together() -> None:
    assert Delays(uplink_ms=40, model_ms=150, downlink_ms=20, stretches=3).added_ms == 60


def test_the_caller_s_voice_is_as_long_as_wanted_at_either_rate() -> None:
    _, pcm = read_wav(caller_wav())
    assert caller_speech(1) == pcm[:16000]
    long = caller_speech(20)
    assert len(long) == PHONE.bytes_of(20_000)
    assert long[len(pcm) : len(pcm) + 100] == pcm[:100]
    wide = np.frombuffer(caller_speech(3, WIDEBAND), "<i2").astype(float)
    narrow = np.frombuffer(caller_speech(3), "<i2").astype(float)
    assert wide.size == 2 * narrow.size
    assert np.corrcoef(wide[41::2][:20000], narrow[:20000])[0, 1] > 0.97
