"""A process that the nursery forked, as the supervisor has it: its pipe, what it writes, its death."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gateway.fleet.handover import ChildState
from gateway.fleet.nursery import Nursery
from gateway.fleet.output import Output
from gateway.fleet.pipe import Pipe


@dataclass(frozen=True, slots=True)
class Watch:
    """
    Who is told of a child.

    Attributes:
        on_message: takes each of its messages.
        on_line: takes each line that it writes.
        on_death: takes how it ended, once: ``exit code 1`` or ``signal SIGKILL``.
    """

    on_message: Callable[[dict[str, Any]], None]
    on_line: Callable[[str], None]
    on_death: Callable[[str], None]


class Child:
    """
    A child process of the supervisor. Thread: loop.

    Args:
        pid: its process id; not waited for yet.
        end: our end of its pipe.
        reading: descriptor of what it writes.
        watch: who is told.
        rest: the beginning of a line that it wrote to a supervisor before this one.

    Attributes:
        ended: how it ended; None while it lives.
    """

    def __init__(self, pid: int, end: socket.socket, reading: int, watch: Watch, rest: str = "") -> None:
        self.pid = pid
        self.ended: str | None = None
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._pidfd = os.pidfd_open(pid)
        self._pipe = Pipe(end, watch.on_message, lambda: None)
        self._output = Output(reading, watch.on_line, rest)
        self._gone = asyncio.Event()
        self._loop.add_reader(self._pidfd, self._on_death)

    @classmethod
    async def fork(cls, nursery: Nursery, kind: str, values: dict[str, Any], watch: Callable[[int], Watch]) -> Child:
        """
        Have one forked.

        Args:
            nursery: who forks.
            kind: which of its programs to run.
            values: what the program is given.
            watch: gives who is told, from the process id.

        Raises:
            NurseryGone: there is no nursery any more.
        """
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reading, writing = os.pipe()
        try:
            pid = await nursery.fork(kind, values, its, writing)
        except BaseException:
            ours.close()
            os.close(reading)
            raise
        finally:
            its.close()
            os.close(writing)
        return cls(pid, ours, reading, watch(pid))

    @classmethod
    def adopt(cls, state: ChildState, watch: Watch) -> Child:
        """Take over one that was forked before this process executed itself again."""
        return cls(state.pid, socket.socket(fileno=state.pipe), state.output, watch, state.rest)

    @property
    def state(self) -> ChildState:
        """What a supervisor needs that takes it over."""
        return ChildState(self.pid, self._pipe.fileno, self._output.fileno, self._output.rest)

    @property
    def last_lines(self) -> list[str]:
        """What it wrote last."""
        return [*self._output.last_lines]

    def send(self, message: Mapping[str, Any]) -> None:
        """Send it a message."""
        self._pipe.send(message)

    def kill(self) -> None:
        """End it at once."""
        if self.ended is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def wait(self) -> None:
        """Wait for its end."""
        await self._gone.wait()

    def _on_death(self) -> None:
        try:
            found = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:  # not ours to wait for: nothing is known but that it is gone
            self._close("unknown")
            return
        if found is not None:
            by_signal = found.si_code != os.CLD_EXITED
            self._close(f"signal {_signal(found.si_status)}" if by_signal else f"exit code {found.si_status}")

    def _close(self, how: str) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pipe.close()
        self._output.close()
        self.ended = how
        self._gone.set()
        self._watch.on_death(how)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
