"""
The jitter buffers inside the SIP library, within reach of ``JitterWatch``.

PJMEDIA keeps the buffer of a stream to itself, but sets its discard algorithm through its own import table when it
makes the stream. There each new buffer is seen (``ImportSlot``), and its setters are exported. Checked against
pjproject 2.15.1: both change integers and pointers only, so they may be called while the media thread uses the buffer.
"""

from __future__ import annotations

import ctypes
from typing import Any

import structlog

from gateway.errors import SipError
from gateway.sip.core.jitter import FRAME_MS, JitterPlan
from gateway.sip.native.guard import answering
from gateway.sip.native.library import ImportSlot, function
from gateway.threads import runs_on

DISCARD_NONE, DISCARD_STATIC = 0, 1  # pjmedia_jb_discard_algo; progressive (2) clicks on clean lines
_log = structlog.get_logger(__name__)
_SetDiscard = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


class JitterBuffer:
    """
    One stream's buffer, which lives as long as the stream. Thread: sip.

    Args:
        address: of the ``pjmedia_jbuf``.
        max_ms: longest prefetch.
        set_adaptive: ``pjmedia_jbuf_set_adaptive``.
        set_discard: ``pjmedia_jbuf_set_discard``.
    """

    def __init__(self, address: int, max_ms: int, set_adaptive: Any, set_discard: Any) -> None:
        self._address = address
        self._max_ms = max_ms
        self._set_adaptive = set_adaptive
        self._set_discard = set_discard
        self._plan: JitterPlan | None = None

    @runs_on("sip")
    def follow(self, plan: JitterPlan) -> None:
        """Do as planned; nothing happens while the plan stays the same."""
        if plan == self._plan:
            return
        self._plan = plan
        prefetch = plan.prefetch_ms // FRAME_MS
        self._set_adaptive(self._address, prefetch, prefetch, self._max_ms // FRAME_MS)
        self._set_discard(self._address, DISCARD_STATIC if plan.shrink else DISCARD_NONE)


class JitterBuffers:
    """
    Sees each jitter buffer that the library makes. Thread: sip.

    Args:
        max_ms: longest prefetch.
    """

    def __init__(self, max_ms: int) -> None:
        self._max_ms = max_ms
        self._newest: int | None = None
        self._slot = ImportSlot("pjmedia_jbuf_set_discard")
        self._callback = _SetDiscard(self._on_set_discard)
        self._set_adaptive: Any = None
        self._set_discard: Any = None

    @runs_on("sip")
    def install(self) -> bool:
        """Begin to see buffers; False (and one line in the log) where this build does not let us."""
        try:
            unsigned = ctypes.c_uint
            self._set_adaptive = function(
                "pjmedia_jbuf_set_adaptive", ctypes.c_int, ctypes.c_void_p, unsigned, unsigned, unsigned
            )
            self._set_discard = function("pjmedia_jbuf_set_discard", ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
            self._slot.exchange(self._callback)
        except (AttributeError, SipError) as error:
            _log.warning("jitter_buffer_fixed", detail=f"the jitter buffer cannot follow the line: {error}")
            return False
        return True

    @runs_on("sip")
    def remove(self) -> None:
        """See no more of them."""
        self._slot.restore()

    @runs_on("sip")
    def take(self) -> JitterBuffer | None:
        """Return the buffer made last, to whose stream it belongs, once; None where there is none."""
        address, self._newest = self._newest, None
        if address is None:
            return None
        return JitterBuffer(address, self._max_ms, self._set_adaptive, self._set_discard)

    @answering(0)
    def _on_set_discard(self, buffer: int, algorithm: int) -> int:
        self._newest = buffer
        return int(self._set_discard(buffer, algorithm))
