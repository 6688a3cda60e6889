"""
The socket that ``gateway fleet`` talks to the supervisor over: a line of JSON each way, for the same user alone.

A request is ``{"command": "status"}``; the answer is an object, with ``error`` in it if the command failed. The socket
is a file of mode 0600, by default in the login session's folder, else in one of our own among the temporary files.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gateway.errors import ConfigError, GatewayError
from gateway.settings.sections import Settings
from gateway.settings.sources import runtime_folder

LONGEST_BYTES = 2**20
ANSWER_LIMIT_S = 120.0

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class NoFleet(GatewayError):
    """No supervisor answers."""


def control_path(settings: Settings, environment: Mapping[str, str], *, pid: int = 0) -> Path:
    """
    Return where the socket of a fleet is.

    Args:
        settings: ``fleet.control``, or the SIP port that tells fleets of one machine apart.
        environment: ``XDG_RUNTIME_DIR`` if it is set.
        pid: of the supervisor, which tells fleets apart that listen on any free port; 0 for who looks for one.

    Raises:
        ConfigError: the settings do not tell which fleet; or the folder belongs to somebody else.
    """
    if settings.fleet.control is not None:
        return settings.fleet.control
    if not (settings.sip.port or pid):
        raise ConfigError("fleet.control: sip.port is 0, so nothing tells which fleet; name its socket with --control")
    name = f"gateway-fleet-{settings.sip.port or f'of-{pid}'}.sock"
    return runtime_folder(environment) / name


class ControlSocket:
    """
    The supervisor's end, inside the ``async with`` block.

    Args:
        path: of the socket.
        answer: carries a request out and returns the answer; a ``GatewayError`` becomes its ``error``.

    Raises:
        ConfigError: on entry: another fleet has the socket, or it cannot be made.

    Thread: loop.
    """

    def __init__(self, path: Path, answer: Answer) -> None:
        self._path = path
        self._answer = answer
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        """Make the socket."""
        if _is_answered(self._path):
            raise ConfigError(
                f"fleet.control: another fleet listens on {self._path}; set another path, or end that one"
            )
        old = os.umask(0o177)
        try:
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._serve, path=str(self._path), limit=LONGEST_BYTES)
        except OSError as error:
            raise ConfigError(f"fleet.control: cannot listen on {self._path}: {error}; set another path") from None
        finally:
            os.umask(old)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the socket."""
        self._server.close()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await self._answered(await reader.readline())
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError):  # it went away, or its line is too long
            pass
        finally:
            writer.close()

    async def _answered(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            return {"error": "not a JSON object in one line"}
        try:
            return await self._answer(request)
        except GatewayError as error:
            return {"error": str(error)}


async def ask(path: Path, command: str) -> dict[str, Any]:
    """
    Ask the supervisor; return its answer.

    Raises:
        NoFleet: nobody listens there, or the supervisor went away.
        GatewayError: it refused.
    """
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            reader, writer = await asyncio.open_unix_connection(str(path), limit=LONGEST_BYTES)
            try:
                writer.write(json.dumps({"command": command}).encode() + b"\n")
                line = await reader.readline()
            finally:
                writer.close()
    except OSError as error:  # a limit that passed is one too
        raise NoFleet(f"no fleet answers on {path} ({error}); is `gateway serve --calls N` running?") from None
    if not line:
        raise NoFleet(f"the fleet on {path} went away")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise GatewayError(str(answer["error"]))
    return answer


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
