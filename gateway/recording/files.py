"""
The folder of recordings: a WAV file that grows, files a dead process left behind, and old ones.

A recording is ``<YYYYmmdd-HHMMSS>-<call id>.wav`` (UTC), and has ``.part`` behind that while it grows. Files of any
other name are left alone. All of it may wait for the disk: not for ``loop``, ``sip`` or ``clock``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import struct
import time
from pathlib import Path

from gateway.audio.both_sides import CHANNELS
from gateway.audio.pcm import BYTES_PER_SAMPLE, PHONE, WIDEBAND, PcmFormat
from gateway.ids import CallId

STEREO_BYTES = CHANNELS * BYTES_PER_SAMPLE
HEADER_BYTES = 44
MAX_DATA_BYTES = 2**32 - 1 - HEADER_BYTES - STEREO_BYTES
"""What a WAV file can count: 37 hours of 8 kHz, half of that of 16 kHz."""

_FILE_MODE = 0o640  # voices: not for everybody on the machine
_PART = ".part"
_NAME = re.compile(r"\d{8}-\d{6}-[0-9A-Za-z_-]{1,64}\.wav")
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_DAY_S = 86_400
_RATES_HZ = (PHONE.rate_hz, WIDEBAND.rate_hz)
_JUST_MADE_S = 60  # an empty file as young as this may not have its lock yet


def _header(rate_hz: int, data_bytes: int) -> bytes:
    """Return a header of 16-bit stereo PCM (RIFF, Multimedia Programming Interface 1.0, chapter 3)."""
    form = (b"fmt ", 16, 1, CHANNELS, rate_hz, rate_hz * STEREO_BYTES, STEREO_BYTES, 8 * BYTES_PER_SAMPLE)
    return _HEADER.pack(b"RIFF", HEADER_BYTES - 8 + data_bytes, b"WAVE", *form, b"data", data_bytes)


class GrowingWav:
    """
    A stereo recording that is being written.

    Until ``complete`` its name ends in ``.part`` and a lock on it says that its process lives.

    Args:
        folder: made if missing.
        call_id: whose call it is.
        fmt: format of both sides.
        started_at: Unix seconds.

    Raises:
        OSError: the folder or the file cannot be made.
    """

    def __init__(self, folder: Path, call_id: CallId, fmt: PcmFormat, started_at: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(started_at))
        self.path = folder / f"{stamp}-{call_id}.wav"
        self._part = self.path.with_name(self.path.name + _PART)
        self._fmt = fmt
        self._descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
        self._size = 0
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)  # at most for the moment in which another one looks at it
            # Sizes that no file has: players take them for a stream and play to the end of the file.
            self._write(_header(fmt.rate_hz, MAX_DATA_BYTES))
        except OSError:
            self.discard()
            raise

    @property
    def seconds(self) -> float:
        """How much has been written."""
        return max(0, self._size - HEADER_BYTES) // STEREO_BYTES / self._fmt.rate_hz

    @property
    def is_full(self) -> bool:
        """Whether the format counts no further."""
        return self._size - HEADER_BYTES > MAX_DATA_BYTES - self._fmt.rate_hz * STEREO_BYTES

    def append(self, frames: bytes) -> None:
        """
        Write what both sides said next, interleaved; at most a second of it.

        Raises:
            OSError: the disk took less than that; what it took is part of the recording.
        """
        self._write(frames)

    def complete(self) -> Path:
        """
        Write the sizes, wait for the disk, take ``.part`` off the name; return the path.

        Raises:
            OSError: not all of it could be done; the ``.part`` is left for the next start.
        """
        try:
            _finish(self._descriptor, self._part)
        finally:
            os.close(self._descriptor)
        return self.path

    def discard(self) -> None:
        """Leave no file."""
        with contextlib.suppress(OSError):
            self._part.unlink()
        os.close(self._descriptor)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self._descriptor, view)
            self._size += written
            view = view[written:]


def _finish(descriptor: int, part: Path) -> None:
    """Complete an open ``.part``, whichever way its writing ended."""
    rate_hz = _HEADER.unpack(os.pread(descriptor, HEADER_BYTES, 0))[7]
    if rate_hz not in _RATES_HZ:
        raise OSError(errno.EINVAL, "its header is not one of ours", str(part))
    data_bytes = min(os.fstat(descriptor).st_size - HEADER_BYTES, MAX_DATA_BYTES)
    data_bytes -= data_bytes % STEREO_BYTES  # a full disk, or a kill, may have cut a sample in two
    os.ftruncate(descriptor, HEADER_BYTES + data_bytes)
    os.pwrite(descriptor, _header(rate_hz, data_bytes), 0)
    os.fsync(descriptor)
    part.rename(part.with_suffix(""))
    folder = os.open(part.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # or the new name could be lost with the power
    finally:
        os.close(folder)


def _files(folder: Path, ending: str) -> list[Path]:
    """Return the regular files of our own naming."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        return [
            Path(entry.path)
            for entry in entries
            if entry.name.endswith(ending)
            and _NAME.fullmatch(entry.name.removesuffix(_PART))
            and entry.is_file(follow_symlinks=False)
        ]
    return []


def recover(folder: Path, now: float) -> tuple[list[Path], list[str]]:
    """
    Complete the recordings of processes that died; those with nothing in them are removed.

    Args:
        folder: need not exist.
        now: Unix seconds.

    Returns:
        What was completed, and what was wrong with those that could not be. A file that a living process writes is left
        to it.

    Raises:
        OSError: the folder cannot be read.
    """
    completed, problems = [], []
    for part in sorted(_files(folder, _PART)):
        try:
            if _recover_one(part, now):
                completed.append(part.with_suffix(""))
        except OSError as error:
            problems.append(f"{part}: {error.strerror or error}")
    return completed, problems


def _recover_one(part: Path, now: float) -> bool:
    """Return whether it was completed."""
    descriptor = os.open(part, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not part.exists():  # completed by another process since we looked
            return False
        found = os.fstat(descriptor)
        if found.st_size >= HEADER_BYTES + STEREO_BYTES:
            _finish(descriptor, part)
            return True
        if found.st_mtime < now - _JUST_MADE_S:
            part.unlink()
        return False
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def delete_old(folder: Path, keep_days: float, now: float) -> list[Path]:
    """
    Delete recordings that were completed more than ``keep_days`` before ``now`` (Unix seconds); return them.

    Raises:
        OSError: one of them cannot be deleted.
    """
    deleted = []
    for path in sorted(_files(folder, ".wav")):
        with contextlib.suppress(FileNotFoundError):  # another worker may be at it too
            found = path.lstat()
            if stat.S_ISREG(found.st_mode) and found.st_mtime < now - keep_days * _DAY_S:
                path.unlink()
                deleted.append(path)
    return deleted
