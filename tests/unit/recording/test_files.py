"""The folder of recordings: a file that grows, what was left behind, what is old."""

from __future__ import annotations

import os
import time
import wave
from pathlib import Path

import pytest

from gateway.audio.pcm import PHONE, WIDEBAND, PcmFormat
from gateway.audio.wav import read_stereo_wav
from gateway.ids import CallId
from gateway.recording import files as recordings
from gateway.recording.files import HEADER_BYTES, GrowingWav, delete_old, recover

pytestmark = pytest.mark.unit

AT = 1_700_000_000.0  # 14 November 2023, 22:13:20 UTC
NAME = "20231114-221320-one.wav"
FRAMES = bytes(range(1, 201)) * 4  # 200 sample pairs
CALL = CallId("one")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("fmt", [PHONE, WIDEBAND])
def test_a_recording_has_its_own_name_only_when_it_is_complete(tmp_path: Path, fmt: PcmFormat) -> None:
    folder = tmp_path / "not" / "made" / "yet"
    file = GrowingWav(folder, CALL, fmt, AT)
    file.append(FRAMES)
    file.append(FRAMES)
    assert names(folder) == [f"{NAME}.part"]
    assert file.seconds == 400 / fmt.rate_hz

    assert file.complete() == folder / NAME
    assert names(folder) == [NAME]
    with wave.open(str(folder / NAME), "rb") as read:
        assert (read.getnchannels(), read.getsampwidth(), read.getframerate()) == (2, 2, fmt.rate_hz)
        assert read.readframes(1000) == FRAMES * 2
    assert (folder / NAME).stat().st_mode & 0o007 == 0, "not for everybody on the machine"


def test_a_file_that_still_grows_can_be_listened_to(tmp_path: Path) -> None:
    file = GrowingWav(tmp_path, CALL, PHONE, AT)
    file.append(FRAMES)
    rate_hz, left, right = read_stereo_wav(tmp_path / f"{NAME}.part")
    assert rate_hz == 8000
    assert left == b"".join(FRAMES[at : at + 2] for at in range(0, len(FRAMES), 4))
    assert right == b"".join(FRAMES[at + 2 : at + 4] for at in range(0, len(FRAMES), 4))
    file.complete()


def test_what_was_discarded_leaves_nothing(tmp_path: Path) -> None:
    GrowingWav(tmp_path, CALL, PHONE, AT).discard()
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_says_which(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        GrowingWav(tmp_path / "file" / "folder", CALL, PHONE, AT)


def test_the_format_s_limit_is_seen_before_it_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = bytes(4 * PHONE.rate_hz)
    monkeypatch.setattr(recordings, "MAX_DATA_BYTES", 3 * len(second))
    file = GrowingWav(tmp_path, CALL, PHONE, AT)
    fills = []
    for _ in range(3):
        file.append(second)
        fills.append(file.is_full)
    assert fills == [False, False, True]
    file.complete()


def leave_behind(folder: Path, data: bytes, *, rate_hz: int = 8000, name: str = NAME) -> Path:
    part = folder / f"{name}.part"
    part.write_bytes(recordings._header(rate_hz, recordings.MAX_DATA_BYTES) + data)
    return part


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_what_a_dead_process_left_is_completed_to_the_last_whole_sample(tmp_path: Path, cut: int) -> None:
    leave_behind(tmp_path, FRAMES[: len(FRAMES) - cut], rate_hz=16000)
    assert recover(tmp_path, AT) == ([tmp_path / NAME], [])
    assert names(tmp_path) == [NAME]
    with wave.open(str(tmp_path / NAME), "rb") as read:
        assert read.getframerate() == 16000
        assert read.readframes(1000) == FRAMES[: (len(FRAMES) - cut) // 4 * 4]
    assert recover(tmp_path, AT) == ([], [])


def test_a_leftover_without_sound_is_removed_unless_it_was_only_just_made(tmp_path: Path) -> None:
    part = tmp_path / f"{NAME}.part"
    part.write_bytes(b"RIFF")
    assert recover(tmp_path, time.time()) == ([], [])
    assert part.exists()
    assert recover(tmp_path, time.time() + 120) == ([], [])
    assert not part.exists()


def test_a_file_that_a_living_process_writes_is_left_to_it(tmp_path: Path) -> None:
    file = GrowingWav(tmp_path, CALL, PHONE, AT)
    file.append(FRAMES)
    assert recover(tmp_path, time.time() + 1000) == ([], [])
    assert names(tmp_path) == [f"{NAME}.part"]
    file.append(FRAMES)
    assert file.complete().stat().st_size == HEADER_BYTES + 2 * len(FRAMES)


def test_files_that_are_not_ours_are_neither_completed_nor_deleted(tmp_path: Path) -> None:
    strange = ["song.wav", "song.wav.part", "20231114-221320-one.mp3", "x20231114-221320-one.wav", ".wav", "a b.part"]
    for name in strange:
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / NAME).symlink_to(tmp_path / "song.wav")
    (tmp_path / "20231114-221320-two.wav").mkdir()
    before = names(tmp_path)
    assert recover(tmp_path, AT) == ([], [])
    assert delete_old(tmp_path, 1, AT) == []
    assert names(tmp_path) == before


def test_one_that_cannot_be_completed_does_not_stop_the_others(tmp_path: Path) -> None:
    broken = tmp_path / "20231114-221319-bad.wav.part"
    broken.write_bytes(bytes(1000))
    leave_behind(tmp_path, FRAMES)
    completed, problems = recover(tmp_path, AT)
    assert completed == [tmp_path / NAME]
    assert len(problems) == 1
    assert str(broken) in problems[0]
    assert "header" in problems[0]
    assert broken.exists()


def test_recordings_older_than_wanted_are_deleted_by_their_last_change(tmp_path: Path) -> None:
    for name, age_days in (("old", 8), ("young", 6), ("part", 9)):
        path = tmp_path / f"20231114-221320-{name}.wav{'.part' if name == 'part' else ''}"
        path.write_bytes(b"")
        os.utime(path, (AT - age_days * 86_400,) * 2)
    assert delete_old(tmp_path, 7, AT) == [tmp_path / "20231114-221320-old.wav"]
    assert names(tmp_path) == ["20231114-221320-part.wav.part", "20231114-221320-young.wav"]


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert recover(tmp_path / "none", AT) == ([], [])
    assert delete_old(tmp_path / "none", 1, AT) == []
