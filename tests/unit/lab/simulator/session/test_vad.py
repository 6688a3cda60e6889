from __future__ import annotations

import wave

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.lab.simulator.session.vad import EnergyVad, VadSettings, VoiceBegan, VoiceEnded
from gateway.lab.speech import caller_wav

pytestmark = pytest.mark.unit

RATE = 8000


def tone(ms: int, *, level_db: float) -> bytes:
    """Return a 440 Hz tone of that RMS level against full scale."""
    time_s = np.arange(RATE * ms // 1000) / RATE
    peak = 32768 * 10 ** (level_db / 20) * np.sqrt(2)
    samples: NDArray[np.int16] = np.rint(peak * np.sin(2 * np.pi * 440 * time_s)).astype("<i2")
    return samples.tobytes()


def silence(ms: int) -> bytes:
    return bytes(RATE * ms // 1000 * 2)


def heard(vad: EnergyVad, pcm: bytes, *, step: int) -> list[VoiceBegan | VoiceEnded]:
    return [event for start in range(0, len(pcm), step) for event in vad.process(pcm[start : start + step])]


@pytest.mark.parametrize("step", [2, 320, 346, 1 << 20])
def test_a_turn_is_found_at_the_same_place_however_the_audio_is_cut(step: int) -> None:
    vad = EnergyVad(VadSettings(silence_duration_ms=500), rate_hz=RATE)
    events = heard(vad, silence(400) + tone(600, level_db=-20) + silence(800), step=step)
    assert events == [VoiceBegan(400), VoiceEnded(end_ms=1500, spoken_ms=600)]


def test_the_shipped_caller_speaks_two_turns() -> None:
    with wave.open(str(caller_wav()), "rb") as sound:
        pcm = sound.readframes(sound.getnframes())
    vad = EnergyVad(VadSettings(silence_duration_ms=200), rate_hz=RATE)
    started, stopped, again, end = heard(vad, pcm, step=320)
    assert isinstance(started, VoiceBegan)
    assert isinstance(again, VoiceBegan)
    assert isinstance(stopped, VoiceEnded)
    assert isinstance(end, VoiceEnded)
    assert 480 <= started.start_ms <= 600
    assert stopped.spoken_ms > 2000
    assert again.start_ms - stopped.end_ms > 1000


def test_a_pause_shorter_than_the_silence_does_not_end_the_turn() -> None:
    vad = EnergyVad(VadSettings(silence_duration_ms=500), rate_hz=RATE)
    speech = tone(300, level_db=-20)
    events = heard(vad, speech + silence(480) + speech + silence(500), step=320)
    assert events == [VoiceBegan(0), VoiceEnded(end_ms=1580, spoken_ms=1080)]


def test_a_click_is_not_speech() -> None:
    vad = EnergyVad(VadSettings(), rate_hz=RATE)
    assert heard(vad, tone(40, level_db=-10) + silence(600), step=320) == []


@pytest.mark.parametrize(("threshold", "is_speech"), [(0.0, True), (0.5, True), (0.9, False), (1.0, False)])
def test_a_higher_threshold_needs_louder_speech(threshold: float, is_speech: bool) -> None:
    vad = EnergyVad(VadSettings(threshold), rate_hz=RATE)
    assert bool(heard(vad, tone(200, level_db=-30), step=320)) is is_speech


def test_speech_that_fades_a_little_does_not_end_the_turn() -> None:
    vad = EnergyVad(VadSettings(0.5, 200), rate_hz=RATE)
    heard(vad, tone(200, level_db=-38) + tone(600, level_db=-44), step=320)
    assert vad.speaking


def test_times_count_from_the_clock_given() -> None:
    vad = EnergyVad(VadSettings(), rate_hz=24000, clock_ms=7000)
    loud = np.full(24000 // 1000 * 60, 8000, dtype="<i2").tobytes()
    assert vad.process(loud) == [VoiceBegan(7000)]


@pytest.mark.parametrize(("eagerness", "silence_ms"), [("low", 1500), ("medium", 800), ("auto", 800), ("high", 400)])
def test_semantic_detection_becomes_a_fixed_silence(eagerness: str, silence_ms: int) -> None:
    settings = VadSettings.of({"type": "semantic_vad", "eagerness": eagerness})
    assert settings == VadSettings(0.5, silence_ms)
