"""A program that the bench started: watched by its output, measured and stopped by its process id."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import gateway
from gateway.errors import ConfigError, GatewayError

PYTHON = (sys.executable, "-X", "utf8")
_SOURCE = Path(gateway.__file__).parents[1]
_LOOK_S = 0.05
_STOP_S = 8.0
_TAIL_LINES = 15


class BenchFailed(GatewayError):
    """A measurement could not be made; says which program failed and how it ended."""


class Child:
    """
    One running program; its output goes to a file.

    Attributes:
        name: for messages.
        pid: process id.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, output: Path) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._output = output

    @property
    def exit_code(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._process.returncode

    async def find_in_output(self, pattern: str, limit_s: float) -> re.Match[str]:
        """
        Wait until the program has written what ``pattern`` finds.

        Raises:
            BenchFailed: it ended before that, or the limit passed.
        """
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    found = re.search(pattern, self.output())
                    if found is not None:
                        return found
                    if self.exit_code is not None:
                        raise self.failure(f"ended with exit code {self.exit_code}")
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise self.failure(f"did not write {pattern!r} within {limit_s:g} s") from None

    def output(self) -> str:
        """Return what the program has written so far."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def failure(self, what: str) -> BenchFailed:
        """Return an error that says what happened and shows the program's last lines."""
        tail = "\n".join(self.output().splitlines()[-_TAIL_LINES:]) or "(it wrote nothing)"
        return BenchFailed(f"{self.name} {what}; its last lines:\n{tail}")

    def cpu_s(self) -> float:
        """Return the seconds of CPU that this process alone has used, user and system, all its threads."""
        times = _psutil().Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def rss_mb(self) -> float:
        """Return the memory that this process alone holds now, in MiB."""
        return float(_psutil().Process(self.pid).memory_info().rss / 2**20)

    async def stop(self) -> None:
        """Ask it to end, and end it if it does not."""
        for ask in (self._process.terminate, self._process.kill):
            if self.exit_code is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                ask()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _STOP_S)


@asynccontextmanager
async def running(
    name: str, command: Sequence[str], work_dir: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Child]:
    """
    Run a program for the length of a ``with`` block.

    Args:
        name: for messages and the name of the file its output goes to.
        command: program and arguments.
        work_dir: its working directory, and where its output goes.
        environment: all of its environment but for what Python needs to find the gateway: settings of the person
            who runs the bench do not reach what is measured.
    """
    output = work_dir / f"{name}.log"
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=asyncio.subprocess.STDOUT,
            cwd=work_dir,
            env={"PYTHONPATH": str(_SOURCE), "PYTHONUNBUFFERED": "1", "TERM": "dumb", **(environment or {})},
        )
    child = Child(name, process, output)
    try:
        yield child
    finally:
        await child.stop()


def _psutil() -> Any:
    try:
        import psutil
    except ImportError:
        raise ConfigError(
            "the bench needs psutil, which is not installed: pip install 'sip-voice-gateway[lab]'"
        ) from None
    return psutil
