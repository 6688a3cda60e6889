"""WAV files of speech: 16-bit PCM, read as mono, written as mono or stereo."""

from __future__ import annotations

import contextlib
import os
import tempfile
import wave
from pathlib import Path

import numpy as np

from gateway.audio.pcm import BYTES_PER_SAMPLE, PcmFormat
from gateway.audio.resample import Resampler, delay_ms
from gateway.errors import ConfigError

_FILE_MODE = 0o644


def read_wav(path: Path) -> tuple[int, bytes]:
    """
    Load a mono 16-bit PCM file.

    Returns:
        (samples per second, signed 16-bit little-endian mono PCM)

    Raises:
        ConfigError: no such file, or another kind of file; says which and the cure.
    """
    rate_hz, (pcm,) = _read_tracks(path, 1)
    return rate_hz, pcm


def read_stereo_wav(path: Path) -> tuple[int, bytes, bytes]:
    """Load a stereo 16-bit PCM file: (samples per second, left, right); otherwise as ``read_wav``."""
    rate_hz, (left, right) = _read_tracks(path, 2)
    return rate_hz, left, right


def _read_tracks(path: Path, wanted: int) -> tuple[int, list[bytes]]:
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate_hz = file.getnchannels(), file.getsampwidth(), file.getframerate()
            pcm = file.readframes(file.getnframes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; give a WAV file that can be read") from None
    except (wave.Error, EOFError) as error:
        problem = str(error) or "the file ends too early"
        raise ConfigError(f"{path}: not a WAV file of PCM ({problem}); {_cure(path, wanted)}") from None
    if channels != wanted:
        kind = {1: "mono", 2: "stereo"}[wanted]
        raise ConfigError(f"{path}: {channels} channels, {kind} is wanted; {_cure(path, wanted)}")
    if width != BYTES_PER_SAMPLE:
        raise ConfigError(f"{path}: {8 * width} bits per sample, 16 are wanted; {_cure(path, wanted)}")
    frames = np.frombuffer(pcm, "<i2", count=len(pcm) // (BYTES_PER_SAMPLE * wanted) * wanted).reshape(-1, wanted)
    return rate_hz, [frames[:, column].tobytes() for column in range(wanted)]


def _cure(path: Path, channels: int) -> str:
    return f"convert it, for example: sox {path} -b 16 -c {channels} out.wav"


def write_wav(path: Path, rate_hz: int, *channels: bytes) -> None:
    """
    Write a file, whole or not at all; missing directories are made.

    Args:
        path: the file; an older one is replaced.
        rate_hz: samples per second.
        channels: one (mono) or two (left, right) of signed 16-bit little-endian PCM; the shorter is padded
            with silence, half a sample at an end is dropped.

    Raises:
        ConfigError: the file cannot be written.
    """
    if not 1 <= len(channels) <= 2:
        raise ValueError(f"one or two channels, not {len(channels)}")
    frames = _interleave(channels)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path, rate_hz, len(channels), frames)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; give a path that can be written") from None


def _interleave(channels: tuple[bytes, ...]) -> bytes:
    tracks = [np.frombuffer(pcm, "<i2", count=len(pcm) // BYTES_PER_SAMPLE) for pcm in channels]
    frames = np.zeros((max(track.size for track in tracks), len(tracks)), dtype="<i2")
    for column, track in enumerate(tracks):
        frames[: track.size, column] = track
    return frames.tobytes()


def _write_whole(path: Path, rate_hz: int, channels: int, frames: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as raw:
            os.fchmod(descriptor, _FILE_MODE)  # mkstemp lets only the owner read
            with wave.open(raw, "wb") as file:
                file.setnchannels(channels)
                file.setsampwidth(BYTES_PER_SAMPLE)
                file.setframerate(rate_hz)
                file.writeframes(frames)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def load_sound(path: Path, fmt: PcmFormat) -> bytes:
    """
    Return a WAV file (8 or 16 kHz, mono, 16 bits) as signed 16-bit little-endian mono PCM in ``fmt``.

    Raises:
        ConfigError: no such file, or one of another kind; says which and the cure.
    """
    rate_hz, pcm = read_wav(path)
    if rate_hz == fmt.rate_hz:
        return pcm
    late = bytes(round(delay_ms(rate_hz, fmt.rate_hz) * rate_hz / 1000) * BYTES_PER_SAMPLE)
    return Resampler(rate_hz, fmt.rate_hz).process(pcm + late)
