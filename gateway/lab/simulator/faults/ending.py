"""
Faults that end or freeze a session at a moment.

A moment is seconds since ``session.created`` (``5``), an event of either side (``session.update``), or seconds after
one (``response.done+0.5``). A client's event that is itself the moment has no effect and draws no answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from gateway.lab.simulator.faults.fault import Fault, FaultyLink, seconds
from gateway.lab.simulator.wire.errors import error_event
from gateway.lab.simulator.wire.event_types import CLIENT_EVENT_TYPES, SERVER_EVENT_TYPES

_OPEN = "open"


@dataclass(frozen=True, slots=True)
class AtMoment(Fault):
    """Something that happens ``seconds`` after the beginning, or after the first ``event`` from then on."""

    seconds: float
    event: str | None = field(default=None, kw_only=True)

    def swallows(self, event_type: str) -> bool:
        """Take the client's event that is the moment."""
        return event_type == self.event and not self.seconds and event_type in CLIENT_EVENT_TYPES

    async def run(self, link: FaultyLink) -> None:
        """Wait, then act."""
        if self.event is not None:
            await link.reached(self.event)
        await asyncio.sleep(self.seconds)
        await self.act(link)

    async def act(self, link: FaultyLink) -> None:
        """Do what the fault does."""


@dataclass(frozen=True, slots=True)
class CloseAfter(AtMoment):
    """``close=5`` or ``close=session.update:1011``: CLOSE, with 1000 by default."""

    code: int = 1000

    async def act(self, link: FaultyLink) -> None:
        """Close."""
        await link.close(self.code, "")


@dataclass(frozen=True, slots=True)
class DropAfter(AtMoment):
    """``drop=5`` or ``drop=response.output_audio.delta``: the TCP connection is reset."""

    async def act(self, link: FaultyLink) -> None:
        """Drop."""
        link.abort()


@dataclass(frozen=True, slots=True)
class FreezeAfter(AtMoment):
    """``freeze=5``: TCP stays up, but nothing is read, sent or answered any more, not even PING."""

    async def act(self, link: FaultyLink) -> None:
        """Freeze."""
        await link.freeze()


@dataclass(frozen=True, slots=True)
class ServerError(AtMoment):
    """``server_error=5``, ``server_error=session.update:1000``, ``server_error=5:open``: an error, CLOSE or not."""

    close_code: int | None = 1011

    async def act(self, link: FaultyLink) -> None:
        """Fail."""
        message = "The server had an error while processing your request."
        link.emit(error_event("server_error", message, error_type="server_error"))
        if self.close_code is not None:
            await link.close(self.close_code, "")


@dataclass(frozen=True, slots=True)
class Expire(AtMoment):
    """``expire=20``: the session lives so long, says so in ``expires_at``, and ends with 1001."""

    def lifetime_s(self) -> float | None:
        """Return its length."""
        return self.seconds

    async def act(self, link: FaultyLink) -> None:
        """Tell, then close."""
        link.emit(error_event("session_expired", "Your session hit the maximum duration of 60 minutes."))
        await link.close(1001, "session_expired")


@dataclass(frozen=True, slots=True)
class Ping(Fault):
    """``ping=0.5``: the interval of PINGs in seconds."""

    every_s: float

    async def run(self, link: FaultyLink) -> None:
        """Ping until the end."""
        while True:
            await asyncio.sleep(self.every_s)
            await link.ping()


def close(value: str) -> Fault:
    """Read ``MOMENT`` or ``MOMENT:CODE``."""
    when, _, code = value.partition(":")
    return CloseAfter(**moment(when), code=int(code or 1000))


def drop(value: str) -> Fault:
    """Read ``MOMENT``."""
    return DropAfter(**moment(value))


def freeze(value: str) -> Fault:
    """Read ``MOMENT``."""
    return FreezeAfter(**moment(value))


def server_error(value: str) -> Fault:
    """Read ``MOMENT``, ``MOMENT:CODE`` or ``MOMENT:open``."""
    when, _, code = value.partition(":")
    return ServerError(**moment(when), close_code=None if code == _OPEN else int(code or 1011))


def expire(value: str) -> Fault:
    """Read ``SECONDS``."""
    return Expire(seconds(value))


def ping(value: str) -> Fault:
    """Read ``SECONDS``."""
    every_s = seconds(value)
    if every_s < 0.01:
        raise ValueError("give 0.01 s or more")
    return Ping(every_s)


def moment(value: str) -> dict[str, Any]:
    """
    Read a moment as the fields of ``AtMoment``.

    Raises:
        ValueError: it is not a moment.
    """
    value = value.replace(" ", "+")  # what a bare + means in a URL's query
    event, _, delay = value.partition("+")
    if event in CLIENT_EVENT_TYPES or event in SERVER_EVENT_TYPES:
        return {"seconds": seconds(delay or "0"), "event": event}
    try:
        float(value)
    except ValueError:
        raise ValueError("give seconds, an event, or an event+seconds") from None
    return {"seconds": seconds(value)}
