"""
Tells systemd how the service is (``sd_notify(3)``): a datagram of lines ``NAME=value`` to the socket it names.

The protocol is a few lines, so this needs no library. Without a service manager nothing is sent.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

SEND_LIMIT_S = 0.5


class Notifier:
    """
    Tells a service manager.

    Args:
        environment: ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` as far as they are set.
        pid: of this process.

    Attributes:
        watchdog_s: how often ``WATCHDOG=1`` is wanted at least; None if it is not.
    """

    def __init__(self, environment: Mapping[str, str], pid: int) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{path[1:]}" if path.startswith("@") else path  # @: in the abstract namespace
        usec, of = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(pid))
        self._status = ""
        self.watchdog_s = int(usec) / 1e6 if usec.isdecimal() and int(usec) and of == str(pid) else None

    def ready(self) -> None:
        """Say that the service works."""
        self.send("READY=1")

    def stopping(self) -> None:
        """Say that it ends."""
        self.send("STOPPING=1")

    def reloading(self) -> None:
        """Say that it reads its configuration again; ``ready`` follows."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def status(self, text: str) -> None:
        """Say in words how it is, if that has changed."""
        if text != self._status:
            self._status = text
            self.send(f"STATUS={text}")

    def send(self, *lines: str) -> None:
        """Send lines, each ``NAME=value``; what the manager does not take for so long is lost."""
        if self._address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(SEND_LIMIT_S)
                sender.sendto("\n".join(lines).encode(), self._address)

    async def feed_watchdog(self) -> None:
        """Say for ever that the loop runs, twice as often as it is wanted."""
        while self.watchdog_s is not None:
            self.send("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_s / 2)
