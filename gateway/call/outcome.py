"""How a call ended: whose doing it was, and which SIP code says so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.errors import AgentError, AgentLost, AgentRefused, GatewayError, SipError


class EndReason(StrEnum):
    """Why a call ended; the value stands in the call's record as ``end_reason``."""

    CALLER_HUNG_UP = "caller_hung_up"
    CALLER_CANCELLED = "caller_cancelled"
    AGENT_HUNG_UP = "agent_hung_up"
    TRANSFERRED = "transferred"
    MESSAGE_LEFT = "message_left"
    CONNECTED = "connected"
    COMPLETED = "completed"
    REDIRECTED = "redirected"
    REJECTED = "rejected"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    DECLINED = "declined"
    NO_SUCH_NUMBER = "no_such_number"
    UNREACHABLE = "unreachable"
    HELD_TOO_LONG = "held_too_long"
    SESSION_EXPIRED = "session_expired"
    AGENT_CLOSED = "agent_closed"
    AGENT_REFUSED = "agent_refused"
    AGENT_LOST = "agent_lost"
    SETUP_TIMEOUT = "setup_timeout"
    MAX_LENGTH = "max_length"
    NO_RTP = "no_rtp"
    NO_ROUTE = "no_route"
    SHUTDOWN = "shutdown"
    WORKER_DIED = "worker_died"
    SIP_ERROR = "sip_error"
    INTERNAL_ERROR = "internal_error"


class Side(StrEnum):
    """Who ended a call."""

    CALLER = "caller"
    AGENT = "agent"
    GATEWAY = "gateway"


_SIDES = {
    EndReason.CALLER_HUNG_UP: Side.CALLER,
    EndReason.CALLER_CANCELLED: Side.CALLER,
    EndReason.NO_RTP: Side.CALLER,
    EndReason.AGENT_HUNG_UP: Side.AGENT,
    EndReason.TRANSFERRED: Side.AGENT,
    EndReason.MESSAGE_LEFT: Side.AGENT,
    EndReason.BUSY: Side.CALLER,
    EndReason.NO_ANSWER: Side.CALLER,
    EndReason.DECLINED: Side.CALLER,
    EndReason.NO_SUCH_NUMBER: Side.CALLER,
    EndReason.UNREACHABLE: Side.CALLER,
    EndReason.HELD_TOO_LONG: Side.CALLER,
    EndReason.SESSION_EXPIRED: Side.AGENT,
    EndReason.AGENT_CLOSED: Side.AGENT,
    EndReason.AGENT_REFUSED: Side.AGENT,
    EndReason.AGENT_LOST: Side.AGENT,
    EndReason.SETUP_TIMEOUT: Side.AGENT,
}


_ORDINARY = frozenset(
    {
        EndReason.AGENT_HUNG_UP,
        EndReason.TRANSFERRED,
        EndReason.MESSAGE_LEFT,
        EndReason.CONNECTED,
        EndReason.COMPLETED,
        EndReason.REDIRECTED,
        EndReason.HELD_TOO_LONG,
        EndReason.SESSION_EXPIRED,
        EndReason.MAX_LENGTH,
    }
)
"""Ends of a talk that went as it should."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    How a call ended.

    Attributes:
        reason: the cause, one of a short list.
        detail: the same in words, with what the other side said; never a secret.
        sip_code: what the caller is told while the call is not answered yet (RFC 3261 section 21).
            An answered call ends with BYE, whatever stands here (``code``).
        phrase: the reason phrase that goes with the code; None takes the reason's own, empty the usual one.
        contacts: where a 3xx sends the caller.
        by: who ended the call; None: whoever is known for the reason.
    """

    reason: EndReason
    detail: str = ""
    sip_code: int = 503
    phrase: str | None = None
    contacts: tuple[str, ...] = ()
    by: Side | None = None

    @property
    def ended_by(self) -> Side:
        """Who ended the call."""
        return self.by or _SIDES.get(self.reason, Side.GATEWAY)

    def code(self, *, answered: bool) -> int:
        """
        Return the status that tells the SIP side why the call ends; 200 is an ordinary end.

        Args:
            answered: it goes into the Reason of a BYE (RFC 3326), not into a response.
        """
        return 200 if answered and self.reason in _ORDINARY else self.sip_code

    @property
    def words(self) -> str:
        """The reason phrase for the SIP side."""
        return self.reason.replace("_", " ").capitalize() if self.phrase is None else self.phrase


def outcome_of(error: GatewayError, *, sip_code: int = 503) -> Outcome:
    """
    Turn an error into an outcome: the only place that does.

    Args:
        error: what went wrong.
        sip_code: what a caller is told who was not answered yet.
    """
    match error:
        case AgentRefused():
            return Outcome(EndReason.AGENT_REFUSED, str(error), sip_code)
        case AgentLost() | AgentError():
            return Outcome(EndReason.AGENT_LOST, str(error), sip_code)
        case SipError():
            return Outcome(EndReason.SIP_ERROR, str(error), 500)
        case _:
            return Outcome(EndReason.INTERNAL_ERROR, str(error), 500)


_UNANSWERED = {
    **dict.fromkeys((486, 600), EndReason.BUSY),
    **dict.fromkeys((408, 480, 487), EndReason.NO_ANSWER),
    **dict.fromkeys((403, 603, 607, 608), EndReason.DECLINED),
    **dict.fromkeys((404, 410, 484, 604), EndReason.NO_SUCH_NUMBER),
}


def outcome_of_no_answer(code: int, reason: str) -> Outcome:
    """
    Turn the final response to a call of ours that was not answered into an outcome.

    Args:
        code: its status, 300 or more (RFC 3261 section 21; 607: RFC 8197, 608: RFC 8688).
        reason: its reason phrase.
    """
    return Outcome(_UNANSWERED.get(code, EndReason.UNREACHABLE), f"{code} {reason}".rstrip(), code)
