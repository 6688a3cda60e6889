"""What the caller hears while the agent is away or a tool takes its time: a soft tone, or a file of your own."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from gateway.audio.pcm import BYTES_PER_SAMPLE, PHONE, WIDEBAND, PcmFormat
from gateway.audio.resample import Resampler, delay_ms
from gateway.audio.wav import read_wav
from gateway.errors import ConfigError

TONE = "tone"
NONE = "none"

LOOP_S = 4.0
"""One round of the tone; it ends in silence, so that the next one follows without a click."""

LEVEL_DBFS = -30.0
"""RMS level of the tone while it sounds, against the largest sample."""

FADE_MS = 5
"""A filler begins and ends over this long, or it would click."""

_PULSES_S = (0.2, 0.7)  # two soft notes, then silence to the end of the round
_PULSE_S = 0.45
_NOTES_HZ = (440.0, 554.37)  # a and c sharp: a third up, which no busy or ringing tone has (ITU-T E.180)
_OVERTONE = 0.15  # share of the octave: rounder than a bare sine
_FILE_RATES_HZ = (PHONE.rate_hz, WIDEBAND.rate_hz)
_ROUND_MS = 10  # more than the resampler's filter is long


def tone_filler(fmt: PcmFormat = PHONE) -> bytes:
    """
    Return a round of the comfort tone: two soft notes every ``LOOP_S`` seconds.

    Returns:
        Signed 16-bit little-endian mono PCM in ``fmt`` that begins and ends in silence.
    """
    rate_hz = fmt.rate_hz
    sound = np.zeros(round(LOOP_S * rate_hz))
    count = round(_PULSE_S * rate_hz)
    seconds = np.arange(count) / rate_hz
    swell = np.hanning(count)
    for start_s, note_hz in zip(_PULSES_S, _NOTES_HZ, strict=True):
        wave = np.sin(2 * np.pi * note_hz * seconds) + _OVERTONE * np.sin(4 * np.pi * note_hz * seconds)
        start = round(start_s * rate_hz)
        sound[start : start + count] += wave * swell
    sounding = sound[sound != 0]
    level = 32767 * 10 ** (LEVEL_DBFS / 20)
    samples = np.rint(sound * level / np.sqrt(np.mean(sounding**2))).astype("<i2")
    return bytes(samples)


def load_filler(name: str, base: Path, fmt: PcmFormat = PHONE) -> bytes:
    """
    Return the filler that a profile names.

    Args:
        name: ``tone``, ``none`` or the path of a WAV file: 8 or 16 kHz, mono, 16 bits.
        base: directory that a relative path starts from.
        fmt: what the call's leg carries; a file of the other rate is converted, once, here.

    Returns:
        Signed 16-bit little-endian mono PCM in ``fmt``, to be repeated; empty for ``none``.

    Raises:
        ConfigError: no such file, or one of another kind; says which and the cure.
    """
    if name == NONE:
        return b""
    if name == TONE:
        return tone_filler(fmt)
    path = base / name
    rate_hz, pcm = read_wav(path)
    if rate_hz not in _FILE_RATES_HZ:
        raise ConfigError(
            f"{path}: {rate_hz} samples per second, a filler has {' or '.join(map(str, _FILE_RATES_HZ))}; "
            f"convert it, for example: sox {path} -r {PHONE.rate_hz} out.wav"
        )
    if not any(pcm):
        raise ConfigError(f"{path}: nothing but silence; give a file with sound, or filler: {NONE}")
    return pcm if rate_hz == fmt.rate_hz else _converted(pcm, PcmFormat(rate_hz), fmt)


def _converted(pcm: bytes, source: PcmFormat, fmt: PcmFormat) -> bytes:
    """Return a loop at another rate: its end goes before it and its beginning behind, so that the seam stays smooth."""
    whole = pcm[: len(pcm) // (2 * BYTES_PER_SAMPLE) * (2 * BYTES_PER_SAMPLE)]  # whole samples at 8 kHz too
    rounds = whole * (source.bytes_of(_ROUND_MS) // max(1, len(whole)) + 1)
    margin = source.bytes_of(_ROUND_MS)
    out = Resampler(source.rate_hz, fmt.rate_hz).process(rounds[-margin:] + whole + rounds[:margin])
    late = round((_ROUND_MS + delay_ms(source.rate_hz, fmt.rate_hz)) * fmt.rate_hz / 1000) * BYTES_PER_SAMPLE
    return out[late : late + len(whole) * fmt.rate_hz // source.rate_hz]


@functools.lru_cache(maxsize=16)
def _with_beginning_behind(pcm: bytes, length: int, frame_bytes: int) -> bytes:
    """
    Return a loop with its beginning once more behind its end, so that every frame of it is one slice.

    Kept: the calls share it. A call's own copies would stay until the next full collection of garbage, 130 kB each.
    """
    whole = pcm[:length]
    return whole + (whole * (frame_bytes // length + 1))[:frame_bytes] if whole else whole


class FillerLoop:
    """
    A filler cut into frames, over and over, and faded where it begins and ends.

    Not locked: its owner holds the lock.

    Args:
        pcm: what is repeated, in ``fmt``; empty is silence.
        fmt: format of the frames.

    Attributes:
        active: ``blend`` has something to add; as long as it is False it need not be called.
    """

    def __init__(self, pcm: bytes, fmt: PcmFormat) -> None:
        self._frame_bytes = fmt.frame_bytes
        self._length = len(pcm) // BYTES_PER_SAMPLE * BYTES_PER_SAMPLE
        self._pcm = _with_beginning_behind(pcm, self._length, fmt.frame_bytes)
        self._at = 0
        self._rise = np.linspace(0.0, 1.0, fmt.rate_hz * FADE_MS // 1000)
        self._wanted = False
        self._sounding = False  # the last frame was ours
        self.active = False

    def start(self) -> None:
        """Sound from the beginning in every frame that has no speech, from the next one on."""
        if self._length and not self._wanted:
            self._wanted = self.active = True
            self._at = 0

    def stop(self) -> None:
        """Fade out."""
        self._wanted = False
        self.active = self._sounding

    def blend(self, speech: bytes | None, *, held: bool) -> bytes | None:
        """
        Return what goes out in this frame.

        Args:
            speech: the agent's; None when there is none.
            held: the agent is held up while the caller speaks: nothing is to sound.
        """
        if speech is None and self._wanted and not held:
            frame = self._next_frame()
            if not self._sounding:
                self._sounding = True
                frame = _faded(frame, self._rise)
            return frame
        if self._sounding:
            self._sounding = False
            self.active = self._wanted
            speech = _with_tail(speech or bytes(self._frame_bytes), self._next_frame(), self._rise[::-1])
        return speech

    def _next_frame(self) -> bytes:
        frame = self._pcm[self._at : self._at + self._frame_bytes]
        self._at = (self._at + self._frame_bytes) % self._length
        return frame


def _faded(frame: bytes, gain: np.ndarray) -> bytes:
    samples = np.frombuffer(frame, "<i2").astype(np.float64)
    samples[: gain.size] *= gain
    return bytes(samples.astype("<i2"))


def _with_tail(speech: bytes, filler: bytes, gain: np.ndarray) -> bytes:
    """Add the first samples of a frame of filler, fading, to a frame of speech."""
    mixed = np.frombuffer(speech, "<i2").astype(np.float64)
    mixed[: gain.size] += np.frombuffer(filler, "<i2", count=gain.size) * gain
    return bytes(np.clip(mixed, -32768, 32767).astype("<i2"))
