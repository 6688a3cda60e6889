"""
What a call needs from outside, as Protocols. ``worker.py`` alone knows the classes behind them.

Every order returns at once; what comes of it reaches the call as an event (``call/events.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.call.events import CallEvent
from gateway.ids import CallId

Scalar = str | int | float
EmitEvent = Callable[[CallEvent], None]
"""Puts a fact into the call's inbox. On the loop thread only."""


class SipLeg(Protocol):
    """The SIP side of one call. Orders after the leg has closed are ignored. Thread: loop."""

    def ring(self) -> None:
        """Send 180 Ringing."""

    def answer(self) -> None:
        """Send 200 OK; ``MediaUp`` or ``LegFailed`` follows."""

    def hang_up(self, code: int, reason: str) -> None:
        """End the leg: final response ``code`` before the answer, BYE after it. ``LegClosed`` follows."""


class Agent(Protocol):
    """The voice model's side of one call, at most one session. Thread: loop."""

    def open(self, emit: EmitEvent) -> None:
        """Connect and configure in the background; ``AgentReady`` or ``AgentFailed`` follows through ``emit``."""

    def greet(self) -> None:
        """Let the agent speak first, as its profile says."""

    def truncate(self, item_id: str, played_ms: int) -> None:
        """Tell the upstream how much of an item was heard; the agent bounds it by what it received."""

    async def close(self) -> None:
        """
        Close the socket with a CLOSE frame, bounded in time; safe in any state and more than once.

        Nothing is emitted once this was called. On return no task or socket of the agent is left.
        """


class Playout(Protocol):
    """The agent's speech on its way to the caller, as far as a call's control needs it."""

    def flush(self) -> None:
        """Drop all queued speech. Thread: loop."""

    def position(self) -> tuple[str, int] | None:
        """Return (item id, milliseconds of it clocked out) of the item being played, or None. Thread: loop."""

    @property
    def first_frame_at(self) -> float | None:
        """Monotonic seconds at which the first frame of speech was clocked out; None before that."""


class SessionStore(Protocol):
    """Where the call's session is written. Never blocks and never raises: a lost store does not end a call."""

    def note(self, call_id: CallId, event: str, /, **fields: Scalar) -> None:
        """
        Merge ``fields`` into the call's record and append ``event`` with them to the stream of call events.

        ``fields`` are names of ``sessions.record.CallRecord``; ``state="ended"`` closes the record.
        """


class TimerHandle(Protocol):
    """A running timer."""

    def cancel(self) -> None:
        """Stop it; safe more than once."""


class Clock(Protocol):
    """Time, so that tests can turn it."""

    def now(self) -> float:
        """Return Unix seconds."""

    def monotonic(self) -> float:
        """Return seconds that never run backwards, on the scale of ``time.monotonic``."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> TimerHandle:
        """Run ``callback`` on the loop after ``seconds``."""
