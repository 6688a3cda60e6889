"""
The guard of the TCP and TLS listeners: how many connections the library ever gets to see.

The library has 64 handles for SIP sockets and frees one 0.5 s after its connection was closed; the connection that
finds none ends the process (an assertion in ``ioqueue_select.c``). So ``accept`` is ours: it takes every connection
that waits, and closes at once those that are too many.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

import structlog

from gateway.errors import SipError
from gateway.sip.admission.access_list import AccessList
from gateway.sip.native.guard import answering
from gateway.sip.native.library import ImportSlot
from gateway.threads import runs_on

_log = structlog.get_logger(__name__)

MOST = 40  # of the library's 64 handles: its listeners, its own connections out and a reserve are the rest
FOR_TRUNKS = 10  # of these, nobody else gets them
MOST_OF_A_SOURCE = 16
# So many of these may be open: when a source closes all it had, as many handles are left for what it opens next.
OPEN_OF_A_SOURCE = MOST_OF_A_SOURCE // 2
_FREED_AFTER_S = (
    0.7  # the library frees a handle 0.5 s after it was closed (PJ_IOQUEUE_KEY_FREE_DELAY), on its next poll
)
SILENT_S = 10.0
_BACKLOG = 128  # the library's 5 makes others wait a second when six come together
_AT_ONCE = 256
# The library stops listening for good after 50 times the same error, so it gets another one each time.
_ERRORS = (errno.EAGAIN, errno.ECONNABORTED)

_Accept = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, use_errno=True)


@dataclass(slots=True)
class _Accepted:
    """A connection that the library was given; ``inode`` tells it from a later one with the same number."""

    number: int
    inode: int
    host: str
    since: float
    heard: bool = False
    closed_at: float | None = None


class AcceptGuard:
    """
    Counts connections before the library accepts them. Thread: sip.

    Args:
        access_list: whose TLS connections are let in at all: the library's OpenSSL is too old for strangers.
        silent_s: how long a connection may stay open without a message.
    """

    def __init__(self, access_list: AccessList, *, silent_s: float = SILENT_S) -> None:
        self._access_list = access_list
        self._silent_s = silent_s
        self._tls_ports: frozenset[int] = frozenset()
        self._accepted: dict[str, _Accepted] = {}
        self._leaving: list[_Accepted] = []
        self._slot = ImportSlot("accept")
        self._callback = _Accept(self._accept)
        self._library = ctypes.CDLL(None, use_errno=True)
        self._turn = 0
        self._listeners: set[int] = set()
        self.refused: Counter[str] = Counter()

    @runs_on("sip")
    def install(self) -> None:
        """Put the guard in place, before the first listener is made; where that cannot be, the log says so."""
        try:
            self._slot.exchange(self._callback)
        except SipError as error:
            _log.warning("sip_door_unguarded", detail=f"{error}; offer TCP and TLS to trusted networks only")

    @runs_on("sip")
    def remove(self) -> None:
        """Take it away."""
        self._slot.restore()

    @runs_on("sip")
    def tls_on(self, *ports: int) -> None:
        """Say on which ports we listen for TLS."""
        self._tls_ports = frozenset(ports)

    @property
    def guarded(self) -> bool:
        """Whether connections are counted."""
        return self._slot.exchanged

    @property
    def open(self) -> int:
        """Connections that the library holds."""
        return len(self._accepted)

    @runs_on("sip")
    def heard(self, peer: str) -> None:
        """Note that a whole SIP message came from ``address:port``, over whatever transport."""
        connection = self._accepted.get(peer)
        if connection is not None:
            connection.heard = True

    @runs_on("sip")
    def hang_up(self, peer: str) -> None:
        """Shut the connection from ``address:port`` down, if it is one that was taken."""
        connection = self._accepted.get(peer)
        if connection is not None and _is_open(connection):
            _shut_down(connection)

    @runs_on("sip")
    def tick(self, now: float) -> None:
        """Shut down connections of strangers that brought no message in time. About once a second."""
        self._forget_gone(now)
        for connection in self._accepted.values():
            overdue = not connection.heard and now - connection.since > self._silent_s
            if overdue and self._is_stranger(connection.host):  # a trunk may open one for later
                connection.heard = True  # once is enough
                self.refused["silent connection"] += 1
                _shut_down(connection)

    @answering(-1)
    def _accept(self, listener: int, address: int | None, length: int | None) -> int:
        """Replace ``accept(2)``: give the library the next allowed connection, close those before it."""
        if listener not in self._listeners:
            self._listeners.add(listener)
            self._library.listen(listener, _BACKLOG)
        for refused in range(_AT_ONCE):
            number: int = self._library.accept(listener, ctypes.c_void_p(address), ctypes.c_void_p(length))
            if number < 0 and not refused:
                return number  # errno goes with it
            if number < 0:
                break
            why = self._judge(listener, number)
            if why is None:
                return number
            self.refused[why] += 1
            os.close(number)
        self._turn = 1 - self._turn
        ctypes.set_errno(_ERRORS[self._turn])
        return -1

    def _judge(self, listener: int, number: int) -> str | None:
        now = time.monotonic()
        self._forget_gone(now)
        try:
            host, peer = _peer(number)
            if _is_closed(number):
                return "connection gone at once"  # whoever made a hundred and left takes no handle from those who stay
        except OSError:
            return "connection gone at once"
        near = self._access_list.near(host)
        if self._access_list.has_edges and not near.edge:
            return "connection from no edge"
        if _local_port(listener) in self._tls_ports and not self._access_list.find(near).allowed:
            return "TLS connection from a source not allowed"
        counted = (*self._accepted.values(), *self._leaving)
        stranger = self._is_stranger(host)
        if len(counted) >= (MOST - FOR_TRUNKS if stranger else MOST):
            return "too many connections"
        of_source = sum(connection.host == host for connection in counted)
        open_of_source = sum(connection.host == host for connection in self._accepted.values())
        if stranger and (of_source >= MOST_OF_A_SOURCE or open_of_source >= OPEN_OF_A_SOURCE):
            return "too many connections of a source"
        self._accepted[peer] = _Accepted(number, os.fstat(number).st_ino, host, now)
        return None

    def _is_stranger(self, host: str) -> bool:
        near = self._access_list.near(host)
        return not near.edge and self._access_list.trunk_of(near) is None

    def _forget_gone(self, now: float) -> None:
        """Move connections that the library has closed to those whose handles are not free yet."""
        for peer, connection in tuple(self._accepted.items()):
            if not _is_open(connection):
                connection.closed_at = now
                self._leaving.append(self._accepted.pop(peer))
        self._leaving = [
            connection for connection in self._leaving if now - (connection.closed_at or now) < _FREED_AFTER_S
        ]


def _is_open(connection: _Accepted) -> bool:
    """Whether the library still holds a connection, and its far end has not closed it either."""
    try:
        return os.fstat(connection.number).st_ino == connection.inode and not _is_closed(connection.number)
    except OSError:
        return False


def _is_closed(number: int) -> bool:
    """Whether the far end of a connection has closed it, and nothing more is to be read."""
    with socket.socket(fileno=os.dup(number)) as connection:
        try:
            return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False


def _shut_down(connection: _Accepted) -> None:
    # One that was reset meanwhile has nothing left to shut down.
    with suppress(OSError), socket.socket(fileno=os.dup(connection.number)) as shared:
        shared.shutdown(socket.SHUT_RDWR)  # the library reads the end of it


def _peer(number: int) -> tuple[str, str]:
    with socket.socket(fileno=os.dup(number)) as connection:
        host, port = connection.getpeername()[:2]
    return host, f"{host}:{port}"


def _local_port(number: int) -> int:
    with socket.socket(fileno=os.dup(number)) as listener:
        return int(listener.getsockname()[1])
