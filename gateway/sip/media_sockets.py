"""
The guard of the library's media sockets: how many it opens in a short time.

The library has 64 handles for RTP and RTCP and frees one 0.5 s after its socket was closed. The socket that finds none
ends the process (an assertion in ``ioqueue_select.c``), and the 33rd call within half a second, refused or not, needs
it. So ``socket`` is ours: the call that comes too soon gets "too many open files", and the library refuses it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import time
from collections import deque
from typing import Self

import structlog

from gateway.errors import SipError
from gateway.sip.guard import answering
from gateway.sip.import_slot import ImportSlot

MOST = 52
"""Sockets taken within ``FREED_AFTER_S``: 26 calls. The calls that last hold up to eight of the 64 handles more."""
FREED_AFTER_S = 0.7  # PJ_IOQUEUE_KEY_FREE_DELAY is 0.5 s, to the next poll

_log = structlog.get_logger(__name__)
_Number, _Pointer = ctypes.c_int, ctypes.c_void_p
_KIND = 0xF  # SOCK_CLOEXEC and SOCK_NONBLOCK stand above it
_Socket = ctypes.CFUNCTYPE(_Number, _Number, _Number, _Number, use_errno=True)
_Bind = ctypes.CFUNCTYPE(_Number, _Number, _Pointer, ctypes.c_uint, use_errno=True)


class MediaSockets:
    """
    Counts the UDP sockets that the library binds. Thread: sip.

    It opens others to ask for the default route, which never get a handle, so ``bind`` counts and ``socket`` refuses.

    Attributes:
        refused: how many it did not get.
    """

    def __init__(self) -> None:
        self.refused = 0
        self._bound_at: deque[float] = deque(maxlen=MOST)
        self._library = ctypes.CDLL(None, use_errno=True)
        self._callbacks = {"socket": _Socket(self._socket), "bind": _Bind(self._bind)}
        self._slots: list[ImportSlot] = []

    def __enter__(self) -> Self:
        """Put the guard in place; where that cannot be, the log says so."""
        try:
            for name, callback in self._callbacks.items():
                slot = ImportSlot(name)
                slot.exchange(callback)
                self._slots.append(slot)
        except SipError as error:
            self._restore()
            _log.warning("sip_media_unguarded", detail=f"{error}; have a proxy in front limit the calls per second")
        return self

    def __exit__(self, *_: object) -> None:
        """Take it away."""
        self._restore()

    def _restore(self) -> None:
        while self._slots:
            self._slots.pop().restore()

    @property
    def spent(self) -> bool:
        """Whether another call would get no sockets now."""
        return len(self._bound_at) == MOST and time.monotonic() - self._bound_at[0] < FREED_AFTER_S

    @answering(-1)
    def _socket(self, family: int, kind: int, protocol: int) -> int:
        """Stand in for ``socket(2)``."""
        if self.spent and kind & _KIND == socket.SOCK_DGRAM:
            self.refused += 1
            ctypes.set_errno(errno.EMFILE)
            return -1
        number: int = self._library.socket(family, kind, protocol)
        return number

    @answering(-1)
    def _bind(self, number: int, address: int, length: int) -> int:
        """Stand in for ``bind(2)``."""
        done: int = self._library.bind(number, _Pointer(address), length)
        with socket.socket(fileno=os.dup(number)) as bound:
            if done == 0 and bound.type == socket.SOCK_DGRAM:
                self._bound_at.append(time.monotonic())
        return done
