"""How a worker is: what it tells the supervisor that forked it, and Redis, so that the edge knows where calls fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ready", "overloaded", "draining", "ended"]


@dataclass(frozen=True, slots=True)
class WorkerCondition:
    """
    How a worker is now.

    Attributes:
        worker: its name.
        state: whether it takes calls; ``overloaded`` passes by itself.
        live_calls: calls that it has.
        capacity: calls that it can have.
        sip: ``host:port`` where the edge reaches it.
        paused: it is ``draining`` because an operator wants it, and may take calls again.
    """

    worker: str
    state: State
    live_calls: int
    capacity: int
    sip: str
    paused: bool = False
