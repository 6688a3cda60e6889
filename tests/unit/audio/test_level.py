"""How loud a side of a call is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gateway.audio.level import SILENCE_DBFS, LevelMeter

pytestmark = pytest.mark.unit


def sine(amplitude: float, samples: int = 8000) -> bytes:
    return np.rint(amplitude * np.sin(np.arange(samples) * 2 * math.pi / 80)).astype("<i2").tobytes()


@pytest.mark.parametrize(("amplitude", "dbfs"), [(32767, -3.0), (3276.7, -23.0), (328, -43.0)])
def test_a_sine_is_three_decibels_below_its_peak(amplitude: float, dbfs: float) -> None:
    meter = LevelMeter()
    wave = sine(amplitude)
    for at in range(0, len(wave), 320):
        meter.add(wave[at : at + 320])
    assert meter.read() == pytest.approx(dbfs, abs=0.1)


def test_a_reading_begins_anew_and_silence_has_a_level() -> None:
    meter = LevelMeter()
    assert meter.read() == SILENCE_DBFS
    meter.add(sine(32767))
    assert meter.read() > -4
    meter.add(bytes(320))
    assert meter.read() == SILENCE_DBFS
    meter.add(np.full(160, -32768, "<i2").tobytes())
    assert meter.read() == 0
