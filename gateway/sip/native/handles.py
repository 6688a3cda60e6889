"""
Counts the library's handles for sockets, so that one too many is an error and not the end of the process.

Each of its two I/O queues, one for SIP and one for RTP, has 64 (``ioqueue_select.c`` of pjproject 2.15.1). A handle is
free again 0.5 s after its socket was closed; a socket that finds none trips an assertion. A call takes two for its RTP,
even one that is cancelled or refused at once, so thirty such calls in half a second would do. The screen refuses calls
while a queue is nearly full (``scarce``); whatever comes all the same is told ``PJ_ETOOMANY`` by us, which the library
takes as it takes any error: that call fails, all others go on.
"""

from __future__ import annotations

import ctypes
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Self

import structlog

from gateway.errors import SipError
from gateway.sip.native.guard import answering
from gateway.sip.native.library import ImportSlot, function

_log = structlog.get_logger(__name__)

MOST = 60  # of 64: some may have been taken before we counted
_OF_A_CALL = 2  # RTP and RTCP
_TOO_MANY = 70010  # PJ_ETOOMANY
_FREED_AFTER_S = 0.6  # PJ_IOQUEUE_KEY_FREE_DELAY is 0.5
_Pointer = ctypes.c_void_p
_Register = ctypes.CFUNCTYPE(
    ctypes.c_int, _Pointer, _Pointer, ctypes.c_long, _Pointer, _Pointer, _Pointer, ctypes.POINTER(_Pointer)
)
_Unregister = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer)
_NAMES = "pj_ioqueue_register_sock2", "pj_ioqueue_unregister"


class HandleCount:
    """
    Which handles are taken. No I/O.

    Args:
        most: of each queue.
        freed_after_s: how long a handle stays taken after its socket was closed.
    """

    def __init__(self, most: int = MOST, freed_after_s: float = _FREED_AFTER_S) -> None:
        self._most = most
        self._freed_after_s = freed_after_s
        self._queue_of: dict[int, int] = {}
        self._leaving: deque[tuple[float, int]] = deque()
        self._taken: Counter[int] = Counter()

    def has_room(self, queue: int, now: float, wanted: int = 1) -> bool:
        """Return whether a queue has ``wanted`` handles at ``now``, in seconds."""
        while self._leaving and now - self._leaving[0][0] >= self._freed_after_s:
            self._taken[self._leaving.popleft()[1]] -= 1
        return self._taken[queue] + wanted <= self._most

    def scarce(self, now: float) -> bool:
        """Return whether some queue has too few for another call at ``now``, in seconds."""
        return any(not self.has_room(queue, now, _OF_A_CALL) for queue in tuple(self._taken))

    def unused(self, queue: int, now: float) -> bool:
        """Return whether no handle of a queue is taken at ``now``, in seconds."""
        return self.has_room(queue, now) and not self._taken[queue]

    def took(self, queue: int, key: int) -> None:
        """Note that a handle was taken; ``key`` is the library's name for it."""
        self._queue_of[key] = queue
        self._taken[queue] += 1

    def left(self, key: int, now: float) -> None:
        """Note that the socket of a handle was closed; a second time, or for an unknown handle, this has no effect."""
        queue = self._queue_of.pop(key, None)
        if queue is not None:
            self._leaving.append((now, queue))


class Handles:
    """
    Replaces the library's functions that take a handle and give it back. Thread: sip.

    Attributes:
        refused: how often there was none, by what wanted it; the reader clears it.
        before_taking: hears of the queue that a handle is about to be taken from.
        counts: whether they are counted at all.
    """

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self.before_taking: Callable[[int], None] = lambda queue: None
        self.counts = False
        self._count = HandleCount()
        self._register: Any = None
        self._unregister: Any = None
        self._callbacks = _Register(self._on_register), _Unregister(self._on_unregister)
        self._slots = tuple(map(ImportSlot, _NAMES))

    def __enter__(self) -> Self:
        """Begin to count, before the first transport is made; where that cannot be, the log says so."""
        try:
            self._register, self._unregister = (
                function(name, *_signature(kind)) for name, kind in zip(_NAMES, (_Register, _Unregister), strict=True)
            )
            for slot, callback in zip(self._slots, self._callbacks, strict=True):
                slot.exchange(callback)
            self.counts = True
        except (AttributeError, SipError) as error:
            self._restore()
            detail = f"{error}; put a SIP proxy in front that limits calls a second"
            _log.warning("sip_handles_uncounted", detail=detail)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop counting."""
        self._restore()

    @property
    def scarce(self) -> bool:
        """Whether there are too few left for another call now."""
        return self._count.scarce(time.monotonic())

    def unused(self, queue: int, now: float) -> bool:
        """Return whether no handle of a queue is taken; ``now``: monotonic seconds."""
        return self.counts and self._count.unused(queue, now)

    def _restore(self) -> None:
        self.counts = False
        for slot in self._slots:
            slot.restore()

    @answering(_TOO_MANY)
    def _on_register(self, pool: int, queue: int, sock: int, lock: int, data: int, callback: int, key: Any) -> int:
        self.before_taking(queue)
        if not self._count.has_room(queue, time.monotonic()):
            self.refused["no handle for a socket"] += 1
            return _TOO_MANY
        status: int = self._register(pool, queue, sock, lock, data, callback, key)
        if status == 0:
            self._count.took(queue, key[0])
        return status

    @answering(0)
    def _on_unregister(self, key: int) -> int:
        status: int = self._unregister(key)
        self._count.left(key, time.monotonic())
        return status


def _signature(kind: Any) -> tuple[Any, ...]:
    return (kind._restype_, *kind._argtypes_)
