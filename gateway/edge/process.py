"""
The Kamailio process: a child in a session of its own, which ends when we do, and which we still hold after we exec.

A re-executed supervisor keeps its process id, so its children stay its children; what it needs to know of one is the
number of the process and the descriptor that its log comes from. So it is watched by a pidfd, and
not held by an object that would go with the exec.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections import deque
from contextlib import suppress

import structlog

from gateway.child_process import dying_with_us
from gateway.rate_limit import TokenBuckets

_KEPT_LINES = 60
_STOP_LIMIT_S = 3.0
_LINES_PER_S, _LINES_AT_ONCE = 5.0, 50.0
_LINE = re.compile(r"^\s*\d+\(\d+\) (?P<level>[A-Z]+): (?P<text>.*)$")
_SCRIPT = re.compile(r"^(?:\{[^}]*\} )?<script>: ")
_LOUD = frozenset({"ALERT", "BUG", "CRITICAL", "ERROR", "WARNING"})

_log = structlog.get_logger(__name__)


class KamailioProcess:
    """
    One Kamailio that runs; made by ``start`` or ``adopt``.

    Attributes:
        pid: process id.
        log_fd: where its log is read.
        ended: gets the exit code, negative for a signal, when it has ended by itself or was stopped.
        lines: the last lines of its log.

    Thread: loop, which must be the main thread.
    """

    def __init__(self, pid: int, log_fd: int) -> None:
        self.pid = pid
        self.log_fd = log_fd
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self._rest = b""
        self._stopping = False
        self._budget = TokenBuckets(_LINES_PER_S, _LINES_AT_ONCE, debt=None)
        self._untold = 0
        self._pidfd = os.pidfd_open(pid)
        os.set_blocking(log_fd, False)
        self._loop.add_reader(log_fd, self._read)
        self._loop.add_reader(self._pidfd, self._reap)

    @classmethod
    def start(cls, *command: str) -> KamailioProcess:
        """Run the command."""
        read, write = os.pipe()
        try:
            words = dying_with_us(*command, at_death=signal.SIGTERM)  # which ends Kamailio's own children too
            pid = os.posix_spawn(
                sys.executable,
                words,
                {},  # it needs nothing of ours, and keys are among it
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, write, 1),
                    (os.POSIX_SPAWN_DUP2, write, 2),
                ],
                setsid=True,
            )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        return cls(pid, read)

    @classmethod
    def adopt(cls, pid: int, log_fd: int) -> KamailioProcess:
        """Take over one that this process started before it re-executed itself."""
        os.set_inheritable(log_fd, False)
        return cls(pid, log_fd)

    def let_go(self) -> None:
        """Leave it running for the program that this process is about to become."""
        self._loop.remove_reader(self.log_fd)
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        os.set_inheritable(self.log_fd, True)

    async def stop(self) -> None:
        """Ask it to end, kill it if it does not in time; returns when it and its own children are gone."""
        self._stopping = True
        if not self.ended.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            try:
                async with asyncio.timeout(_STOP_LIMIT_S):
                    await asyncio.shield(self.ended)
            except TimeoutError:
                self._kill_all()
                await self.ended
        self._kill_all()
        self._read()
        self._close_log()

    def _kill_all(self) -> None:
        """Kill what is left of its session: children of a killed Kamailio would go on holding its ports."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _reap(self) -> None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._kill_all()
        self.ended.set_result(os.waitstatus_to_exitcode(status))

    def _read(self) -> None:
        while self.log_fd >= 0:
            try:
                data = os.read(self.log_fd, 65_536)
            except BlockingIOError:
                return
            if not data:
                self._close_log()
                return
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._rest = self._rest[-10_000:]
            for line in lines:
                self._note(line.decode(errors="replace").rstrip())

    def _close_log(self) -> None:
        if self.log_fd < 0:
            return
        self._loop.remove_reader(self.log_fd)
        os.close(self.log_fd)
        self.log_fd = -1

    def _note(self, line: str) -> None:
        self.lines.append(line)
        found = _LINE.match(line)
        if found is None:
            return  # its banner
        level, text = found["level"], _SCRIPT.sub("", found["text"])
        is_news = level in _LOUD and not self._stopping  # at its end each of its processes complains about the others
        if not is_news:
            _log.debug("kamailio", level=level, detail=text)
        elif self._budget.take("lines", self._loop.time()):
            _log.warning("kamailio", level=level, detail=text, **({"left_out": self._untold} if self._untold else {}))
            self._untold = 0
        else:
            self._untold += 1  # it has a line for each message that strangers make up wrong
