"""
Ends the wait of the SIP thread at once when there is something for it to do that no packet brings.

The library waits for its sockets in a ``select`` of its own. One end of a socket pair stands among them: a byte written
to the other end makes the library return. It is written when the loop has an order, and when another thread of the
library leaves a callback for this one (``Endpoint::utilAddPendingJob`` of pjsua2): a key by RFC 4733, for one, which
the thread of the media finds. Without it both would wait for the next poll, and polls that are frequent enough would
wake the process all day.
"""

from __future__ import annotations

import ctypes
import socket
import threading
from contextlib import suppress
from typing import Any, Self

import structlog

from gateway.errors import SipError
from gateway.sip.native.guard import answering
from gateway.sip.native.library import ImportSlot, function
from gateway.threads import runs_on

_log = structlog.get_logger(__name__)
_ALWAYS_ASYNC = 1 << 31  # PJ_IOQUEUE_ALWAYS_ASYNC: do not read at once, only when there is something
_PENDING = 70002  # PJ_EPENDING
_BYTES = 16
_ADD_JOB = "_ZN2pj8Endpoint17utilAddPendingJobEPNS_10PendingJobE"


class _OpKey(ctypes.Structure):
    """``pj_ioqueue_op_key_t`` (``pj/ioqueue.h``)."""

    _fields_ = (("internal", ctypes.c_void_p * 32), ("active_socket", ctypes.c_void_p), ("user", ctypes.c_void_p))


_AddJob = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
_OnRead = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ssize_t)


class _Callbacks(ctypes.Structure):
    """``pj_ioqueue_callback``."""

    _fields_ = (
        ("on_read", _OnRead),
        ("on_write", ctypes.c_void_p),
        ("on_accept", ctypes.c_void_p),
        ("on_connect", ctypes.c_void_p),
    )


class Waker:
    """
    Wakes the library. Entered and left on ``sip``; it must live until the library is destroyed.

    Attributes:
        works: whether the library can be woken; where it cannot, it must be polled.
        hears_jobs: whether callbacks that other threads leave wake it, too.
    """

    def __init__(self) -> None:
        self.works = False
        self.hears_jobs = False
        self._jobs = ImportSlot(_ADD_JOB)
        self._on_job = _AddJob(self._on_added_job)
        self._add_job: Any = None
        self._lock = threading.Lock()
        self._asked = False
        self._writer: socket.socket | None = None
        self._key = ctypes.c_void_p()
        self._op_key = _OpKey()
        self._buffer = ctypes.create_string_buffer(_BYTES)
        self._length = ctypes.c_ssize_t()
        self._callbacks = _Callbacks(on_read=_OnRead(self._on_read))
        self._receive: Any = None

    @runs_on("sip")
    def __enter__(self) -> Self:
        """Put the socket among the library's, after ``libInit``; where that cannot be, the log says so."""
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        try:
            endpoint = function("pjsua_get_pjsip_endpt", pointer)()
            queue = function("pjsip_endpt_get_ioqueue", pointer, pointer)(endpoint)
            register = function(
                "pj_ioqueue_register_sock", ctypes.c_int, *(pointer,) * 2, ctypes.c_long, *(pointer,) * 3
            )
            self._receive = function("pj_ioqueue_recv", ctypes.c_int, *(pointer,) * 4, ctypes.c_uint)
            function("pj_ioqueue_op_key_init", None, pointer, size)(
                ctypes.addressof(self._op_key), ctypes.sizeof(_OpKey)
            )
            create_pool = function("pjsip_endpt_create_pool", pointer, pointer, ctypes.c_char_p, size, size)
            self._unregister = function("pj_ioqueue_unregister", ctypes.c_int, pointer)
        except AttributeError as error:
            _log.warning(
                "sip_orders_wait", symbol=str(error), detail="this build is polled for orders, it cannot be woken"
            )
            return self
        pool = create_pool(endpoint, b"waker", 1000, 1000)  # released with the endpoint
        reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        number, callbacks, key = reader.detach(), ctypes.addressof(self._callbacks), ctypes.addressof(self._key)
        self.works = register(pool, queue, number, None, callbacks, key) == 0 and self._listen()
        if self.works:
            self._hear_jobs()
        return self

    def _hear_jobs(self) -> None:
        try:
            self._add_job = function(_ADD_JOB, None, ctypes.c_void_p, ctypes.c_void_p)
            self._jobs.exchange(self._on_job)
            self.hears_jobs = True
        except (AttributeError, SipError) as error:
            _log.warning("sip_keys_polled", detail=f"{error}; calls are polled for keys, which costs some CPU")

    def wake(self) -> None:
        """Have the library return from its wait, now or, when it is not waiting, from its next one. Any thread."""
        with self._lock:
            if self._asked or self._writer is None:
                return
            self._asked = True
            with suppress(OSError):  # a full buffer wakes it just as well
                self._writer.send(b"\0")

    @runs_on("sip")
    def __exit__(self, *_: object) -> None:
        """Take the socket away; the library closes its end."""
        self.hears_jobs = False
        self._jobs.restore()
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        if self.works:
            self.works = False
            self._unregister(self._key)

    def _listen(self) -> bool:
        self._length.value = _BYTES
        place, length = ctypes.addressof(self._buffer), ctypes.addressof(self._length)
        status = self._receive(self._key, ctypes.addressof(self._op_key), place, length, _ALWAYS_ASYNC)
        return bool(status == _PENDING)

    @answering(0)
    def _on_read(self, _key: int, _op_key: int, _size: int) -> int:
        with self._lock:
            self._asked = False
        if self._writer is not None:
            self._listen()
        return 0

    def _on_added_job(self, endpoint: int, job: int) -> None:
        """Replace ``utilAddPendingJob``, on whichever thread; on ``sip`` itself the job is done when it returns."""
        self._add_job(endpoint, job)
        self.wake()
