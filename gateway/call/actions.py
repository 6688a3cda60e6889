"""
Everything a call can ask for: frozen orders, in the imperative.

``CallMachine.handle`` returns them, ``call/session.py`` carries them out; what comes of it returns as an event.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.call.outcome import Outcome


@dataclass(frozen=True, slots=True)
class CallAction:
    """Something the call wants done."""


@dataclass(frozen=True, slots=True)
class Ring(CallAction):
    """Send 180 Ringing."""


@dataclass(frozen=True, slots=True)
class Answer(CallAction):
    """Send 200 OK."""


@dataclass(frozen=True, slots=True)
class HangUp(CallAction):
    """End the SIP leg: a final response ``code`` before the answer, a BYE with ``Reason`` after it."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class OpenAgent(CallAction):
    """Open the upstream socket and configure its session."""


@dataclass(frozen=True, slots=True)
class CloseAgent(CallAction):
    """Close the upstream socket with a proper CLOSE. Matches each ``OpenAgent`` exactly once."""


@dataclass(frozen=True, slots=True)
class Greet(CallAction):
    """Let the agent speak first."""


@dataclass(frozen=True, slots=True)
class FlushPlayout(CallAction):
    """Drop all speech that is queued for the caller."""


@dataclass(frozen=True, slots=True)
class Truncate(CallAction):
    """Tell the upstream that only the first ``played_ms`` of item ``item_id`` were heard."""

    item_id: str
    played_ms: int


@dataclass(frozen=True, slots=True)
class StartTimer(CallAction):
    """Report ``TimerFired(name)`` after ``seconds``; an earlier timer of that name is replaced."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CancelTimer(CallAction):
    """Forget the timer; no harm if it is not running."""

    name: str


@dataclass(frozen=True, slots=True)
class Finish(CallAction):
    """The call is over and everything it held is released. Always the last action, exactly once."""

    outcome: Outcome
