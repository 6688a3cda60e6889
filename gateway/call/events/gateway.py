"""What every event has, and those of time, of operators and of the gateway itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.ids import CallId


@dataclass(frozen=True, slots=True)
class CallEvent:
    """Something that happened to the call ``call_id``."""

    call_id: CallId


@dataclass(frozen=True, slots=True)
class TimerFired(CallEvent):
    """
    A timer asked for with ``StartTimer`` ran out.

    Attributes:
        name: which.
        item_id: for the timer of a held interruption, stamped by the session: the agent's item that is held.
        played_ms: milliseconds of it that were clocked out before.
    """

    name: str
    item_id: str | None = None
    played_ms: int = 0


@dataclass(frozen=True, slots=True)
class StopAsked(CallEvent):
    """The worker wants this call to end now (drain limit reached, second SIGTERM)."""

    detail: str


@dataclass(frozen=True, slots=True)
class OrderFailed(CallEvent):
    """Carrying out an order raised an exception nobody expected: a fault of ours; ``detail`` says which."""

    detail: str


@dataclass(frozen=True, slots=True)
class Noted(CallEvent):
    """Something for the call's record alone (tokens, latencies, rate limits, errors); ``fields`` go to the stream."""

    name: str
    fields: Mapping[str, str | int | float]
