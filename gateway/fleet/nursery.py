"""
The process that forks workers: all they need is loaded in it, and no thread, loop or SIP library was started yet.

The supervisor forks it from itself before it starts its own loop (``open_nursery``), when all that a worker needs has
been imported and frozen (``gc.freeze``), so that a worker shares most of its memory with all others and is ready in a
fraction of a second. The nursery then waits for requests on a socket: each brings what to run (``ForkRequest``) and two
descriptors, the pipe and the output of the new process, and is answered with its process id.

A worker must outlive the nursery and be waited for by the supervisor, so the nursery forks twice: the process between
ends at once, and its child goes to the supervisor, which has declared itself the reaper of orphans
(``PR_SET_CHILD_SUBREAPER``). Nursery and workers are in a session of their own: Ctrl-C in a terminal is for the
supervisor alone. When the supervisor goes, the nursery's socket ends, and so does the nursery.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from gateway.child_process import waited_for
from gateway.errors import GatewayError
from gateway.fleet.handover import SIGNALS, signals_wanted
from gateway.fleet.pipe import LONGEST_BYTES, Pipe

_PR_SET_CHILD_SUBREAPER = 36
_DESCRIPTORS = 2


@dataclass(frozen=True, slots=True)
class ForkRequest:
    """
    What the nursery is asked for.

    Attributes:
        number: of the request; its answer has the same.
        kind: which of the nursery's programs to run.
        values: what the program is given.
    """

    number: int
    kind: str
    values: dict[str, Any]


Program = Callable[[dict[str, Any], socket.socket, int], int]
"""
Runs in the new process and returns its exit code. It is given the request's values, its end of the pipe, and a
descriptor of the supervisor's standard error, for when there is no supervisor to write to any more.
"""


class NurseryGone(GatewayError):
    """The nursery has ended, so nothing can be forked."""


@dataclass(frozen=True, slots=True)
class NurseryProcess:
    """
    A nursery before the supervisor's loop runs.

    Attributes:
        pid: its process id.
        end: the supervisor's end of its socket.
    """

    pid: int
    end: socket.socket


def open_nursery(programs: Mapping[str, Program]) -> NurseryProcess:
    """
    Fork the nursery. Call it when everything is imported and no loop, thread or library was started.

    Args:
        programs: what it can be asked to run, by kind.

    Raises:
        OSError: the system has no memory or processes left.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    gc.collect()
    gc.freeze()
    pid = os.fork()
    if not pid:
        ours.close()
        _never_return(lambda: _serve(its, programs))
    its.close()
    return NurseryProcess(pid, ours)


class Nursery:
    """
    The supervisor's side of the nursery. Thread: loop.

    Args:
        process: as ``open_nursery`` returned it.
        on_end: called when it has ended.
    """

    def __init__(self, process: NurseryProcess, on_end: Callable[[], None]) -> None:
        self.pid = process.pid
        self._on_end = on_end
        self._socket = process.end
        self._answers: dict[int, asyncio.Future[int]] = {}
        self._numbers = 0
        self._pipe = Pipe(process.end, self._take, self._gone)
        self.is_gone = False

    async def fork(self, kind: str, values: dict[str, Any], pipe: socket.socket, output: int) -> int:
        """
        Have a program run in a new process and return its process id; it is a child of this process.

        Args:
            kind: which program.
            values: what it is given.
            pipe: its end of a pipe; stays open here.
            output: where it writes, standard error too; stays open here.

        Raises:
            NurseryGone: there is no nursery any more.
        """
        if self.is_gone:
            raise NurseryGone("the nursery has ended")
        self._numbers += 1
        request = ForkRequest(self._numbers, kind, values)
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._answers[request.number] = answer
        try:
            socket.send_fds(self._socket, [json.dumps(asdict(request)).encode()], [pipe.fileno(), output])
        except OSError as error:
            del self._answers[request.number]
            raise NurseryGone(f"the nursery does not take requests: {error}") from error
        return await answer

    async def close(self) -> None:
        """End it: it ends with its socket."""
        self.is_gone = True
        self._pipe.close()
        await waited_for(self.pid)

    def _take(self, answer: dict[str, Any]) -> None:
        self._answers.pop(answer["number"]).set_result(answer["pid"])

    def _gone(self) -> None:
        self.is_gone = True
        for answer in self._answers.values():
            answer.set_exception(NurseryGone("the nursery has ended"))
        self._answers.clear()
        self._on_end()


def _serve(requests: socket.socket, programs: Mapping[str, Program]) -> int:
    """Fork on request until the supervisor is gone."""
    _close_all_but(requests.fileno())  # a pipe's other end in here would hide the death of the supervisor
    os.setsid()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signals_wanted()
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, LONGEST_BYTES, _DESCRIPTORS)
        if not data:
            return 0
        request = ForkRequest(**json.loads(data))
        pid = _fork_detached(lambda: _become(request, descriptors, requests, programs))  # noqa: B023 - runs at once
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(OSError):  # the supervisor is gone: the next read says so
            requests.send(json.dumps({"number": request.number, "pid": pid}).encode())


def _close_all_but(kept: int) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != kept:
            with contextlib.suppress(OSError):  # the one that listed them
                os.close(int(name))


def _fork_detached(run: Callable[[], int]) -> int:
    """Run something in a process that is a child of the supervisor; return its id."""
    reading, writing = os.pipe()
    between = os.fork()
    if not between:
        pid = os.fork()
        if not pid:
            os.close(reading)
            os.close(writing)
            _never_return(run)
        os.write(writing, str(pid).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(between, 0)
    with open(reading, "rb") as answer:
        return int(answer.read().decode())


def _become(
    request: ForkRequest, descriptors: list[int], requests: socket.socket, programs: Mapping[str, Program]
) -> int:
    """Be the process that was asked for."""
    requests.close()
    pipe, output = descriptors
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    stderr = os.dup(2)
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    return programs[request.kind](request.values, socket.socket(fileno=pipe), stderr)


def _never_return(run: Callable[[], int]) -> NoReturn:
    """Run something and end this process with the code that it returns: no frame below belongs to it."""
    code = 70  # EX_SOFTWARE
    try:
        code = run()
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
