"""WAV files: what is written can be read, and what cannot be read is told with its cure."""

from __future__ import annotations

import stat
import struct
import wave
from pathlib import Path

import pytest

from gateway.audio.wav import read_wav, write_wav
from gateway.errors import ConfigError

pytestmark = pytest.mark.unit

LEFT = struct.pack("<4h", 1, -2, 32767, -32768)
RIGHT = struct.pack("<2h", 10, 20)


def test_a_mono_file_comes_back_as_written(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", 24000, LEFT)
    assert read_wav(tmp_path / "a.wav") == (24000, LEFT)


def test_the_shorter_channel_of_a_stereo_file_is_padded(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", 8000, LEFT, RIGHT)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
        assert struct.unpack("<8h", file.readframes(9)) == (1, 10, -2, 20, 32767, 0, -32768, 0)


def test_missing_directories_are_made_and_an_older_file_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out" / "deep" / "a.wav"
    write_wav(path, 8000, LEFT)
    write_wav(path, 8000, b"")
    assert read_wav(path) == (8000, b"")
    assert [entry.name for entry in path.parent.iterdir()] == ["a.wav"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_write_that_fails_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_wav(path, 8000, LEFT)
    with pytest.raises(wave.Error):
        write_wav(path, 0, RIGHT)
    assert read_wav(path) == (8000, LEFT)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.wav"]


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"file/a\.wav"):
        write_wav(tmp_path / "file" / "a.wav", 8000, LEFT)


def test_half_a_sample_at_the_end_is_dropped(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", 8000, LEFT + b"\x01")
    assert read_wav(tmp_path / "a.wav") == (8000, LEFT)


@pytest.mark.parametrize("channels", [(), (b"", b"", b"")])
def test_other_numbers_of_channels_are_refused(tmp_path: Path, channels: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="one or two channels"):
        write_wav(tmp_path / "a.wav", 8000, *channels)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.wav: No such file"):
        read_wav(tmp_path / "none.wav")


@pytest.mark.parametrize("content", [b"", b"RIFF", b"hello, this is no audio at all"])
def test_a_file_that_is_no_wav_is_told_with_the_cure(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.wav: not a WAV file of PCM .*convert it"):
        read_wav(path)


def test_stereo_is_told_with_the_cure(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", 8000, LEFT, RIGHT)
    with pytest.raises(ConfigError, match=r"a\.wav: 2 channels, mono is wanted; convert it"):
        read_wav(tmp_path / "a.wav")


def test_eight_bits_are_told_with_the_cure(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(bytes(100))
    with pytest.raises(ConfigError, match=r"a\.wav: 8 bits per sample, 16 are wanted; convert it"):
        read_wav(tmp_path / "a.wav")
