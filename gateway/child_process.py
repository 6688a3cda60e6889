"""
A program run beside this one: its output is kept, it can be waited for, and it does not outlive its block.

A task reads what the program writes, line by line, so that it never blocks on a full pipe. ``find`` and ``wait`` sleep
until that task has news. ``stop`` asks with a signal first and kills when that takes too long.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections import deque
from collections.abc import AsyncIterable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from gateway.errors import GatewayError

_TAIL_LINES = 15
_LONGEST_LINE_BYTES = 2**20


# Arguments: pid of the parent, signal, then the command. The pid tells of a parent that died before prctl took hold.
_LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, int(sys.argv[2]), 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[3], sys.argv[3:])
"""


def dying_with_us(*command: str, at_death: signal.Signals = signal.SIGKILL) -> tuple[str, ...]:
    """
    Return a command that runs ``command`` and gives it a signal when we die, whatever kills us.

    The kernel sees to it: between fork and exec, a launcher of a few lines asks for the signal at the death of its
    parent (``prctl(PR_SET_PDEATHSIG)``, Linux), which stays in force over the exec. That needs no watchdog process and
    no ``preexec_fn``, which is unsafe in a process with threads. "Parent" there means the thread that started it, so
    start it on the main thread. Nothing is sent when we exec: the thread goes on.

    Args:
        command: absolute path of the program, and its arguments.
        at_death: the signal.
    """
    return (sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), str(int(at_death)), *command)


async def waited_for(pid: int) -> None:
    """Wait for the end of a child of ours that nobody else waits for, such as one from before an ``exec``."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:  # somebody did wait for it
        return
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
        with suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222 - it has ended
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


class ChildFailed(GatewayError):
    """A program ended, or did not do what was awaited; the text says which and shows its last lines."""


class Running(Protocol):
    """A running program, as ``asyncio.subprocess.Process`` has it."""

    @property
    def pid(self) -> int:
        """Process id."""

    @property
    def stdout(self) -> AsyncIterable[bytes] | None:
        """The lines it writes, standard error too."""

    @property
    def returncode(self) -> int | None:
        """Its exit code; None while it runs."""

    def send_signal(self, signal: int, /) -> None:
        """Send it a signal."""

    async def wait(self) -> int:
        """Wait for its end; return its exit code."""


class ChildProcess:
    """
    One program, running inside the ``async with`` block.

    Args:
        command: program and arguments.
        name: for messages; without one, the program's.
        environment: all of its environment; None inherits this process's.
        folder: working directory; None inherits.
        kept_lines: how many of the last lines of its output are kept; None keeps all.
        new_session: give it a session of its own: Ctrl-C in our terminal does not reach it, and when it has to be
            killed, all of its session is.
        stop_signal: asks it to end.
        stop_limit_s: how long it may take to end before it is killed.
        on_line: takes each line of its output as it comes.

    Attributes:
        lines: what it wrote, standard error too, without line ends.

    Thread: loop.
    """

    def __init__(
        self,
        *command: str,
        name: str = "",
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        kept_lines: int | None = 1000,
        new_session: bool = False,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_limit_s: float = 10.0,
        on_line: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.name = name or Path(command[0]).name
        self.lines: deque[str] = deque(maxlen=kept_lines)
        self._command = command
        self._environment = None if environment is None else dict(environment)
        self._folder = folder
        self._new_session = new_session
        self._stop_signal = stop_signal
        self._stop_limit_s = stop_limit_s
        self._on_line = on_line
        self._process: Running
        self._reader: asyncio.Task[None]
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Start it."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        await self.stop()

    async def start(self) -> None:
        """
        Start it, where an ``async with`` block does not fit; ``stop`` must follow.

        Raises:
            OSError: there is no such program.
        """
        self._process = await self.launch()
        self._reader = asyncio.create_task(self._read())

    async def launch(self) -> Running:
        """Run the command; a subclass may start its program in another way."""
        return await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self._folder,
            env=self._environment,
            limit=_LONGEST_LINE_BYTES,
            start_new_session=self._new_session,
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.returncode

    @property
    def output(self) -> str:
        """What it wrote, as far as it is kept."""
        return "\n".join(self.lines)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; without effect when it has ended."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def find(self, pattern: str, limit_s: float) -> re.Match[str]:
        """
        Wait until ``pattern`` is found in a line of its output; a match before that counts too.

        Raises:
            ChildFailed: it ended without one, or the limit passed.
        """
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    self._news.clear()
                    has_ended = self._reader.done()
                    for line in self.lines:
                        if found := re.search(pattern, line):
                            return found
                    if has_ended:
                        raise self.failure(f"ended with exit code {await self._process.wait()}")
                    await self._news.wait()
        except TimeoutError:
            raise self.failure(f"did not write {pattern!r} within {limit_s:g} s") from None

    async def wait(self, limit_s: float) -> int:
        """
        Wait until it has ended by itself; return its exit code. Its output is whole then.

        Raises:
            ChildFailed: it still runs after the limit.
        """
        try:
            async with asyncio.timeout(limit_s):
                return await self.ended()
        except TimeoutError:
            raise self.failure(f"still runs after {limit_s:g} s") from None

    async def ended(self) -> int:
        """Wait until it has ended by itself, however long that takes; return its exit code."""
        await asyncio.shield(self._reader)
        return await self._process.wait()

    async def stop(self) -> int:
        """Ask it to end, kill it if it does not in time; return its exit code."""
        if self.exit_code is None:
            self.send_signal(self._stop_signal)
            try:
                async with asyncio.timeout(self._stop_limit_s):
                    await self._process.wait()
            except TimeoutError:
                self._kill()
        code = await self._process.wait()
        await self._reader
        return code

    def _kill(self) -> None:
        """Kill it, and all of its session: children that hold its output open would have us wait for ever."""
        if not self._new_session:
            self.send_signal(signal.SIGKILL)
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def failure(self, what: str) -> ChildFailed:
        """Return an error that says what happened and shows the last lines."""
        tail = "\n".join([*self.lines][-_TAIL_LINES:]) or "(it wrote nothing)"
        return ChildFailed(f"{self.name} {what}; its last lines:\n{tail}")

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            async for line in self._process.stdout:
                self.lines.append(line.decode(errors="replace").rstrip())
                self._on_line(self.lines[-1])
                self._news.set()
        finally:
            self._news.set()
