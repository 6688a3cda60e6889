"""
``gateway serve`` forked from a process that has imported everything: what starting an interpreter costs, most of what a
short test takes, is paid once. What is about starting and ending a process takes a real one.
"""

from __future__ import annotations

import asyncio
import faulthandler
import multiprocessing
import os
import sys
import warnings
from collections.abc import Mapping
from multiprocessing.connection import Connection

from gateway.lab.callers.gateway_process import GatewayProcess

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["gateway.cli.main"])


class WarmProcess:
    """
    A forked gateway, with as much of ``asyncio.subprocess.Process`` as a ``ChildProcess`` needs.

    Attributes:
        stdout: what it prints and logs.
        returncode: its exit code; None while it runs.
    """

    def __init__(self, process: multiprocessing.process.BaseProcess, stdout: asyncio.StreamReader) -> None:
        self._process = process
        self.stdout = stdout
        self.pid = process.pid or 0
        self.returncode: int | None = None
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(process.sentinel, self._on_end)

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    async def wait(self) -> int:
        """Wait for its end; return its exit code."""
        await self._ended.wait()
        return self.returncode or 0

    def _on_end(self) -> None:
        self._loop.remove_reader(self._process.sentinel)
        self._process.join()
        self.returncode = self._process.exitcode
        self._process.close()
        self._ended.set()


class WarmGateway(GatewayProcess):
    """A gateway that is forked; its checks of threads are on."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__(variables, debug=True)

    async def launch(self) -> WarmProcess:
        """Fork it."""
        ours, its = _FORKS.Pipe(duplex=False)
        with its:
            process = _FORKS.Process(target=_serve, args=(self._environment, its))
            process.start()
        stdout = asyncio.StreamReader()
        pipe = os.fdopen(os.dup(ours.fileno()), "rb")
        ours.close()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdout), pipe)
        return WarmProcess(process, stdout)


def _serve(environment: dict[str, str], output: Connection) -> None:
    os.environ.clear()
    os.environ.update(environment, PYTHONASYNCIODEBUG="1")
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    faulthandler.enable()
    warnings.simplefilter("default")
    sys.argv = ["gateway", "serve"]

    from gateway.cli.main import main

    main()
