"""
Messages between the supervisor and a process that it had forked: JSON objects over a pair of sockets, either way.

The sockets keep the borders of messages (``SOCK_SEQPACKET``), so a message is whole or not there, and the death of a
process is the end of its socket. Nothing waits: what the other side does not take yet is kept here, in order.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

LONGEST_BYTES = 65536


class Pipe:
    """
    One end of a pair, on a running loop.

    Args:
        end: the socket; this closes it.
        on_message: takes each message.
        on_end: called once when the other side is gone.

    Thread: loop.
    """

    def __init__(
        self, end: socket.socket, on_message: Callable[[dict[str, Any]], None], on_end: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = end
        self._on_message = on_message
        self._on_end = on_end
        self._waiting: deque[bytes] = deque()
        end.setblocking(False)
        self._loop.add_reader(end.fileno(), self._read)

    @property
    def fileno(self) -> int:
        """Descriptor of the socket; -1 once it is closed."""
        return self._socket.fileno()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; to a process that is gone, without effect."""
        self._waiting.append(json.dumps(message).encode())
        if len(self._waiting) == 1:
            self._write()

    def close(self) -> None:
        """Close our end. Safe more than once."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
        self._waiting.clear()

    def _read(self) -> None:
        try:
            data = self._socket.recv(LONGEST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._on_message(json.loads(data))
        else:
            self.close()
            self._on_end()

    def _write(self) -> None:
        while self._waiting and self._socket.fileno() >= 0:
            try:
                self._socket.send(self._waiting[0])
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._write)
                return
            except OSError:  # it is gone: its end is read next
                self._waiting.clear()
                return
            self._waiting.popleft()
        if self._socket.fileno() >= 0:
            self._loop.remove_writer(self._socket.fileno())
