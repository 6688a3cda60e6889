"""Recording with its thread and a real disk: aligned, paused, full, slow, and killed in the middle."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.audio.pcm import PHONE, WIDEBAND, PcmFormat
from gateway.audio.wav import read_stereo_wav
from gateway.call.events import CallEvent, RecordingFailed, RecordingSaved
from gateway.ids import CallId
from gateway.recording import recorder as module
from gateway.recording.files import GrowingWav
from gateway.recording.recorder import CallRecorder, RecordingWriter
from gateway.settings.sections import RecordingSettings
from tests.fakes.threads import on_clock
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

CALL = CallId("018c0ffee00abcdef")


def frame(value: int, fmt: PcmFormat = PHONE) -> bytes:
    return np.full(fmt.frame_samples, value, "<i2").tobytes()


@asynccontextmanager
async def a_writer(folder: Path, keep_days: float = 0) -> AsyncIterator[RecordingWriter]:
    writer = RecordingWriter(RecordingSettings(folder=folder, keep_days=keep_days))
    writer.start()
    try:
        yield writer
    finally:
        await writer.stop()


async def ticks(recorder: CallRecorder, first: int, count: int) -> None:
    """The caller counts up, the agent down, a number for each frame."""

    def play() -> None:
        for number in range(first, first + count):
            recorder.write_agent(frame(-number, recorder.fmt))
            recorder.write_caller(frame(number, recorder.fmt))

    await on_clock(play)


def numbers(path: Path, fmt: PcmFormat = PHONE) -> tuple[list[int], list[int]]:
    """Return what stands in each frame of the caller and of the agent."""
    rate_hz, left, right = read_stereo_wav(path)
    assert rate_hz == fmt.rate_hz

    def each(pcm: bytes) -> list[int]:
        rows: NDArray[np.int16] = np.frombuffer(pcm, "<i2").reshape(-1, fmt.frame_samples)
        assert (rows == rows[:, :1]).all(), "a frame is whole"
        return [int(row[0]) for row in rows]

    return each(left), each(right)


@pytest.mark.parametrize("fmt", [PHONE, WIDEBAND])
async def test_caller_left_agent_right_frame_by_frame(tmp_path: Path, fmt: PcmFormat) -> None:
    told: list[CallEvent] = []
    async with a_writer(tmp_path) as writer:
        recorder = CallRecorder(CALL, writer, fmt)
        recorder.start(told.append)
        await ticks(recorder, 1, 125)
        await recorder.close()
    (saved,) = told
    assert isinstance(saved, RecordingSaved)
    assert saved.seconds == 2.5
    path = Path(saved.path)
    assert path.parent == tmp_path
    assert path.name.endswith(f"-{CALL}.wav")
    assert numbers(path, fmt) == (list(range(1, 126)), [-number for number in range(1, 126)])
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


async def test_a_pause_takes_no_time_in_the_file(tmp_path: Path) -> None:
    told: list[CallEvent] = []
    async with a_writer(tmp_path) as writer:
        recorder = CallRecorder(CALL, writer, PHONE)
        await ticks(recorder, 1, 5)  # not yet
        recorder.start(told.append)
        await ticks(recorder, 10, 3)
        recorder.pause()
        await ticks(recorder, 20, 50)
        recorder.start(told.append)
        await ticks(recorder, 80, 2)
        await recorder.close()
        await ticks(recorder, 90, 2)
        await recorder.close()
        recorder.start(told.append)
    (saved,) = told
    assert isinstance(saved, RecordingSaved)
    (path,) = tmp_path.iterdir()
    assert numbers(path)[0] == [10, 11, 12, 80, 81]
    (first, first_at), (second, second_at) = saved.stretches
    assert first == 0
    assert 0 <= second <= second_at - first_at + 0.001, "what was recorded before the pause, and not the pause"


async def test_frames_that_are_missing_are_silence_and_the_rest_stays_aligned(tmp_path: Path) -> None:
    told: list[CallEvent] = []

    def play(recorder: CallRecorder) -> None:
        for step in ("a1", "c1", "a2", "a3", "c3", "c4", "a5", "c5", "a-", "c6", "a7", "c-", "a8", "c8"):
            side, number = step[0], step[1]
            piece = None if number == "-" else frame(int(number))
            (recorder.write_agent if side == "a" else recorder.write_caller)(piece)
        recorder.write_agent(frame(9))
        recorder.write_caller(frame(9)[:100])

    async with a_writer(tmp_path) as writer:
        recorder = CallRecorder(CALL, writer, PHONE)
        recorder.start(told.append)
        await on_clock(lambda: play(recorder))
        await recorder.close()
    _, left, right = read_stereo_wav(next(tmp_path.iterdir()))
    firsts = [np.frombuffer(pcm, "<i2")[::160].tolist() for pcm in (left, right)]
    assert firsts == [[1, 0, 3, 4, 5, 6, 0, 8, 9], [1, 2, 3, 0, 5, 0, 7, 8, 9]]


async def test_the_file_grows_while_the_call_goes_on(tmp_path: Path) -> None:
    async with a_writer(tmp_path) as writer:
        recorder = CallRecorder(CALL, writer, PHONE)
        recorder.start(lambda event: None)
        await ticks(recorder, 1, 50)
        await until(lambda: [path.stat().st_size for path in tmp_path.iterdir()] == [44 + 50 * 640])
        await recorder.close()


async def test_a_recording_without_a_frame_leaves_no_file_and_says_nothing(tmp_path: Path) -> None:
    told: list[CallEvent] = []
    async with a_writer(tmp_path) as writer:
        started, never = CallRecorder(CALL, writer, PHONE), CallRecorder(CALL, writer, PHONE)
        started.start(told.append)
        await started.close()
        await never.close()
    assert told == []
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_cannot_be_written_is_told_once_and_the_call_goes_on(tmp_path: Path) -> None:
    told: list[CallEvent] = []
    (tmp_path / "file").write_text("")
    async with a_writer(tmp_path / "file" / "recordings") as writer:
        recorder = CallRecorder(CALL, writer, PHONE)
        recorder.start(told.append)
        await until(lambda: told)
        recorder.start(told.append)
        await ticks(recorder, 1, 100)
        await recorder.close()
    (failed,) = told
    assert isinstance(failed, RecordingFailed)
    assert str(tmp_path / "file") in failed.detail


FULL_DISK = """
import asyncio, resource, signal, sys
from pathlib import Path
from gateway.audio.pcm import PHONE
from gateway.recording.recorder import CallRecorder, RecordingWriter
from gateway.ids import CallId
from gateway.settings.sections import RecordingSettings

async def main():
    folder, room = Path(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    writer = RecordingWriter(RecordingSettings(folder=folder))
    writer.start()
    told = []
    recorder = CallRecorder(CallId("full"), writer, PHONE)
    recorder.start(told.append)
    for number in range(200):
        recorder.write_agent(bytes([1, 0]) * 160)
        recorder.write_caller(bytes([2, 0]) * 160)
        if number % 50 == 49:
            await asyncio.sleep(0.3)
    await recorder.close()
    await writer.stop()
    for event in told:
        print(type(event).__name__, getattr(event, "detail", None) or event.seconds)

asyncio.run(main())
"""


@pytest.mark.parametrize("room", [44 + 20_001, 44])
async def test_a_full_disk_ends_the_recording_and_what_was_written_can_be_played(tmp_path: Path, room: int) -> None:
    command = (sys.executable, "-c", FULL_DISK, str(tmp_path), str(room))
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("RecordingFailed")
    assert str(tmp_path) in lines[0]
    assert [line.split()[0] for line in lines] == ["RecordingFailed", "RecordingSaved"][: 2 if room > 44 else 1]
    if room == 44:
        assert list(tmp_path.iterdir()) == []
        return
    (path,) = tmp_path.iterdir()
    assert path.suffix == ".wav"
    _, left, right = read_stereo_wav(path)
    assert left == bytes([2, 0]) * 5000
    assert right == bytes([1, 0]) * 5000
    assert lines[1] == "RecordingSaved 0.625"


KILLED = """
import asyncio, itertools, sys
from pathlib import Path
from gateway.audio.pcm import PHONE
from gateway.recording.recorder import CallRecorder, RecordingWriter
from gateway.ids import CallId
from gateway.settings.sections import RecordingSettings

async def main():
    writer = RecordingWriter(RecordingSettings(folder=Path(sys.argv[1])))
    writer.start()
    recorder = CallRecorder(CallId("killed"), writer, PHONE)
    recorder.start(print)
    for number in itertools.count():
        recorder.write_agent(bytes([1, 0]) * 160)
        recorder.write_caller(bytes([2, 0]) * 160)
        await asyncio.sleep(0.002)

asyncio.run(main())
"""


async def test_a_recording_whose_process_is_killed_is_completed_at_the_next_start(tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, str(tmp_path))
    try:
        await until(lambda: any(path.stat().st_size > 30_000 for path in tmp_path.iterdir()), 30)
        async with a_writer(tmp_path):  # a neighbour that lives meanwhile keeps its hands off
            await asyncio.sleep(0.4)
            (part,) = tmp_path.iterdir()
            assert part.suffix == ".part"
    finally:
        child.send_signal(signal.SIGKILL)
        await child.wait()
    size = part.stat().st_size
    async with a_writer(tmp_path):
        await until(lambda: not part.exists())
    (path,) = tmp_path.iterdir()
    assert path.name.endswith("-killed.wav")
    _, left, right = read_stereo_wav(path)
    assert len(left) == (size - 44) // 4 * 2 > 10_000
    assert set(left[0::2]) == {2}
    assert set(right[0::2]) == {1}


async def test_a_disk_that_blocks_loses_the_oldest_audio_and_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_MS", 1000)
    blocked, free, append = asyncio.Event(), asyncio.Event(), GrowingWav.append
    loop = asyncio.get_running_loop()

    def slow_append(file: GrowingWav, frames: bytes) -> None:
        if not free.is_set():
            loop.call_soon_threadsafe(blocked.set)
            asyncio.run_coroutine_threadsafe(free.wait(), loop).result(30)
        append(file, frames)

    monkeypatch.setattr(GrowingWav, "append", slow_append)
    told: list[CallEvent] = []
    async with a_writer(tmp_path) as writer:
        recorder = CallRecorder(CALL, writer, PHONE)
        recorder.start(told.append)
        await ticks(recorder, 1, 1)
        await asyncio.wait_for(blocked.wait(), 40)
        await ticks(recorder, 100, 120)
        assert recorder.dropped_frames == 70
        free.set()
        await recorder.close()
    (path,) = tmp_path.iterdir()
    assert numbers(path)[0] == [1, *range(170, 220)]
    assert isinstance(told[0], RecordingSaved)


async def test_the_end_of_a_call_does_not_wait_for_a_disk_that_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_LIMIT_S", 0.3)
    free, complete = asyncio.Event(), GrowingWav.complete
    loop = asyncio.get_running_loop()

    def slow_complete(file: GrowingWav) -> Path:
        asyncio.run_coroutine_threadsafe(free.wait(), loop).result(30)
        return complete(file)

    monkeypatch.setattr(GrowingWav, "complete", slow_complete)
    told: list[CallEvent] = []
    async with a_writer(tmp_path) as writer:
        recorder = CallRecorder(CALL, writer, PHONE)
        recorder.start(told.append)
        await ticks(recorder, 1, 10)
        await asyncio.wait_for(recorder.close(), 40)
        assert [type(event) for event in told] == [RecordingFailed]
        free.set()
    (path,) = tmp_path.iterdir()
    assert numbers(path)[0] == list(range(1, 11)), "completed all the same"


async def test_calls_that_still_record_are_completed_when_the_writer_stops(tmp_path: Path) -> None:
    async with a_writer(tmp_path) as writer:
        recorders = [CallRecorder(CallId(f"call{number}"), writer, PHONE) for number in range(4)]
        for recorder in recorders:
            recorder.start(lambda event: None)
        for recorder in recorders:
            await ticks(recorder, 1, 30)
    assert sorted(path.name[16:] for path in tmp_path.iterdir()) == [f"call{number}.wav" for number in range(4)]
    assert all(numbers(path)[0] == list(range(1, 31)) for path in tmp_path.iterdir())


async def test_old_recordings_are_deleted_and_others_stay(tmp_path: Path) -> None:
    old, new, strange = (tmp_path / name for name in ("20200101-000000-a.wav", "20200101-000000-b.wav", "music.wav"))
    for path in (old, new, strange):
        path.write_bytes(b"")
    for path in (old, strange):
        os.utime(path, (0, 0))
    async with a_writer(tmp_path, keep_days=30):
        await until(lambda: not old.exists())
    assert new.exists()
    assert strange.exists()
