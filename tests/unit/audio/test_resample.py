"""The resampler's figures, measured on what it puts out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.audio import resample
from gateway.audio.resample import Downsampler, Upsampler

pytestmark = pytest.mark.unit

Audio = NDArray[np.float64]
Resampler = Upsampler | Downsampler
RESAMPLERS = pytest.mark.parametrize("kind", [Upsampler, Downsampler])
AMPLITUDE = 16000
SETTLED_MS = 10  # longer than the filter


def to_pcm(audio: Audio) -> bytes:
    return np.rint(audio).astype("<i2").tobytes()


def to_audio(pcm: bytes) -> Audio:
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def tone(
    frequency_hz: float, rate_hz: int, seconds: float = 1 + SETTLED_MS / 1000, amplitude: float = AMPLITUDE
) -> Audio:
    time = np.arange(round(rate_hz * seconds)) / rate_hz
    return amplitude * np.sin(2 * np.pi * frequency_hz * time)


def settled(audio: Audio, rate_hz: int) -> Audio:
    return audio[rate_hz * SETTLED_MS // 1000 :]


def levels_db(audio: Audio, rate_hz: int) -> tuple[Audio, Audio]:
    """Return (frequencies, level of a sine at each, in dB of AMPLITUDE)."""
    window = np.kaiser(audio.size, 20)
    spectrum = np.abs(np.fft.rfft(audio * window)) / (window.sum() / 2) / AMPLITUDE
    return np.fft.rfftfreq(audio.size, 1 / rate_hz), 20 * np.log10(spectrum + 1e-9)


def highest_db(audio: Audio, rate_hz: int, low_hz: float, high_hz: float) -> float:
    frequencies, levels = levels_db(audio, rate_hz)
    return float(levels[(frequencies >= low_hz) & (frequencies <= high_hz)].max())


def mixed_noise(rate_hz: int, seconds: float = 1.0) -> Audio:
    return np.random.default_rng(7).uniform(-20000, 20000, round(rate_hz * seconds))


def speech_band_noise(rate_hz: int, seconds: float = 1.0) -> Audio:
    """Noise between 200 and 3200 Hz, the same at any rate."""
    random = np.random.default_rng(11)
    time = np.arange(round(rate_hz * seconds)) / rate_hz
    audio = np.zeros(time.size)
    for frequency_hz in random.uniform(200, 3200, 150):
        audio += np.sin(2 * np.pi * frequency_hz * time + random.uniform(0, 2 * np.pi))
    return audio * (10000 / np.abs(audio).max())


@pytest.mark.parametrize("frequency_hz", [50, 300, 1000, 2000, 3000, 3300, 3400])
def test_upsampling_a_tone_leaves_no_image_above_minus_60_db(frequency_hz: int) -> None:
    out = settled(to_audio(Upsampler().process(to_pcm(tone(frequency_hz, 8000)))), 24000)
    assert highest_db(out, 24000, 4050, 12000) < -70  # promised: -60


def test_upsampling_a_sweep_leaves_no_image_above_minus_60_db() -> None:
    time = np.arange(4 * 8000) / 8000
    sweep = AMPLITUDE * np.sin(2 * np.pi * (50 * time + (3400 - 50) / 8 * time**2))
    out = to_audio(Upsampler().process(to_pcm(sweep)))
    spectrum = np.abs(np.fft.rfft(out * np.kaiser(out.size, 14))) ** 2
    frequencies = np.fft.rfftfreq(out.size, 1 / 24000)
    images = spectrum[frequencies > 4550].sum() / spectrum[frequencies < 3500].sum()
    assert 10 * math.log10(images) < -70


@pytest.mark.parametrize("frequency_hz", [4050, 4500, 5000, 6000, 7000, 8000, 9000, 11000, 11900])
def test_downsampling_a_tone_above_the_phone_s_band_leaves_no_alias_above_minus_60_db(
    frequency_hz: int,
) -> None:
    out = settled(to_audio(Downsampler().process(to_pcm(tone(frequency_hz, 24000)))), 8000)
    assert highest_db(out, 8000, 0, 4000) < -70  # promised: -60


def test_downsampling_a_sweep_above_the_phone_s_band_leaves_no_alias_above_minus_60_db() -> None:
    time = np.arange(4 * 24000) / 24000
    sweep = AMPLITUDE * np.sin(2 * np.pi * (4050 * time + (11950 - 4050) / 8 * time**2))
    sweep *= np.sin(np.pi * time / 4) ** 2  # an abrupt start would hold more than the band
    out = to_audio(Downsampler().process(to_pcm(sweep)))
    # Once settled, aliases are rounded away but for single steps of a sample.
    assert 20 * math.log10(np.abs(out).max() / AMPLITUDE) < -70


@pytest.mark.parametrize(("kind", "rate_in", "rate_out"), [(Upsampler, 8000, 24000), (Downsampler, 24000, 8000)])
@pytest.mark.parametrize("frequency_hz", [20, 50, 300, 1000, 1700, 2500, 3000, 3200, 3300])
def test_the_band_of_speech_is_flat_within_half_a_db(
    kind: type[Resampler], rate_in: int, rate_out: int, frequency_hz: int
) -> None:
    out = settled(to_audio(kind().process(to_pcm(tone(frequency_hz, rate_in)))), rate_out)
    assert abs(highest_db(out, rate_out, frequency_hz - 15, frequency_hz + 15)) < 0.35  # promised: 0.5


def test_there_and_back_the_band_of_speech_is_the_same_but_for_five_ms() -> None:
    sent = speech_band_noise(8000)
    back = to_audio(Downsampler().process(Upsampler().process(to_pcm(sent))))
    delay = 40  # samples: 5 ms
    error = back[delay + 200 :] - sent[200:-delay]
    assert 10 * math.log10(np.mean(error**2) / np.mean(sent**2)) < -35


@pytest.mark.parametrize(
    ("kind", "rate_in", "rate_out", "said_ms"),
    [(Upsampler, 8000, 24000, resample.UP_DELAY_MS), (Downsampler, 24000, 8000, resample.DOWN_DELAY_MS)],
)
def test_the_delay_each_way_is_what_is_said_and_at_most_five_ms(
    kind: type[Resampler], rate_in: int, rate_out: int, said_ms: float
) -> None:
    sent = speech_band_noise(rate_in)
    received = to_audio(kind().process(to_pcm(sent)))
    wanted = speech_band_noise(rate_out)  # the same sound, sampled at the other rate
    size = 1 << (wanted.size + received.size).bit_length()
    spectrum = np.fft.rfft(received, size) * np.conj(np.fft.rfft(wanted, size))
    fine = 16  # finer than a sample: 1/16 of one
    correlation = np.fft.irfft(spectrum, size * fine)
    delay_ms = int(np.argmax(correlation[: size * fine // 2])) / fine / rate_out * 1000
    assert delay_ms == pytest.approx(said_ms, abs=0.02)
    assert delay_ms <= 5


def test_an_impulse_comes_out_symmetric_about_the_delay() -> None:
    impulse = np.zeros(100)
    impulse[0] = 30000
    out = to_audio(Upsampler().process(to_pcm(impulse)))
    centre = int(np.argmax(out))
    assert centre / 24000 * 1000 == pytest.approx(resample.UP_DELAY_MS)
    assert np.array_equal(out[:centre], out[centre + 1 : 2 * centre + 1][::-1])


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks, at = [], 0
    for size in sizes:
        chunks.append(data[at : at + size])
        at += size
    return [*chunks, data[at:]]


@RESAMPLERS
@settings(max_examples=60)
@given(sizes=st.lists(st.integers(0, 500), max_size=30), audio=st.binary(min_size=2, max_size=6000))
def test_the_output_is_the_same_however_the_input_is_cut(kind: type[Resampler], sizes: list[int], audio: bytes) -> None:
    at_once, in_parts = kind(), kind()
    whole = at_once.process(audio) + at_once.tail()
    assert b"".join(in_parts.process(part) for part in cut(audio, sizes)) + in_parts.tail() == whole


@RESAMPLERS
def test_single_bytes_give_the_same_output(kind: type[Resampler]) -> None:
    audio = to_pcm(mixed_noise(8000, 0.03))
    one = kind()
    assert b"".join(one.process(audio[at : at + 1]) for at in range(len(audio))) == kind().process(audio)


@RESAMPLERS
def test_a_long_burst_is_the_same_as_its_frames(kind: type[Resampler]) -> None:
    audio = to_pcm(mixed_noise(24000, 5))
    framed = kind()
    frames = [framed.process(audio[at : at + 960]) for at in range(0, len(audio), 960)]
    assert b"".join(frames) == kind().process(audio)


@pytest.mark.parametrize(("kind", "rate_in", "rate_out"), [(Upsampler, 8000, 24000), (Downsampler, 24000, 8000)])
def test_no_click_at_chunk_borders(kind: type[Resampler], rate_in: int, rate_out: int) -> None:
    audio = to_pcm(tone(440, rate_in))
    resampler = kind()
    frame = 2 * rate_in // 50
    parts = [resampler.process(audio[at : at + frame]) for at in range(0, len(audio), frame)]
    out = settled(to_audio(b"".join(parts)), rate_out)
    # A sine obeys x[n+1] + x[n-1] = 2 cos(w) x[n]; a click would break it by far more than rounding does.
    broken = out[2:] + out[:-2] - 2 * math.cos(2 * math.pi * 440 / rate_out) * out[1:-1]
    assert np.abs(broken).max() <= 5


@RESAMPLERS
def test_silence_stays_silence(kind: type[Resampler]) -> None:
    resampler = kind()
    assert not any(resampler.process(bytes(9600)) + resampler.tail())


@RESAMPLERS
@pytest.mark.parametrize("level", [32767, -32768])
def test_a_constant_at_full_scale_stays_and_never_wraps(kind: type[Resampler], level: int) -> None:
    out = to_audio(kind().process(np.full(6000, level, "<i2").tobytes()))
    assert np.all(np.abs(out[300:] - level) <= 1)
    assert np.all(out * np.sign(level) > -8000)  # ringing; a wrap would be at the other end


def test_overshoot_of_a_full_scale_square_saturates() -> None:
    square = np.where(np.arange(8000) // 20 % 2, 32767, -32768).astype("<i2")
    out = to_audio(Upsampler().process(square.tobytes()))
    assert out.max() == 32767
    assert out.min() == -32768
    # Between samples of the same sign the output keeps it: nothing wrapped around.
    steady = out[61 + 3 * 25 : 61 + 3 * 35]
    assert np.all(steady * np.sign(square[30]) > 20000)


@RESAMPLERS
@given(st.lists(st.sampled_from([32767, -32768, 0, -1, 1]), min_size=1, max_size=400))
def test_any_mix_of_the_extremes_is_filtered_without_a_wrap(kind: type[Resampler], values: list[int]) -> None:
    audio = np.array(values, dtype=np.float64)
    taps = resample.design_taps()
    stuffed = audio
    if kind is Upsampler:
        stuffed = np.zeros(3 * audio.size)
        stuffed[::3] = 3 * audio
    exact = np.convolve(stuffed, taps)[: stuffed.size]
    if kind is Downsampler:
        exact = exact[2::3][: audio.size // 3]
    wanted = np.clip(np.rint(exact), -32768, 32767)
    assert np.array_equal(to_audio(kind().process(to_pcm(audio))), wanted)


@pytest.mark.parametrize(("kind", "rate_in", "rate_out"), [(Upsampler, 8000, 24000), (Downsampler, 24000, 8000)])
def test_the_tail_gives_the_end_of_the_speech_and_starts_anew(
    kind: type[Resampler], rate_in: int, rate_out: int
) -> None:
    audio = to_pcm(tone(1000, rate_in, 0.1))
    ended, followed = kind(), kind()
    parts = ended.process(audio), ended.tail()
    assert len(parts[1]) == 2 * rate_out * 5 // 1000  # twice the delay: the last sample's whole response
    by_hand = followed.process(audio + bytes(2 * rate_in * 5 // 1000))
    assert parts[0] + parts[1] == by_hand
    assert ended.process(audio) == parts[0]


def test_the_tail_gives_out_samples_that_waited_for_a_third() -> None:
    resampler = Downsampler()
    audio = to_pcm(tone(1000, 24000, 0.1))[:-2]  # two samples of three at the end
    out = resampler.process(audio) + resampler.tail()
    assert out[: 2 * 800] == Downsampler().process(audio + bytes(2))
    assert len(out) == 2 * (800 + 40)


@RESAMPLERS
def test_reset_forgets_the_past_and_a_half_sample(kind: type[Resampler]) -> None:
    resampler = kind()
    resampler.process(to_pcm(mixed_noise(8000, 0.1)) + b"\x55")
    resampler.reset()
    audio = to_pcm(tone(700, 8000, 0.06))
    assert resampler.process(audio) == kind().process(audio)


@RESAMPLERS
def test_the_tail_drops_a_half_sample(kind: type[Resampler]) -> None:
    odd, even = kind(), kind()
    audio = to_pcm(mixed_noise(8000, 0.1))
    assert odd.process(audio + b"\x55") + odd.tail() == even.process(audio) + even.tail()


def test_a_frame_of_the_phone_is_a_frame_of_the_model() -> None:
    assert len(Upsampler().process(bytes(320))) == 960
    assert len(Downsampler().process(bytes(960))) == 320
    assert Upsampler().process(b"") == Downsampler().process(b"") == Downsampler().process(bytes(5)) == b""
