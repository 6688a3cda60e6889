"""
The hooks of a fault: each with the answer of a connection on which nothing goes wrong.

A fault is a small class that overrides the hooks it needs; the rest of the simulator knows the hooks alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, Protocol

from gateway.lab.simulator.answer import ScriptedAnswer
from gateway.lab.simulator.wire.errors import SessionRefusal
from gateway.lab.simulator.wire.schema import ClientMistake

CloseReply = Literal["answer", "never", "drop"]


class FaultyLink(Protocol):
    """What a fault may do to a connection."""

    def emit(self, event: dict[str, Any]) -> None:
        """Send an event behind those already waiting."""

    async def close(self, code: int, reason: str) -> None:
        """Send what waits, then CLOSE: 1005 without a status, 1006 is a reset instead."""

    def abort(self) -> None:
        """Drop the TCP connection without a word."""

    def send_raw(self, message: str | bytes) -> None:
        """Send a text or a binary message as it is, behind those already waiting."""

    async def freeze(self) -> None:
        """Neither read nor write any more; returns when the client has given up TCP."""

    async def ping(self) -> None:
        """Send a PING."""

    async def reached(self, event_type: str) -> None:
        """Wait for the next event of that type, sent by either side."""


class Fault:
    """A fault that does nothing."""

    def http_status(self) -> HTTPStatus | None:
        """Return the status that refuses the upgrade, or None to let it pass."""
        return None

    def mint_status(self) -> HTTPStatus | None:
        """Return the status that refuses a client secret, or None to give it."""
        return None

    def retry_after_s(self) -> int | None:
        """Return what ``Retry-After`` says beside either status; None leaves it to the status."""
        return None

    def handshake_delay_s(self) -> float:
        """Return how long the answer to the upgrade takes."""
        return 0.0

    def refusal(self) -> SessionRefusal | None:
        """Return the refusal that takes the place of ``session.created``, or None."""
        return None

    def lifetime_s(self) -> float | None:
        """Return after how many seconds the session ends, which ``expires_at`` announces; None is the usual hour."""
        return None

    def close_reply(self) -> CloseReply:
        """Return what a client's CLOSE draws: CLOSE, nothing, or a reset."""
        return "answer"

    def swallows(self, event_type: str) -> bool:
        """Return whether a client's event that a fault waited for is to have no effect and no answer."""
        return False

    def mistake(self, event_type: str) -> ClientMistake | None:
        """Return what a good event of the client's is refused with, or None."""
        return None

    def accepted(self, update: dict[str, Any]) -> dict[str, Any]:
        """Return what of a ``session.update`` takes effect."""
        return update

    def answer(self, answer: ScriptedAnswer, number: int) -> ScriptedAnswer:
        """Return an answer as changed by the fault; ``number`` counts the connection's responses from 1."""
        return answer

    def sent_as(self, event: dict[str, Any]) -> Sequence[dict[str, Any]]:
        """Return what is sent in place of a server event."""
        return (event,)

    def late_s(self, event_type: str) -> float:
        """Return how late a server event comes while others pass it."""
        return 0.0

    def delay_s(self, event_type: str) -> float | None:
        """Return how long a server event (and all behind it) is held back; None swallows it."""
        return 0.0

    def latency_s(self) -> float:
        """Return how long this event's way to the client takes; the order is kept."""
        return 0.0

    def ack_delay_s(self) -> float:
        """Return how late the client hears that its item is in the conversation; later events overtake that."""
        return 0.0

    def ends_turn(self, number: int) -> bool:
        """Return whether the end of a caller's turn is noticed; ``number`` counts the connection's turns from 1."""
        return True

    async def run(self, link: FaultyLink) -> None:
        """Run beside the session, from ``session.created`` on; cancelled at its end."""


ALWAYS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFault(Fault):
    """
    A fault that changes answers.

    Attributes:
        numbers: which of them, by the connection's count of the responses asked for or begun, from 1.
    """

    numbers: range = range(1, ALWAYS)

    def answer(self, answer: ScriptedAnswer, number: int) -> ScriptedAnswer:
        """Change the answers it is for."""
        return self.changed(answer) if number in self.numbers else answer

    def changed(self, answer: ScriptedAnswer) -> ScriptedAnswer:
        """Return the answer as it is given."""
        return answer


def numbers(value: str) -> range:
    """
    Read a range of a sequence that counts from 1: ``2``, ``2-`` (from there on) or ``1-3``.

    Raises:
        ValueError: the text is not one of those.
    """
    first, dash, last = value.partition("-")
    start = count(first, 1)
    stop = count(last, ALWAYS) if dash else start
    if stop < start:
        raise ValueError("give a number, as in 2, 2- or 1-3")
    return range(start, stop + 1)


def seconds(value: str) -> float:
    """
    Read seconds from 0 to a day.

    Raises:
        ValueError: the text is not one of those.
    """
    number = float(value)
    if not 0 <= number <= 86400:
        raise ValueError("give seconds from 0 to 86400")
    return number


def count(value: str, default: int) -> int:
    """
    Read a number of times, at least one; empty text is ``default``.

    Raises:
        ValueError: it is not a number above 0.
    """
    number = int(value) if value else default
    if number < 1:
        raise ValueError("give a number from 1 on")
    return number


def nothing(value: str) -> None:
    """
    Refuse a value where the name says it all.

    Raises:
        ValueError: there is one.
    """
    if value:
        raise ValueError("it takes no value")
