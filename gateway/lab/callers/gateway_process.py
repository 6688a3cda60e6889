"""``gateway serve`` as a child process, for programs that need a whole gateway: demo, bench, tests."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from gateway.errors import SipError
from gateway.free_port import free_port
from gateway.settings.sources import environment_for_child

START_LIMIT_S = 120.0
STOP_LIMIT_S = 10.0
_READY = re.compile(rb"ready: sip:[^ ]*:(\d+)")
_REMEMBERED_LINES = 200


def first_of_rtp_ports() -> int:
    """Return an even port above 30000 at which a hundred RTP ports may begin: another number for each caller."""
    return free_port() // 2 * 2 % 20000 + 30000


def on_loopback(dialplan: Path, realtime_url: str) -> dict[str, str]:
    """
    Return the settings, as environment variables, of a gateway on loopback: a free SIP port and a hundred RTP ports.

    Args:
        dialplan: its file or folder.
        realtime_url: of the voice model's service, a simulator.
    """
    first_rtp_port = first_of_rtp_ports()
    return {
        "GATEWAY_DIALPLAN": str(dialplan.resolve()),
        "GATEWAY_SIP__HOST": "127.0.0.1",
        "GATEWAY_SIP__PORT": "0",
        "GATEWAY_SIP__RTP_PORT_MIN": str(first_rtp_port),
        "GATEWAY_SIP__RTP_PORT_MAX": str(first_rtp_port + 99),
        "GATEWAY_REALTIME__URL": realtime_url,
        "GATEWAY_REALTIME__API_KEY": "simulated",
    }


class Child(Protocol):
    """A running ``gateway serve``, as ``asyncio.subprocess.Process`` has it."""

    pid: int

    @property
    def stdout(self) -> AsyncIterable[bytes] | None:
        """The lines it prints and logs."""

    @property
    def returncode(self) -> int | None:
        """Its exit code; None while it runs."""

    def send_signal(self, signal: int, /) -> None:
        """Send it a signal."""

    def kill(self) -> None:
        """Send it SIGKILL."""

    async def wait(self) -> int:
        """Wait for its end; return its exit code."""


async def start_gateway(environment: Mapping[str, str], *flags: str) -> Child:
    """Start ``gateway serve`` in an interpreter of its own, with this environment and these flags of Python."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, *flags, "-m", "gateway", "serve"),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


class GatewayProcess:
    """
    A gateway of its own, ready inside the ``async with`` block, ended with SIGTERM behind it.

    Args:
        variables: settings as environment variables; no other setting of this machine reaches it but the working
            directory's files.
        start: starts the child with an environment.

    Attributes:
        port: its SIP port.
        output: the last lines it printed or logged.
        process: the child.
    """

    def __init__(
        self, variables: Mapping[str, str], start: Callable[[Mapping[str, str]], Awaitable[Child]] = start_gateway
    ) -> None:
        self._environment = environment_for_child(variables)
        self._start = start
        self.port = 0
        self.output: deque[str] = deque(maxlen=_REMEMBERED_LINES)
        self.process: Child
        self._ready = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """
        Start it and wait until it takes calls.

        Raises:
            SipError: it ended, or was not ready in time; the text is what it printed.
        """
        self.process = await self._start(self._environment)
        self._reader = asyncio.create_task(self._read())
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await self._ready.wait()
        except TimeoutError:
            pass
        if not self.port:
            await self.stop()
            raise SipError("the gateway did not start:\n" + "\n".join(self.output))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        await self.stop()

    async def stop(self) -> int:
        """End it with SIGTERM, or SIGKILL when that takes too long; return its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_LIMIT_S):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()
        code = await self.process.wait()
        if self._reader is not None:
            await self._reader
        return code

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.output.append(line.decode(errors="replace").rstrip())
            if found := _READY.search(line):
                self.port = int(found.group(1))
                self._ready.set()
        self._ready.set()
