"""
A second leg: somebody called for a caller, by an agent that transfers or by a step of the dialplan.

A part of ``CallMachine`` and as pure. There is one at a time, or nobody knew which one closed.
"""

from __future__ import annotations

from enum import Enum, auto

from gateway.call.actions import CallAction, CallSecond, DropSecond

SECOND = "second"
"""Timer: how long a second leg may ring."""


class _State(Enum):
    CLOSED = auto()
    OPEN = auto()
    DROPPED = auto()  # told to end, and has not said yet that it did


class SecondLeg:
    """Whether there is a second leg of one call."""

    def __init__(self) -> None:
        self._state = _State.CLOSED

    @property
    def is_free(self) -> bool:
        """Somebody can be called."""
        return self._state is _State.CLOSED

    @property
    def is_open(self) -> bool:
        """Somebody was called, and neither dropped nor gone."""
        return self._state is _State.OPEN

    def call(self, order: CallSecond) -> tuple[CallAction, ...]:
        """Call somebody; only when it is free."""
        self._state = _State.OPEN
        return (order,)

    def drop(self) -> tuple[CallAction, ...]:
        """Let go of whoever was called."""
        if not self.is_open:
            return ()
        self._state = _State.DROPPED
        return (DropSecond(),)

    def closed(self) -> bool:
        """Take that the leg is over; return whether that is news."""
        was_open, self._state = self.is_open, _State.CLOSED
        return was_open
