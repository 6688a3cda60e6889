from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.audio.filler import FADE_MS, LEVEL_DBFS, LOOP_S, FillerLoop, load_filler, tone_filler
from gateway.audio.pcm import MODEL, PHONE, WIDEBAND, PcmFormat
from gateway.audio.wav import write_wav
from gateway.errors import ConfigError

pytestmark = pytest.mark.unit

LOUD = np.full(PHONE.frame_samples * 3 + 7, 10_000, dtype="<i2").tobytes()
SPEECH = np.full(PHONE.frame_samples, 20_000, dtype="<i2").tobytes()


def samples(frame: bytes | None) -> np.ndarray:
    assert frame is not None
    assert len(frame) == PHONE.frame_bytes
    return np.frombuffer(frame, "<i2").astype(np.int64)


def largest_step(*frames: bytes | None) -> int:
    """The largest jump from one sample to the next, silence before and behind."""
    whole = np.concatenate([np.zeros(1, dtype=np.int64), *(samples(frame) for frame in frames), np.zeros(1)])
    return int(np.abs(np.diff(whole)).max())


def test_the_tone_is_quiet_and_begins_and_ends_in_silence() -> None:
    tone = np.frombuffer(tone_filler(), "<i2").astype(float)
    assert tone.size == LOOP_S * PHONE.rate_hz
    sounding = tone[tone != 0]
    level = 20 * np.log10(np.sqrt(np.mean(sounding**2)) / 32767)
    assert level == pytest.approx(LEVEL_DBFS, abs=0.5)
    assert np.abs(tone).max() < 32767 * 10 ** ((LEVEL_DBFS + 12) / 20)
    assert not tone[:800].any()
    assert not tone[-800:].any()
    assert np.abs(np.diff(tone)).max() < 1500, "a sine of that height, and no jump"


def test_a_filler_is_found_by_its_name(tmp_path: Path) -> None:
    assert load_filler("tone", tmp_path) == tone_filler()
    assert load_filler("none", tmp_path) == b""
    write_wav(tmp_path / "hold.wav", 8000, LOUD)
    assert load_filler("hold.wav", tmp_path) == LOUD
    assert load_filler(str(tmp_path / "hold.wav"), Path("/nowhere")) == LOUD


@pytest.mark.parametrize("fmt", [PHONE, WIDEBAND])
def test_the_tone_is_the_same_at_both_rates(fmt: PcmFormat) -> None:
    tone = np.frombuffer(tone_filler(fmt), "<i2").astype(float)
    assert tone.size == LOOP_S * fmt.rate_hz
    spectrum = np.abs(np.fft.rfft(tone[: round(0.65 * fmt.rate_hz)]))
    assert np.argmax(spectrum) / 0.65 == pytest.approx(440, abs=2)


@pytest.mark.parametrize(("file", "leg"), [(PHONE, WIDEBAND), (WIDEBAND, PHONE)])
def test_a_file_of_the_other_rate_is_converted_and_goes_round_without_a_seam(
    tmp_path: Path, file: PcmFormat, leg: PcmFormat
) -> None:
    def sine(fmt: PcmFormat) -> NDArray[np.int16]:  # whole periods: a loop of it is one endless sine
        wave = 8000 * np.sin(2 * np.pi * 400 * np.arange(fmt.rate_hz // 4) / fmt.rate_hz)
        samples: NDArray[np.int16] = np.rint(wave).astype(np.int16)
        return samples

    write_wav(tmp_path / "hold.wav", file.rate_hz, sine(file).tobytes())
    converted = np.frombuffer(load_filler("hold.wav", tmp_path, leg), "<i2").astype(float)
    assert np.abs(converted - sine(leg)).max() <= 40


def test_a_filler_that_cannot_be_played_is_refused_with_the_cure(tmp_path: Path) -> None:
    write_wav(tmp_path / "wide.wav", 24_000, LOUD)
    write_wav(tmp_path / "stereo.wav", 8000, LOUD, LOUD)
    write_wav(tmp_path / "silent.wav", 8000, bytes(1600))
    for name, told in (
        ("wide.wav", "24000 samples per second, a filler has 8000 or 16000; convert it"),
        ("stereo.wav", "2 channels, mono is wanted"),
        ("silent.wav", "nothing but silence"),
        ("missing.wav", "No such file"),
    ):
        with pytest.raises(ConfigError, match=told) as caught:
            load_filler(name, tmp_path)
        assert name in str(caught.value)


def test_a_filler_fades_in_and_out() -> None:
    loop = FillerLoop(LOUD, PHONE)
    assert loop.blend(None, held=False) is None
    loop.start()
    assert loop.active
    frames = [loop.blend(None, held=False) for _ in range(3)]
    loop.stop()
    frames.append(loop.blend(None, held=False))
    assert not loop.active
    assert loop.blend(None, held=False) is None
    fade = PHONE.rate_hz * FADE_MS // 1000
    assert largest_step(*frames) <= 10_000 // (fade - 1) + 1
    assert samples(frames[0])[fade:].tolist() == [10_000] * (PHONE.frame_samples - fade)
    assert not samples(frames[3])[fade:].any()


def test_a_filler_goes_round_and_round_without_a_seam() -> None:
    pcm = np.arange(1, 501, dtype="<i2").tobytes()
    loop = FillerLoop(pcm, PHONE)
    loop.start()
    played = b"".join(loop.blend(None, held=False) or b"" for _ in range(10))
    expected = (pcm * 4)[: len(played)]
    faded = 2 * PHONE.rate_hz * FADE_MS // 1000
    assert played[faded:] == expected[faded:]


def test_a_filler_shorter_than_a_frame_is_repeated_within_it() -> None:
    loop = FillerLoop(np.array([1, 2, 3], dtype="<i2").tobytes() + b"\x07", PHONE)
    loop.start()
    loop.blend(None, held=False)
    second = samples(loop.blend(None, held=False)).tolist()
    first = 160 % 3
    assert second == [(first + at) % 3 + 1 for at in range(160)]


def test_speech_goes_first_and_the_filler_fades_out_under_it() -> None:
    loop = FillerLoop(LOUD, PHONE)
    loop.start()
    loop.blend(None, held=False)
    mixed = samples(loop.blend(SPEECH, held=False))
    assert mixed[0] == 30_000
    assert mixed[PHONE.rate_hz * FADE_MS // 1000 :].tolist() == samples(SPEECH)[40:].tolist()
    assert loop.blend(SPEECH, held=False) == SPEECH
    assert loop.active, "it goes on after the speech"
    assert samples(loop.blend(None, held=False))[-1] == 10_000


def test_the_sum_of_loud_speech_and_filler_does_not_wrap() -> None:
    loop = FillerLoop(np.full(320, 30_000, dtype="<i2").tobytes(), PHONE)
    loop.start()
    loop.blend(None, held=False)
    assert samples(loop.blend(SPEECH, held=False))[0] == 32_767


def test_nothing_sounds_while_the_agent_is_held() -> None:
    loop = FillerLoop(LOUD, PHONE)
    loop.start()
    loop.blend(None, held=False)
    assert samples(loop.blend(None, held=True))[0] == 10_000, "a fade, no click"
    assert loop.blend(None, held=True) is None
    assert loop.blend(None, held=False) is not None


def test_an_empty_filler_is_silence_and_costs_nothing() -> None:
    loop = FillerLoop(b"", MODEL)
    loop.start()
    assert not loop.active
    loop.stop()
    assert loop.blend(None, held=False) is None


def test_a_filler_that_is_started_twice_goes_on() -> None:
    loop = FillerLoop(np.arange(1000, dtype="<i2").tobytes(), PHONE)
    loop.start()
    loop.blend(None, held=False)
    loop.start()
    assert samples(loop.blend(None, held=False))[0] == 160


def test_the_calls_share_the_sound_of_one_filler() -> None:
    pcm = bytes(range(200)) * 80
    first, second = FillerLoop(pcm, PHONE), FillerLoop(pcm, PHONE)
    assert first._pcm is second._pcm
