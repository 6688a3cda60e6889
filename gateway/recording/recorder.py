"""
Recording of calls: the clock appends both sides' frames, one thread per process writes them to disk.

A disk that is slow or full never reaches the audio: ``CallRecorder`` has a bounded queue per call, which the clock
fills and goes on (``audio/both_sides.py``); when it is full, the oldest frames go. The thread ``recorder`` of
``RecordingWriter`` empties all queues four times a second, while there are any, into files that grow
(``files.GrowingWav``), caller left, agent right. The loop orders files begun and finished, and learns the outcome as an
event of the call (``RecordingSaved``, ``RecordingFailed``). The end of a call waits for its file, with a limit. Files
that a dead process left behind are completed at the next start. See ``docs/recording.md``.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import time
from collections.abc import Callable

import structlog

from gateway.audio.both_sides import BothSides, interleaved
from gateway.audio.pcm import PcmFormat
from gateway.call.events import RecordingFailed, RecordingSaved
from gateway.call.ports import EmitEvent
from gateway.ids import CallId
from gateway.recording.files import GrowingWav, delete_old, recover
from gateway.settings.sections import RecordingSettings
from gateway.threads import new_thread, run_in_pool, runs_on

_log = structlog.get_logger(__name__)

QUEUE_MS = 10_000
"""How long the disk may keep the writer waiting before the oldest audio of a call is lost."""

WRITE_EVERY_S = 0.25
CLOSE_LIMIT_S = 3.0
"""How long the end of a call waits for its file."""

_TIDY_EVERY_S = 3600.0


class CallRecorder:
    """
    The recording of one call: ``call/ports.py: Recorder``, and where the clock leaves the frames (``AudioTap``).

    Args:
        call_id: names the file.
        writer: the process's; must have been started.
        fmt: format of the frames.
    """

    def __init__(self, call_id: CallId, writer: RecordingWriter, fmt: PcmFormat) -> None:
        self.call_id = call_id
        self.fmt = fmt
        self._writer = writer
        self._sides = BothSides(fmt, QUEUE_MS)
        self._recording = False  # read by the clock, written by the loop, cleared by the writer when it fails
        self._failed = False
        self._told: EmitEvent | None = None
        self._done: asyncio.Future[tuple[str, float] | None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._recorded_s = 0.0  # up to the last pause
        self._stretches: list[tuple[float, float]] = []

    @property
    def dropped_frames(self) -> int:
        """Frames that were lost because the disk kept the writer waiting."""
        return self._sides.dropped_frames

    # The call's orders

    @runs_on("loop")
    def start(self, emit: EmitEvent) -> None:
        """Record from the next frame on; once the recording has failed or was closed nothing happens."""
        if self._failed or self._done is not None:
            return
        self._told = emit
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._writer.begin(self)
        if not self._recording:
            self._stretches.append((round(self._recorded_s, 3), round(time.time(), 3)))
        self._recording = True

    @runs_on("loop")
    def pause(self) -> None:
        """Record nothing until ``start``; the pause takes no time in the file."""
        if self._recording:
            self._recorded_s += time.time() - self._stretches[-1][1]
        self._recording = False

    @runs_on("loop")
    async def close(self) -> None:
        """
        Complete the file, within ``CLOSE_LIMIT_S``.

        ``RecordingSaved`` is emitted before it returns, unless nothing was recorded; also after a failure, for what was
        recorded until then. Where the disk takes longer ``RecordingFailed`` is, and the file is completed later. Safe
        more than once.
        """
        self._recording = False
        if self._loop is None:
            return
        if self._done is None:
            self._done = self._loop.create_future()
            self._writer.finish(self)
            try:
                saved = await asyncio.wait_for(asyncio.shield(self._done), CLOSE_LIMIT_S)
            except TimeoutError:
                self._tell_failed(f"the disk did not take the recording within {CLOSE_LIMIT_S:g} s of the call's end")
                return
            if saved is not None and self._told is not None:
                self._told(RecordingSaved(self.call_id, *saved, tuple(self._stretches)))

    # The clock

    @runs_on("clock")
    def write_agent(self, frame: bytes | None) -> None:
        """Lay down the agent's frame of this tick, None for silence. Thread: clock; never waits."""
        if self._recording:
            self._sides.write_agent(frame)
        else:
            self._sides.forget_tick()

    @runs_on("clock")
    def write_caller(self, frame: bytes | None) -> None:
        """Lay down the caller's frame of this tick, None for silence. Thread: clock; never waits."""
        if self._recording:
            self._sides.write_caller(frame)

    # The writer

    @runs_on("recorder")
    def take(self) -> bytes:
        """Return what waits, interleaved: caller, agent, caller, agent; at most a second of it."""
        return interleaved(*self._sides.take(1000))

    @runs_on("recorder")
    def fail(self, detail: str) -> None:
        """Stop recording for good, and tell the call."""
        self._recording = False
        self._failed = True
        self._sides.clear()
        self._on_loop(self._tell_failed, detail)

    @runs_on("recorder")
    def finished(self, saved: tuple[str, float] | None) -> None:
        """Say that nothing more will be written; ``saved`` is the file's path and its seconds, None without a file."""
        self._on_loop(self._settle, saved)

    def _on_loop(self, told: Callable[..., None], *args: object) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
            self._loop.call_soon_threadsafe(told, *args)

    def _settle(self, saved: tuple[str, float] | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(saved)

    def _tell_failed(self, detail: str) -> None:
        if self._told is not None:
            self._told(RecordingFailed(self.call_id, detail))


class RecordingWriter:
    """
    The thread ``recorder`` that writes all recordings of a process, completes what a dead one left, deletes old ones.

    Args:
        settings: folder, and how long recordings are kept.
        tidy: deletes other old files whenever old recordings are; given the time in Unix seconds.
    """

    def __init__(self, settings: RecordingSettings, tidy: Callable[[float], None] = lambda now: None) -> None:
        self._tidy_others = tidy
        self._folder = settings.folder.absolute()  # a record's path is read elsewhere
        self._keep_days = settings.keep_days
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._files: dict[CallRecorder, GrowingWav | None] = {}  # None: it failed, and nothing of it was kept
        self._kept: dict[CallRecorder, tuple[str, float]] = {}  # what a failed one has left
        self._thread = new_thread("recorder", self._run)

    @runs_on("loop")
    def start(self) -> None:
        """Start the thread; it completes what earlier processes left behind first."""
        self._thread.start()

    @runs_on("loop")
    async def stop(self, limit_s: float = CLOSE_LIMIT_S) -> None:
        """Complete every file and end the thread; give up after ``limit_s``: what is not complete then is left over."""
        if not self._thread.is_alive():
            return
        self._orders.put(None)
        await run_in_pool(lambda: self._thread.join(limit_s))
        if self._thread.is_alive():
            _log.warning("the disk keeps recordings waiting; they are completed at the next start")

    @runs_on("loop")
    def begin(self, recorder: CallRecorder) -> None:
        """Make a file for this recorder and empty its queue into it from now on."""
        started_at = time.time()
        self._orders.put(lambda: self._begin(recorder, started_at))

    @runs_on("loop")
    def finish(self, recorder: CallRecorder) -> None:
        """Write the rest and complete the file; ``CallRecorder.finished`` follows."""
        self._orders.put(lambda: self._finish(recorder))

    # On the thread

    def _run(self) -> None:
        tidy_at = 0.0
        while True:
            order = None
            with contextlib.suppress(queue.Empty):
                due_s = max(0.0, tidy_at - time.monotonic())
                order = self._orders.get(timeout=min(due_s, WRITE_EVERY_S) if self._files else due_s)
                if order is None:
                    break
            if time.monotonic() >= tidy_at:
                self._tidy()
                tidy_at = time.monotonic() + _TIDY_EVERY_S
            if order is not None:
                order()
            for recorder in self._files:
                self._write(recorder)
        for recorder in list(self._files):
            self._finish(recorder)

    def _begin(self, recorder: CallRecorder, started_at: float) -> None:
        try:
            file = GrowingWav(self._folder, recorder.call_id, recorder.fmt, started_at)
        except OSError as error:
            self._files[recorder] = None
            recorder.fail(self._told(error))
        else:
            self._files[recorder] = file

    def _write(self, recorder: CallRecorder) -> None:
        file = self._files[recorder]
        while file is not None and (frames := recorder.take()):
            try:
                file.append(frames)
            except OSError as error:
                self._give_up(recorder, file, self._told(error))
                return
            if file.is_full:
                self._give_up(recorder, file, f"{file.path}: a WAV file holds no more")
                return

    def _give_up(self, recorder: CallRecorder, file: GrowingWav, detail: str) -> None:
        """Stop one recording for good and keep what there is of it."""
        self._files[recorder] = None
        saved = self._complete(recorder, file)
        if saved is not None:
            self._kept[recorder] = saved
        recorder.fail(detail)

    def _finish(self, recorder: CallRecorder) -> None:
        self._write(recorder)
        file = self._files.pop(recorder)
        kept = self._kept.pop(recorder, None)
        recorder.finished(kept if file is None else self._complete(recorder, file))

    def _complete(self, recorder: CallRecorder, file: GrowingWav) -> tuple[str, float] | None:
        if not file.seconds:
            file.discard()
            return None
        if recorder.dropped_frames:
            lost_ms = recorder.dropped_frames * recorder.fmt.ptime_ms
            _log.warning("the disk was too slow for a recording", path=str(file.path), lost_ms=lost_ms)
        try:
            return str(file.complete()), file.seconds
        except OSError as error:
            recorder.fail(self._told(error))
            return None

    def _tidy(self) -> None:
        now = time.time()
        self._tidy_others(now)
        try:
            completed, problems = recover(self._folder, now)
            for path in completed:
                _log.info("completed a recording that a dead process had left", path=str(path))
            for problem in problems:
                _log.warning("cannot complete a recording that was left behind", problem=problem)
            if self._keep_days:
                for path in delete_old(self._folder, self._keep_days, now):
                    _log.info("deleted an old recording", path=str(path))
        except OSError as error:
            _log.warning("cannot tidy the recordings", problem=self._told(error))

    def _told(self, error: OSError) -> str:
        return f"{error.filename or self._folder}: {error.strerror or error}"
