"""
Many UDP datagrams per system call, by ``recvmmsg`` and ``sendmmsg`` of 64-bit Linux.

Python's ``socket`` has neither, and at 2,000 packets a second each way one call per packet is most of what a caller
costs. The structures of the kernel are numpy arrays here, filled once: a batch is then one call through ctypes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.errors import ConfigError

Bytes = NDArray[np.uint8]

LARGEST_BYTES = 256
"""Of a datagram, more is cut off: G.711 at 20 ms is 172 bytes."""
SO_TIMESTAMPNS = 35  # Linux; the socket module does not name it
_SO_MEMINFO, _DROPS = 55, 8  # sock_diag.h: SK_MEMINFO_DROPS
ANCILLARY_BYTES = 64
_TIMESPEC = struct.Struct("@ll")
_MSG_DONTWAIT = 0x40
_ADDRESS_BYTES = 16
_RECEIVE_BYTES = 4 * 2**20
# struct mmsghdr, struct iovec
_MESSAGE = np.dtype(
    [
        *(("name", "u8"), ("name_bytes", "u4"), ("pad1", "u4"), ("vector", "u8"), ("vectors", "u8")),
        *(
            ("control", "u8"),
            ("control_bytes", "u8"),
            ("flags", "i4"),
            ("pad2", "u4"),
            ("length", "u4"),
            ("pad3", "u4"),
        ),
    ]
)
_VECTOR = np.dtype([("start", "u8"), ("length", "u8")])


def media_socket(host: str) -> socket.socket:
    """Return a UDP socket on a free port whose kernel buffer outlasts a pause of the reader, with timestamps on."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
    made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    made.bind((host, 0))
    return made


def arrival_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    """
    Return when the kernel had a datagram, since the epoch: a reader's own lateness is not the sender's.

    Args:
        ancillary: as ``recvmsg`` gave it, with room for ``ANCILLARY_BYTES``, of a socket with ``SO_TIMESTAMPNS``.
    """
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            return int(seconds * 1_000_000_000 + nanoseconds)
    return time.time_ns()


def drops(receiver: socket.socket) -> int:
    """Return how many datagrams the kernel has thrown away because this socket's buffer was full."""
    told = receiver.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * (_DROPS + 1))
    return int(np.frombuffer(told, "<u4")[_DROPS])


@dataclass(frozen=True, slots=True)
class Datagrams:
    """
    What one ``receive`` brought, one row each; valid until the next one.

    Attributes:
        data: (n, ``LARGEST_BYTES``).
        lengths: bytes of each, as far as they were kept.
        ports: whence they came.
        at_ns: when the kernel had them, since the epoch.
    """

    data: Bytes
    lengths: NDArray[np.uint32]
    ports: NDArray[np.uint16]
    at_ns: NDArray[np.int64]


class Receiver:
    """
    Reads a socket in batches.

    Args:
        source: a socket from ``media_socket``.
        most: datagrams per batch.
    """

    def __init__(self, source: socket.socket, most: int = 256) -> None:
        self._call = _system_call("recvmmsg")
        self._fd = source.fileno()
        self._data = np.zeros((most, LARGEST_BYTES), np.uint8)
        self._names = np.zeros((most, _ADDRESS_BYTES), np.uint8)
        self._control = np.zeros((most, ANCILLARY_BYTES), np.uint8)
        self._vectors = _vectors(self._data)
        self._messages = _messages(self._names, self._vectors)
        self._messages["control"] = _rows(self._control)

    def receive(self) -> Datagrams:
        """Take what waits, at most a batch; nothing is an empty one."""
        self._messages["name_bytes"] = _ADDRESS_BYTES
        self._messages["control_bytes"] = ANCILLARY_BYTES
        count = self._call(self._fd, self._messages.ctypes.data, len(self._messages), _MSG_DONTWAIT, None)
        count = _checked(count, (errno.EAGAIN, errno.ECONNREFUSED, errno.EINTR))
        # struct cmsghdr is 16 bytes; the timestamp is the only control message asked for.
        times = self._control[:count, 16:32].copy().view(np.int64)
        return Datagrams(
            data=self._data[:count],
            lengths=self._messages["length"][:count].astype(np.uint32),
            ports=self._names[:count, 2:4].copy().view(">u2").astype(np.uint16).reshape(count),
            at_ns=times[:, 0] * 1_000_000_000 + times[:, 1],
        )


class Sender:
    """
    Sends one datagram to each of a fixed set of addresses.

    Args:
        outlet: a UDP socket.
        targets: IPv4 address and port of each.
        length: bytes of every datagram.

    Attributes:
        data: (targets, length): what ``send`` sends.
    """

    def __init__(self, outlet: socket.socket, targets: list[tuple[str, int]], length: int) -> None:
        self._call = _system_call("sendmmsg")
        self._fd = outlet.fileno()
        self.data = np.zeros((len(targets), length), np.uint8)
        self._names = np.zeros((len(targets), _ADDRESS_BYTES), np.uint8)
        self._names[:, 0] = socket.AF_INET  # sin_family, little-endian
        for row, (host, port) in enumerate(targets):
            self._names[row, 2:8] = np.frombuffer(port.to_bytes(2, "big") + socket.inet_aton(host), np.uint8)
        self._vectors = _vectors(self.data)
        self._messages = _messages(self._names, self._vectors)
        self._messages["name_bytes"] = _ADDRESS_BYTES

    def send(self) -> None:
        """Send all; what meets a full buffer or a closed port is lost, as in a network."""
        done, size = 0, self._messages.itemsize
        while done < len(self._messages):
            start = self._messages.ctypes.data + done * size
            count = self._call(self._fd, start, len(self._messages) - done, _MSG_DONTWAIT, None)
            sent = _checked(count, (errno.EAGAIN, errno.ECONNREFUSED, errno.EINTR))
            done += sent or 1


def _system_call(name: str) -> ctypes._NamedFuncPointer:
    call = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if call is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        raise ConfigError(f"the bench needs {name} of 64-bit Linux, which this system does not have")
    call.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
    if name == "recvmmsg":
        call.argtypes = (*call.argtypes, ctypes.c_void_p)
    return call  # type: ignore[no-any-return]


def _checked(count: int, harmless: tuple[int, ...]) -> int:
    if count >= 0:
        return count
    code = ctypes.get_errno()
    if code not in harmless:
        raise OSError(code, os.strerror(code))
    return 0


def _rows(array: Bytes) -> NDArray[np.uint64]:
    """Return the address of each row."""
    return array.ctypes.data + np.arange(len(array), dtype=np.uint64) * np.uint64(array.strides[0])


def _vectors(data: Bytes) -> NDArray[np.void]:
    vectors = np.zeros(len(data), _VECTOR)
    vectors["start"], vectors["length"] = _rows(data), data.shape[1]
    return vectors


def _messages(names: Bytes, vectors: NDArray[np.void]) -> NDArray[np.void]:
    messages = np.zeros(len(names), _MESSAGE)
    messages["name"] = _rows(names)
    messages["vector"] = vectors.ctypes.data + np.arange(len(vectors), dtype=np.uint64) * np.uint64(vectors.itemsize)
    messages["vectors"] = 1
    return messages
