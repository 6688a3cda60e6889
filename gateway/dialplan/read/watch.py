"""What hot reload looks at: the state of a plan's files without reading them, and which sounds they name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from gateway.dialplan.read.files import PlanFile, files_of
from gateway.errors import DialplanError

SETTLED_AFTER_S = 2.0
"""A file system's clock may be as coarse as this: a file changed again within the same tick looks unchanged."""
MAX_SOUNDS = 1000
MAX_NAME_BYTES = 255
"""Longest name of a sound that is looked for."""
_WAV = re.compile(rb"\.wav\b", re.IGNORECASE)
_BEFORE_A_NAME = re.compile(rb"[\s\[{,\"']")


class Stamp(NamedTuple):
    """What tells one state of a file from another; of a file that is not there, zeros."""

    path: str
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0
    device: int = 0


Stamps = tuple[Stamp, ...]


def plan_stamps(path: Path) -> Stamps:
    """Return the stamps of a plan's YAML files; touches the disk, never raises."""
    try:
        return stamps(files_of(path))
    except DialplanError:
        return stamps([path])


def stamps(paths: Iterable[Path]) -> Stamps:
    """Return the stamps of files, links followed; touches the disk, never raises."""
    return tuple(map(_stamp, paths))


def are_settled(seen: Stamps, now_s: float) -> bool:
    """Say whether a file's next change must show in its stamp. ``now_s``: Unix seconds before they were taken."""
    return all(stamp.ctime_ns < (now_s - SETTLED_AFTER_S) * 1e9 for stamp in seen)


def sounds_in(files: Iterable[PlanFile], folder: Path) -> list[Path]:
    """
    Return what may be the WAV files that a plan names, ``MAX_SOUNDS`` at most.

    Found in the text, so that those of a plan with mistakes are known too: perhaps one of them is the mistake.
    """
    names: dict[bytes, None] = {}
    for file in files:
        for found in _WAV.finditer(file.data):
            if len(names) == MAX_SOUNDS:
                break
            names[_name_before(file.data, found.end())] = None
    return [folder / name.decode("utf-8", "replace").replace("\0", "") for name in names]


def _name_before(data: bytes, end: int) -> bytes:
    line = data[max(0, end - MAX_NAME_BYTES) : end].rpartition(b"\n")[2]
    quote = data[end : end + 1]
    if quote in (b'"', b"'") and quote in line:  # a quoted name may have blanks
        return line.rpartition(quote)[2]
    return _BEFORE_A_NAME.split(line)[-1]


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return Stamp(str(path))
    return Stamp(str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev)
