"""
Makes the library forget the telephone key it reported last.

Of RFC 4733 events the library (pjproject 2.15.1, ``handle_incoming_dtmf`` in ``stream.c``) compares key and duration,
never the timestamp: after the end of a press, a second press of the same key of which only the end packets come is
taken for a repetition of the first. No call makes it forget, so the field is written, where it is found beyond doubt.
"""

from __future__ import annotations

import ctypes
import functools

from gateway.sip.native.library import function
from gateway.threads import runs_on

_DIGITS = "0123456789*#ABCD"  # event codes, RFC 4733 section 3.2
_SEARCHED_BYTES = 1 << 16  # more than a pjmedia_stream has
_WORD_BYTES = 4
_NONE = -1


class _LastKey(ctypes.Structure):
    """Four consecutive fields of ``pjmedia_stream``; the names are the library's."""

    _fields_ = (
        ("last_dtmf", ctypes.c_int32),
        ("last_dtmf_dur", ctypes.c_uint32),
        ("last_dtmf_ended", ctypes.c_int32),
        ("rx_dtmf_count", ctypes.c_uint32),
    )


class DtmfMemory:
    """
    What one stream remembers of the last key. Thread: sip; not to be used once the stream is gone.

    Args:
        stream: address of a ``pjmedia_stream`` that was just made.
    """

    def __init__(self, stream: int) -> None:
        offset = _offset()
        last = _LastKey.from_address(stream + offset) if offset is not None else None
        fresh = last is not None and (last.last_dtmf, last.last_dtmf_dur, last.last_dtmf_ended) == (_NONE, 0, 0)
        self._last = last if fresh else None

    @runs_on("sip")
    def forget(self, key: str) -> None:
        """Forget ``key`` if it is the last one and has ended; the media thread may be further already."""
        last = self._last
        if last is not None and last.last_dtmf_ended and last.last_dtmf == _DIGITS.find(key):
            last.last_dtmf = _NONE


@functools.cache
def _offset() -> int | None:
    """
    Return the offset of the fields in a ``pjmedia_stream``, or None in a build that does not show it.

    ``pjmedia_stream_check_dtmf`` says whether ``rx_dtmf_count`` is other than 0, and reads nothing else: asked about
    memory of ours, it shows where that field is.
    """
    try:
        counts = function("pjmedia_stream_check_dtmf", ctypes.c_int, ctypes.c_void_p)
    except AttributeError:
        return None
    memory = ctypes.create_string_buffer(_SEARCHED_BYTES)
    start = ctypes.addressof(memory)

    def stands_in(low: int, high: int) -> bool:
        ctypes.memset(start, 0, _SEARCHED_BYTES)
        ctypes.memset(start + low, 0xFF, high - low)
        return bool(counts(start))

    low, high = 0, _SEARCHED_BYTES
    while high - low > _WORD_BYTES:
        middle = (low + high) // 2
        low, high = (low, middle) if stands_in(low, middle) else (middle, high)
    return low - _LastKey.rx_dtmf_count.offset if stands_in(low, high) else None
