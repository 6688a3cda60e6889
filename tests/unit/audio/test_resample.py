"""The resampler's figures, measured on what it puts out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.audio.resample import LOW_PASSES, Downsampler, Resampler, Upsampler, delay_ms

pytestmark = pytest.mark.unit

Audio = NDArray[np.float64]
PAIRS = [(8000, 24000), (24000, 8000), (16000, 24000), (24000, 16000), (8000, 16000), (16000, 8000)]
RATES = pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
UPWARDS = pytest.mark.parametrize(("rate_in", "rate_out"), [pair for pair in PAIRS if pair[0] < pair[1]])
DOWNWARDS = pytest.mark.parametrize(("rate_in", "rate_out"), [pair for pair in PAIRS if pair[0] > pair[1]])
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
    frequencies = np.asarray(np.fft.rfftfreq(audio.size, 1 / rate_hz), np.float64)
    levels = np.asarray(20 * np.log10(spectrum + 1e-9), np.float64)
    return frequencies, levels


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
    loudest = float(np.abs(audio).max())
    return audio * (10000 / loudest)


def speech_ends_at(*rates_hz: int) -> int:
    """Where the band that must stay ends: with 8 kHz on either side 3300 Hz, else what G.722 leaves."""
    return 3300 if 8000 in rates_hz else 6800


@UPWARDS
@pytest.mark.parametrize("part", [0.015, 0.09, 0.3, 0.6, 0.9, 1, 1.03])
def test_upsampling_a_tone_leaves_no_image_above_minus_60_db(rate_in: int, rate_out: int, part: float) -> None:
    frequency_hz = round(part * speech_ends_at(rate_in))
    out = settled(to_audio(Resampler(rate_in, rate_out).process(to_pcm(tone(frequency_hz, rate_in)))), rate_out)
    assert highest_db(out, rate_out, rate_in / 2 * 1.0125, rate_out / 2) < -70  # promised: -60


@UPWARDS
def test_upsampling_a_sweep_leaves_no_image_above_minus_60_db(rate_in: int, rate_out: int) -> None:
    time = np.arange(4 * rate_in) / rate_in
    end_hz = 1.03 * speech_ends_at(rate_in)
    sweep = AMPLITUDE * np.sin(2 * np.pi * (50 * time + (end_hz - 50) / 8 * time**2))
    out = to_audio(Resampler(rate_in, rate_out).process(to_pcm(sweep)))
    spectrum = np.abs(np.fft.rfft(out * np.kaiser(out.size, 14))) ** 2
    frequencies = np.fft.rfftfreq(out.size, 1 / rate_out)
    images = spectrum[frequencies > rate_in - end_hz - 50].sum() / spectrum[frequencies < end_hz + 100].sum()
    assert 10 * math.log10(images) < -70


@DOWNWARDS
@pytest.mark.parametrize("part", [0, 0.1, 0.2, 0.4, 0.6, 0.8, 0.98])
def test_downsampling_a_tone_above_the_phone_s_band_leaves_no_alias_above_minus_60_db(
    rate_in: int, rate_out: int, part: float
) -> None:
    lowest_hz = rate_out / 2 * 1.0125
    frequency_hz = round(lowest_hz + part * (rate_in / 2 - lowest_hz))
    out = settled(to_audio(Resampler(rate_in, rate_out).process(to_pcm(tone(frequency_hz, rate_in)))), rate_out)
    assert highest_db(out, rate_out, 0, rate_out / 2) < -70  # promised: -60


@DOWNWARDS
def test_downsampling_a_sweep_above_the_phone_s_band_leaves_no_alias_above_minus_60_db(
    rate_in: int, rate_out: int
) -> None:
    time = np.arange(4 * rate_in) / rate_in
    lowest_hz, highest_hz = rate_out / 2 * 1.0125, rate_in / 2 - 50
    sweep = AMPLITUDE * np.sin(2 * np.pi * (lowest_hz * time + (highest_hz - lowest_hz) / 8 * time**2))
    sweep *= np.sin(np.pi * time / 4) ** 2  # an abrupt start would hold more than the band
    out = to_audio(Resampler(rate_in, rate_out).process(to_pcm(sweep)))
    # Once settled, aliases are rounded away but for single steps of a sample.
    assert 20 * math.log10(np.abs(out).max() / AMPLITUDE) < -70


@RATES
@pytest.mark.parametrize("part", [0.006, 0.015, 0.09, 0.3, 0.5, 0.75, 0.9, 0.97, 1])
def test_the_band_of_speech_is_flat_within_half_a_db(rate_in: int, rate_out: int, part: float) -> None:
    frequency_hz = round(part * speech_ends_at(rate_in, rate_out))
    out = settled(to_audio(Resampler(rate_in, rate_out).process(to_pcm(tone(frequency_hz, rate_in)))), rate_out)
    assert abs(highest_db(out, rate_out, frequency_hz - 15, frequency_hz + 15)) < 0.35  # promised: 0.5


@UPWARDS
def test_there_and_back_the_band_of_speech_is_the_same_but_for_a_few_ms(rate_in: int, rate_out: int) -> None:
    sent = speech_band_noise(rate_in)
    back = to_audio(Resampler(rate_out, rate_in).process(Resampler(rate_in, rate_out).process(to_pcm(sent))))
    delay = delay_ms(rate_in, rate_out) + delay_ms(rate_out, rate_in)
    late = round(delay * rate_in / 1000)
    error = fractionally_later(sent, delay * rate_in / 1000 - late)[200 : -late - 200] - back[late + 200 : -200]
    assert 10 * math.log10(np.mean(error**2) / np.mean(sent**2)) < -35


def fractionally_later(audio: Audio, samples: float) -> Audio:
    turned = np.exp(-2j * np.pi * np.fft.rfftfreq(audio.size) * samples)
    return np.fft.irfft(np.fft.rfft(audio) * turned, audio.size)


@RATES
def test_the_delay_each_way_is_what_is_said_and_at_most_five_ms(rate_in: int, rate_out: int) -> None:
    sent = speech_band_noise(rate_in)
    received = to_audio(Resampler(rate_in, rate_out).process(to_pcm(sent)))
    wanted = speech_band_noise(rate_out)  # the same sound, sampled at the other rate
    size = 1 << (wanted.size + received.size).bit_length()
    spectrum = np.fft.rfft(received, size) * np.conj(np.fft.rfft(wanted, size))
    fine = 16  # finer than a sample: 1/16 of one
    correlation = np.fft.irfft(spectrum, size * fine)
    delay = int(np.argmax(correlation[: size * fine // 2])) / fine / rate_out * 1000
    assert delay == pytest.approx(delay_ms(rate_in, rate_out), abs=0.02)
    assert delay <= 5


def test_an_impulse_comes_out_symmetric_about_the_delay() -> None:
    impulse = np.zeros(100)
    impulse[0] = 30000
    out = to_audio(Upsampler().process(to_pcm(impulse)))
    centre = int(np.argmax(out))
    assert centre / 24000 * 1000 == pytest.approx(delay_ms(8000, 24000))
    assert np.array_equal(out[:centre], out[centre + 1 : 2 * centre + 1][::-1])


def test_rates_without_a_filter_are_refused() -> None:
    with pytest.raises(ValueError, match="no filter between 11025 and 24000 Hz"):
        Resampler(11025, 24000)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks, at = [], 0
    for size in sizes:
        chunks.append(data[at : at + size])
        at += size
    return [*chunks, data[at:]]


@RATES
@settings(max_examples=60)
@given(sizes=st.lists(st.integers(0, 500), max_size=30), audio=st.binary(min_size=2, max_size=6000))
def test_the_output_is_the_same_however_the_input_is_cut(
    rate_in: int, rate_out: int, sizes: list[int], audio: bytes
) -> None:
    at_once, in_parts = Resampler(rate_in, rate_out), Resampler(rate_in, rate_out)
    whole = at_once.process(audio) + at_once.tail()
    assert b"".join(in_parts.process(part) for part in cut(audio, sizes)) + in_parts.tail() == whole


@RATES
def test_single_bytes_give_the_same_output(rate_in: int, rate_out: int) -> None:
    audio = to_pcm(mixed_noise(8000, 0.03))
    one = Resampler(rate_in, rate_out)
    assert b"".join(one.process(audio[at : at + 1]) for at in range(len(audio))) == Resampler(
        rate_in, rate_out
    ).process(audio)


@RATES
def test_a_long_burst_is_the_same_as_its_frames(rate_in: int, rate_out: int) -> None:
    audio = to_pcm(mixed_noise(24000, 5))
    framed = Resampler(rate_in, rate_out)
    frames = [framed.process(audio[at : at + 960]) for at in range(0, len(audio), 960)]
    assert b"".join(frames) == Resampler(rate_in, rate_out).process(audio)


@RATES
def test_no_click_at_chunk_borders(rate_in: int, rate_out: int) -> None:
    audio = to_pcm(tone(440, rate_in))
    resampler = Resampler(rate_in, rate_out)
    frame = 2 * rate_in // 50
    parts = [resampler.process(audio[at : at + frame]) for at in range(0, len(audio), frame)]
    out = settled(to_audio(b"".join(parts)), rate_out)
    # A sine obeys x[n+1] + x[n-1] = 2 cos(w) x[n]; a click would break it by far more than rounding does.
    broken = out[2:] + out[:-2] - 2 * math.cos(2 * math.pi * 440 / rate_out) * out[1:-1]
    assert np.abs(broken).max() <= 5


@RATES
def test_silence_stays_silence(rate_in: int, rate_out: int) -> None:
    resampler = Resampler(rate_in, rate_out)
    assert not any(resampler.process(bytes(9600)) + resampler.tail())


@RATES
@pytest.mark.parametrize("level", [32767, -32768])
def test_a_constant_at_full_scale_stays_and_never_wraps(rate_in: int, rate_out: int, level: int) -> None:
    out = to_audio(Resampler(rate_in, rate_out).process(np.full(6000, level, "<i2").tobytes()))
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


@RATES
@given(st.lists(st.sampled_from([32767, -32768, 0, -1, 1]), min_size=1, max_size=400))
def test_any_mix_of_the_extremes_is_filtered_without_a_wrap(rate_in: int, rate_out: int, values: list[int]) -> None:
    audio = np.array(values, dtype=np.float64)
    low_pass = LOW_PASSES[frozenset((rate_in, rate_out))]
    up, down = low_pass.rate_hz // rate_in, low_pass.rate_hz // rate_out
    whole = audio[: audio.size // down * down]
    stuffed = np.zeros(up * whole.size)
    stuffed[::up] = up * whole
    exact = np.convolve(stuffed, low_pass.design())[: stuffed.size][down - 1 :: down] if whole.size else whole
    wanted = np.clip(np.rint(exact), -32768, 32767)
    assert np.array_equal(to_audio(Resampler(rate_in, rate_out).process(to_pcm(audio))), wanted)


@RATES
def test_the_tail_gives_the_end_of_the_speech_and_starts_anew(rate_in: int, rate_out: int) -> None:
    audio = to_pcm(tone(1000, rate_in, 0.1))
    ended, followed = Resampler(rate_in, rate_out), Resampler(rate_in, rate_out)
    parts = ended.process(audio), ended.tail()
    held_ms = len(parts[1]) / 2 / rate_out * 1000
    both_ways_ms = 2 * delay_ms(rate_in, rate_out)  # the last sample's whole response
    assert both_ways_ms - 1000 / rate_in < held_ms < both_ways_ms + 2000 / rate_out + 1000 / rate_in
    by_hand = followed.process(audio + bytes(len(parts[1]) * rate_in // rate_out))
    assert parts[0] + parts[1] == by_hand
    assert not any(followed.process(bytes(960))[4:])
    assert ended.process(audio) == parts[0]


def test_the_tail_gives_out_samples_that_waited_for_a_third() -> None:
    resampler = Downsampler()
    audio = to_pcm(tone(1000, 24000, 0.1))[:-2]  # two samples of three at the end
    out = resampler.process(audio) + resampler.tail()
    assert out[: 2 * 800] == Downsampler().process(audio + bytes(2))
    assert len(out) == 2 * (800 + 40)


@RATES
def test_reset_forgets_the_past_and_a_half_sample(rate_in: int, rate_out: int) -> None:
    resampler = Resampler(rate_in, rate_out)
    resampler.process(to_pcm(mixed_noise(8000, 0.1)) + b"\x55")
    resampler.reset()
    audio = to_pcm(tone(700, 8000, 0.06))
    assert resampler.process(audio) == Resampler(rate_in, rate_out).process(audio)


@RATES
def test_the_tail_drops_a_half_sample(rate_in: int, rate_out: int) -> None:
    odd, even = Resampler(rate_in, rate_out), Resampler(rate_in, rate_out)
    audio = to_pcm(mixed_noise(8000, 0.1))
    assert odd.process(audio + b"\x55") + odd.tail() == even.process(audio) + even.tail()


def test_a_frame_of_the_phone_is_a_frame_of_the_model() -> None:
    assert len(Upsampler().process(bytes(320))) == 960
    assert len(Downsampler().process(bytes(960))) == 320
    assert Upsampler().process(b"") == Downsampler().process(b"") == Downsampler().process(bytes(5)) == b""
