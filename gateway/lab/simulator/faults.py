"""
What can be made to go wrong, on every connection (options) or on one (``?fault=`` in its URL).

A fault is a small class that overrides the hooks it needs; the rest of the simulator knows the hooks alone. A new one
is a class and its line in ``FAULTS``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from gateway.errors import ConfigError
from gateway.lab.simulator.refusals import REFUSALS, Refusal, error_event


class FaultyLink(Protocol):
    """What a fault may do to a connection."""

    def emit(self, event: dict[str, Any]) -> None:
        """Send an event behind those already waiting."""

    async def close(self, code: int, reason: str) -> None:
        """Send what waits, then CLOSE."""

    def abort(self) -> None:
        """Drop the TCP connection without a word."""


class Fault:
    """The hooks, each with the answer of a connection on which nothing goes wrong."""

    def http_status(self) -> HTTPStatus | None:
        """Return the status that refuses the upgrade, or None to let it pass."""
        return None

    def refusal(self) -> Refusal | None:
        """Return the refusal that takes the place of ``session.created``, or None."""
        return None

    def delay_s(self, event_type: str) -> float | None:
        """Return how long a server event (and all behind it) is held back; None swallows it."""
        return 0.0

    async def run(self, link: FaultyLink) -> None:
        """Run beside the session, from ``session.created`` on; cancelled at its end."""


@dataclass(frozen=True, slots=True)
class Refuse(Fault):
    """``refuse=invalid_api_key``: refused after the upgrade, for any of the reasons the service has."""

    why: str

    def refusal(self) -> Refusal | None:
        """Return the refusal named."""
        return REFUSALS[self.why]


@dataclass(frozen=True, slots=True)
class RefuseUpgrade(Fault):
    """``http=503``: an HTTP status in place of the upgrade."""

    status: HTTPStatus

    def http_status(self) -> HTTPStatus | None:
        """Return the status."""
        return self.status


@dataclass(frozen=True, slots=True)
class Silent(Fault):
    """``silent``: ``session.updated`` never comes."""

    def delay_s(self, event_type: str) -> float | None:
        """Swallow ``session.updated``."""
        return None if event_type == "session.updated" else 0.0


@dataclass(frozen=True, slots=True)
class SlowUpdate(Fault):
    """``slow=2.5``: ``session.updated``, and all behind it, is held back for so many seconds."""

    seconds: float

    def delay_s(self, event_type: str) -> float | None:
        """Hold ``session.updated`` back."""
        return self.seconds if event_type == "session.updated" else 0.0


@dataclass(frozen=True, slots=True)
class CloseAfter(Fault):
    """``close=5`` or ``close=5:1011``: CLOSE (1000 unless told) so many seconds into the session."""

    seconds: float
    code: int

    async def run(self, link: FaultyLink) -> None:
        """Wait, then close."""
        await asyncio.sleep(self.seconds)
        await link.close(self.code, "")


@dataclass(frozen=True, slots=True)
class DropAfter(Fault):
    """``drop=5``: the TCP connection is reset so many seconds into the session."""

    seconds: float

    async def run(self, link: FaultyLink) -> None:
        """Wait, then drop."""
        await asyncio.sleep(self.seconds)
        link.abort()


@dataclass(frozen=True, slots=True)
class FailAfter(Fault):
    """An ``error`` event that is final, and its CLOSE, so many seconds into the session."""

    seconds: float
    event: dict[str, Any]
    close_code: int
    reason: str

    async def run(self, link: FaultyLink) -> None:
        """Wait, then fail."""
        await asyncio.sleep(self.seconds)
        link.emit(self.event)
        await link.close(self.close_code, self.reason)


def _refuse(value: str) -> Fault:
    if value not in REFUSALS:
        raise ValueError(f"give one of {', '.join(REFUSALS)}")
    return Refuse(value)


def _http(value: str) -> Fault:
    status = HTTPStatus(int(value))
    if not 400 <= status <= 599:
        raise ValueError("give a status from 400 to 599")
    return RefuseUpgrade(status)


def _silent(value: str) -> Fault:
    if value:
        raise ValueError("it takes no value")
    return Silent()


def _close(value: str) -> Fault:
    seconds, _, code = value.partition(":")
    return CloseAfter(_seconds(seconds), int(code or 1000))


def _server_error(value: str) -> Fault:
    message = "The server had an error while processing your request."
    event = error_event("server_error", message, error_type="server_error")
    return FailAfter(_seconds(value), event, 1011, "")


def _expire(value: str) -> Fault:
    message = "Your session hit the maximum duration of 60 minutes."
    event = error_event("session_expired", message)
    return FailAfter(_seconds(value), event, 1001, "session_expired")


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0 <= seconds <= 86400:
        raise ValueError("give seconds from 0 to 86400")
    return seconds


FAULTS: dict[str, Callable[[str], Fault]] = {
    "refuse": _refuse,
    "http": _http,
    "silent": _silent,
    "slow": lambda value: SlowUpdate(_seconds(value)),
    "close": _close,
    "drop": lambda value: DropAfter(_seconds(value)),
    "server_error": _server_error,
    "expire": _expire,
}


def parse_fault(told: str) -> Fault:
    """
    Read one fault: ``name`` or ``name=value``.

    Raises:
        ConfigError: no such fault, or a value that is not one.
    """
    name, _, value = told.partition("=")
    make = FAULTS.get(name)
    if make is None:
        raise ConfigError(f"fault {told!r}: not known; there are {', '.join(FAULTS)}")
    try:
        return make(value)
    except ValueError as error:
        raise ConfigError(f"fault {told!r}: {error}") from None
