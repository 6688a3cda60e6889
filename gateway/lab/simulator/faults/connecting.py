"""Faults at the beginning and the end of a connection: who is let in, and how a CLOSE is answered."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from http import HTTPStatus

from gateway.lab.simulator.faults.fault import CloseReply, Fault, seconds
from gateway.lab.simulator.wire.errors import REFUSALS, SessionRefusal


@dataclass(frozen=True, slots=True)
class RefuseSession(Fault):
    """``refuse=invalid_api_key`` or ``refuse=invalid_model:1005``: refused after the upgrade, CLOSE by choice."""

    why: str
    close_code: int | None = None

    def refusal(self) -> SessionRefusal | None:
        """Return the refusal named."""
        usual = REFUSALS[self.why]
        return usual if self.close_code is None else dataclasses.replace(usual, close_code=self.close_code)


@dataclass(frozen=True, slots=True)
class RefuseUpgrade(Fault):
    """``http=503`` or ``http=429:2``: an HTTP status in place of the upgrade, with ``Retry-After``."""

    status: HTTPStatus
    retry_s: int | None = None

    def http_status(self) -> HTTPStatus | None:
        """Return the status."""
        return self.status

    def retry_after_s(self) -> int | None:
        """Return the header's value."""
        return self.retry_s


@dataclass(frozen=True, slots=True)
class RefuseMint(Fault):
    """``mint=503`` or ``mint=429:2``: an HTTP status in place of a client secret."""

    status: HTTPStatus
    retry_s: int | None = None

    def mint_status(self) -> HTTPStatus | None:
        """Return the status."""
        return self.status

    def retry_after_s(self) -> int | None:
        """Return the header's value."""
        return self.retry_s


@dataclass(frozen=True, slots=True)
class SlowHandshake(Fault):
    """``handshake=3``: the upgrade is answered this many seconds late."""

    seconds_late: float

    def handshake_delay_s(self) -> float:
        """Return the seconds."""
        return self.seconds_late


@dataclass(frozen=True, slots=True)
class AnswerClose(Fault):
    """``close_reply=never`` or ``close_reply=drop``: the client's CLOSE draws nothing, or a reset."""

    how: CloseReply

    def close_reply(self) -> CloseReply:
        """Return what it draws."""
        return self.how


def refuse(value: str) -> Fault:
    """Read ``CODE`` or ``CODE:CLOSE``."""
    why, _, code = value.partition(":")
    if why not in REFUSALS:
        raise ValueError(f"give one of {', '.join(REFUSALS)}")
    return RefuseSession(why, int(code) if code else None)


def http(value: str) -> Fault:
    """Read ``STATUS`` or ``STATUS:RETRY_AFTER``."""
    return RefuseUpgrade(*_status(value))


def mint(value: str) -> Fault:
    """Read ``STATUS`` or ``STATUS:RETRY_AFTER``."""
    return RefuseMint(*_status(value))


def handshake(value: str) -> Fault:
    """Read ``SECONDS``."""
    return SlowHandshake(seconds(value))


def close_reply(value: str) -> Fault:
    """Read ``never`` or ``drop``."""
    match value:
        case "never" | "drop":
            return AnswerClose(value)
    raise ValueError("give never or drop")


def _status(value: str) -> tuple[HTTPStatus, int | None]:
    told, _, retry = value.partition(":")
    status = HTTPStatus(int(told))
    if not 400 <= status <= 599:
        raise ValueError("give a status from 400 to 599")
    return status, int(seconds(retry)) if retry else None
