"""
``MediaFrame.buf`` <-> bytes, by the fastest way this build of pjsua2 allows.

Used where frames do not go in place (``native/port_frames.py``).
pjsua2 2.15 hands a frame as ``std::vector<unsigned char>``, and turning that into ``bytes`` element by element takes
165 us. Three ways exist, best first, chosen once by ``choose_frame_access``:

1. ``copy_to_bytearray`` and ``assign_from_bytes`` of pjproject 2.16 and later;
2. the vector's own begin and end pointers (1-2 us), which every common C++ library keeps as its first two words -
   tried on a known vector before it is trusted;
3. the slow way.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import NamedTuple

from gateway.sip.library.pj import pj

_Words = ctypes.c_size_t * 2


class FrameAccess(NamedTuple):
    """How frames are read and written; ``name`` is for the log."""

    name: str
    read: Callable[[pj.MediaFrame], bytes]
    write: Callable[[pj.MediaFrame, bytes], None]


def choose_frame_access() -> FrameAccess:
    """Return the best way that works with the pjsua2 at hand. Thread: sip, before the first call."""
    for access in (_COPYING, _POINTERS):
        if _works(access):
            return access
    return _SLOW


def _works(access: FrameAccess) -> bool:
    known = bytes(range(256)) * 2
    frame = pj.MediaFrame()
    try:
        access.write(frame, known)
        return bytes(frame.buf) == known and access.read(frame) == known and access.read(pj.MediaFrame()) == b""
    except (AttributeError, TypeError):
        return False


def _read_copying(frame: pj.MediaFrame) -> bytes:
    vector = frame.buf
    data = bytearray(vector.size())
    vector.copy_to_bytearray(data)
    return bytes(data)


def _write_copying(frame: pj.MediaFrame, data: bytes) -> None:
    frame.buf.assign_from_bytes(data)


def _read_pointers(frame: pj.MediaFrame) -> bytes:
    begin, end = _Words.from_address(int(frame.buf.this))
    return ctypes.string_at(begin, end - begin) if begin else b""


def _write_pointers(frame: pj.MediaFrame, data: bytes) -> None:
    vector = frame.buf
    words = _Words.from_address(int(vector.this))
    begin, end = words
    if end - begin != len(data):
        vector.resize(len(data))
        begin = words[0]
    ctypes.memmove(begin, data, len(data))


def _read_slowly(frame: pj.MediaFrame) -> bytes:
    return bytes(frame.buf)


def _write_slowly(frame: pj.MediaFrame, data: bytes) -> None:
    frame.buf = pj.ByteVector(data)


_COPYING = FrameAccess("copy_to_bytearray", _read_copying, _write_copying)
_POINTERS = FrameAccess("vector pointers", _read_pointers, _write_pointers)
_SLOW = FrameAccess("element by element", _read_slowly, _write_slowly)
