"""
Lets PJMEDIA's network thread sleep while no call has a socket.

That thread looks for RTP every 10 ms (``worker_proc`` in ``pjmedia/endpoint.c``, pjproject 2.15.1), a hundred times a
second, all day, and nothing tells it to stop. Before it looks it takes the lock of its I/O queue. So we hold that lock
while no socket is in the queue: the thread waits for it without a wake-up. The lock is let go before the first
socket enters the queue (``Handles.before_taking``), so RTP is never late.

The lock is not recursive: holding it, ``sip`` must not touch the queue. Only a socket in the queue leads there, and of
sockets ``Handles`` knows.
"""

from __future__ import annotations

import ctypes
from typing import Any, Self

import structlog

from gateway.sip.native.handles import Handles
from gateway.sip.native.library import function
from gateway.threads import runs_on

_log = structlog.get_logger(__name__)


class _Lock(ctypes.Structure):
    """``pj_lock_t`` (``pj/lock.c``)."""

    _fields_ = (("object", ctypes.c_void_p), ("operations", ctypes.c_void_p * 4))


class MediaThread:
    """
    Puts the thread to sleep and wakes it. Thread: sip.

    Args:
        handles: knows of every socket in the queue.
    """

    def __init__(self, handles: Handles) -> None:
        self._handles = handles
        self._queue = 0
        self._lock = 0
        self._acquire: Any = None
        self._release: Any = None
        self.rests = False
        """Whether the thread sleeps."""

    @property
    def is_quiet(self) -> bool:
        """Whether ``rest`` would change nothing."""
        return self.rests or not self._lock

    @runs_on("sip")
    def __enter__(self) -> Self:
        """Find the queue and its lock, after ``libInit``; where they do not show, the log says so."""
        try:
            found = self._handles.counts and self._find()
        except AttributeError:
            found = False
        if found:
            self._handles.before_taking = self._before_taking
        else:
            _log.warning("media_thread_never_rests", detail="in this build an idle worker polls for RTP")
        return self

    @runs_on("sip")
    def __exit__(self, *_: object) -> None:
        """Wake it for good, before the library ends."""
        self.wake()
        self._lock = 0

    @runs_on("sip")
    def rest(self, now: float) -> None:
        """Put it to sleep if no socket is in its queue. ``now``: monotonic seconds."""
        if self._lock and not self.rests and self._handles.unused(self._queue, now):
            self.rests = self._acquire(self._lock) == 0

    @runs_on("sip")
    def wake(self) -> None:
        """Let it work again."""
        if self.rests:
            self.rests = False
            self._release(self._lock)

    def _before_taking(self, queue: int) -> None:
        if queue == self._queue:
            self.wake()

    def _find(self) -> bool:
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._acquire = function("pj_lock_acquire", ctypes.c_int, pointer)
        self._release = function("pj_lock_release", ctypes.c_int, pointer)
        media = function("pjsua_get_pjmedia_endpt", pointer)()
        self._queue = function("pjmedia_endpt_get_ioqueue", pointer, pointer)(media) or 0
        endpoint = function("pjsua_get_pjsip_endpt", pointer)()
        create_pool = function("pjsip_endpt_create_pool", pointer, pointer, ctypes.c_char_p, size, size)
        pool = create_pool(endpoint, b"media-thread", 1000, 1000)
        like = ctypes.c_void_p()
        create = function("pj_lock_create_simple_mutex", ctypes.c_int, pointer, ctypes.c_char_p, pointer)
        try:
            if not self._queue or create(pool, b"like", ctypes.addressof(like)):
                return False
            # The queue begins with the address of its lock: that must be a lock of the same kind as this one.
            lock = ctypes.c_void_p.from_address(self._queue).value or 0
            same = lock and lock % 8 == 0 and bytes(_operations(lock)) == bytes(_operations(like.value or 0))
            function("pj_lock_destroy", ctypes.c_int, pointer)(like)
            self._lock = lock if same else 0
            return bool(same)
        finally:
            function("pjsip_endpt_release_pool", None, pointer, pointer)(endpoint, pool)


def _operations(lock: int) -> Any:
    return _Lock.from_address(lock).operations
