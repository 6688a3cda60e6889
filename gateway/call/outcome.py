"""
How a call ended: why, who ended it, and which SIP status says so.

Every ending comes from here: ``outcome_of`` turns an error of the gateway into an outcome, ``outcome_of_no_answer`` the
final response to a call of ours, ``outcome_of_own_end`` an end that our SIP side brought about. The others are plain
values that the rules of ``call/machine/`` make. An answered call ends with a BYE, any other with ``Outcome.code``.
What each reason means, whose fault it is and what to do about it: ``call/end_reasons.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.errors import AgentError, AgentLost, AgentRefused, GatewayError, SessionsFull, SipError


class EndReason(StrEnum):
    """Why a call ended; ``end_reason`` in the call's record."""

    CALLER_HUNG_UP = "caller_hung_up"
    CALLER_CANCELLED = "caller_cancelled"
    AGENT_HUNG_UP = "agent_hung_up"
    OPERATOR_HUNG_UP = "operator_hung_up"
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
    CONGESTION = "congestion"
    UNREACHABLE = "unreachable"
    HELD_TOO_LONG = "held_too_long"
    SESSION_EXPIRED = "session_expired"
    AGENT_CLOSED = "agent_closed"
    AGENT_REFUSED = "agent_refused"
    SESSIONS_FULL = "sessions_full"
    AGENT_LOST = "agent_lost"
    SETUP_TIMEOUT = "setup_timeout"
    MAX_LENGTH = "max_length"
    BUDGET_USED_UP = "budget_used_up"
    NO_RTP = "no_rtp"
    SIGNALLING_LOST = "signalling_lost"
    NO_COMMON_MEDIA = "no_common_media"
    NO_ROUTE = "no_route"
    SHUTDOWN = "shutdown"
    WORKER_LOST = "worker_lost"
    SIP_ERROR = "sip_error"
    INTERNAL_ERROR = "internal_error"


class Side(StrEnum):
    """Who ended a call."""

    CALLER = "caller"
    AGENT = "agent"
    GATEWAY = "gateway"
    OPERATOR = "operator"


class Fault(StrEnum):
    """Whose fault the end of a call is: who has to change something for the next call to end otherwise."""

    NOBODY = "nobody"
    CALLER = "caller"
    CARRIER = "carrier"
    UPSTREAM = "upstream"
    CONFIGURATION = "configuration"
    GATEWAY = "gateway"


_SIDES = {
    EndReason.CALLER_HUNG_UP: Side.CALLER,
    EndReason.CALLER_CANCELLED: Side.CALLER,
    EndReason.NO_RTP: Side.CALLER,
    EndReason.AGENT_HUNG_UP: Side.AGENT,
    EndReason.OPERATOR_HUNG_UP: Side.OPERATOR,
    EndReason.TRANSFERRED: Side.AGENT,
    EndReason.MESSAGE_LEFT: Side.AGENT,
    EndReason.BUSY: Side.CALLER,
    EndReason.NO_ANSWER: Side.CALLER,
    EndReason.DECLINED: Side.CALLER,
    EndReason.NO_SUCH_NUMBER: Side.CALLER,
    EndReason.CONGESTION: Side.CALLER,
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
        EndReason.OPERATOR_HUNG_UP,
        EndReason.TRANSFERRED,
        EndReason.MESSAGE_LEFT,
        EndReason.CONNECTED,
        EndReason.COMPLETED,
        EndReason.REDIRECTED,
        EndReason.HELD_TOO_LONG,
        EndReason.SESSION_EXPIRED,
        EndReason.MAX_LENGTH,
        EndReason.BUDGET_USED_UP,
    }
)
"""Reasons for which a conversation that went as it should ends."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    How a call ended.

    Attributes:
        reason: why it ended, one of a short list.
        detail: the same in words, with what the other side said; never a secret.
        sip_code: SIP status with which a call ends that was not answered (RFC 3261 section 21), ours or the far end's.
        phrase: the reason phrase for the SIP side; None takes that of ``reason``, empty the usual one of the status.
        contacts: where a 3xx sends the caller, the best first.
        by: who ended the call; None takes the side that ``reason`` implies.
        caller_code: SIP status for the caller if it differs from ``sip_code``: not every status that somebody else sent
            is one for the caller to act on.
        cause: ITU-T Q.850 cause for the SIP side; 0 derives it from the status.
        fault: whose fault it is; None takes what ``end_reasons.py`` says of the reason.
    """

    reason: EndReason
    detail: str = ""
    sip_code: int = 503
    phrase: str | None = None
    contacts: tuple[str, ...] = ()
    by: Side | None = None
    caller_code: int | None = None
    cause: int = 0
    fault: Fault | None = None

    @property
    def ended_by(self) -> Side:
        """Who ended the call."""
        return self.by or _SIDES.get(self.reason, Side.GATEWAY)

    def code(self, *, answered: bool) -> int:
        """
        Return the status that tells the SIP side why the call ends; 200 for an ordinary end.

        Args:
            answered: the status goes into the Reason header of a BYE (RFC 3326), not into a response.
        """
        if answered and self.reason in _ORDINARY:
            return 200
        return self.sip_code if self.caller_code is None else self.caller_code

    @property
    def words(self) -> str:
        """The reason phrase for the SIP side."""
        return self.reason.replace("_", " ").capitalize() if self.phrase is None else self.phrase


def outcome_of(error: GatewayError, *, sip_code: int = 503) -> Outcome:
    """
    Turn an error into an outcome. Nothing else does.

    Args:
        error: what went wrong.
        sip_code: SIP status for a caller who was not answered yet.
    """
    match error:
        case SessionsFull():
            return Outcome(EndReason.SESSIONS_FULL, str(error), sip_code)
        case AgentRefused():
            return Outcome(EndReason.AGENT_REFUSED, str(error), sip_code)
        case AgentLost() | AgentError():
            redirected = 300 <= (error.http_status or 0) < 400  # the address in the settings is not the service's
            fault = Fault.CONFIGURATION if redirected else None
            return Outcome(EndReason.AGENT_LOST, str(error), sip_code, fault=fault)
        case SipError():
            return Outcome(EndReason.SIP_ERROR, str(error), 500)
        case _:
            return Outcome(EndReason.INTERNAL_ERROR, str(error), 500)


_BY_STATUS = {
    **dict.fromkeys((486, 600), EndReason.BUSY),
    **dict.fromkeys((408, 480, 487), EndReason.NO_ANSWER),
    **dict.fromkeys((403, 603, 607, 608), EndReason.DECLINED),
    **dict.fromkeys((404, 410, 484, 604), EndReason.NO_SUCH_NUMBER),
}
# ITU-T Q.850, as RFC 3398 section 7.2.4.1 groups it.
_BY_CAUSE = {
    17: EndReason.BUSY,
    **dict.fromkeys((18, 19, 20), EndReason.NO_ANSWER),
    **dict.fromkeys((21, 55, 57, 87), EndReason.DECLINED),
    **dict.fromkeys((1, 22, 26, 28), EndReason.NO_SUCH_NUMBER),
    **dict.fromkeys((34, 42, 44, 47, 58), EndReason.CONGESTION),
    **dict.fromkeys((2, 3, 27, 38, 41, 65, 79, 88, 102, 111), EndReason.UNREACHABLE),
}
# A trunk refuses calls with 403, people do with 603; with 401 and 407 it wants a password that is missing or wrong.
_FAULT_OF_STATUS = {401: Fault.CONFIGURATION, 403: Fault.CARRIER, 407: Fault.CONFIGURATION}
_REDIRECTION = 23
_STATUS_OF_CAUSE = {1: 404, 17: 486, 18: 480, 19: 480, 20: 480, 21: 403, 22: 410, 26: 404, 28: 484, 55: 403}


def outcome_of_no_answer(code: int, reason: str, cause: int = 0, contacts: tuple[str, ...] = ()) -> Outcome:
    """
    Turn the final response to a call of ours that was not answered into an outcome.

    Args:
        code: its status, 300 or more (RFC 3261 section 21; 607: RFC 8197, 608: RFC 8688).
        reason: its reason phrase.
        cause: ITU-T Q.850 cause that came with it, 0 for none; it outweighs a vague status (RFC 6432).
        contacts: URIs of a 3xx. They are not called: only the dialplan says where a call goes.
    """
    detail = f"{code} {reason}".rstrip()
    if code < 400:
        detail = f"{detail} to {', '.join(contacts)}" if contacts else detail
        return Outcome(EndReason.REDIRECTED, detail, code, by=Side.CALLER, cause=cause or _REDIRECTION)
    by_status = _BY_STATUS.get(code, EndReason.UNREACHABLE)
    by_cause = _BY_CAUSE.get(cause, by_status)
    caller_code = _STATUS_OF_CAUSE.get(cause) if by_cause is not by_status else None
    fault = _FAULT_OF_STATUS.get(code) if by_cause is by_status else None
    return Outcome(by_cause, detail, code, caller_code=caller_code, cause=cause, fault=fault)


_LOST = frozenset({408, 481, 504})
_NO_MEDIA = frozenset({415, 488, 606})


def outcome_of_own_end(code: int, reason: str) -> Outcome:
    """
    Turn an end that the gateway's own SIP side brought about, without an order, into an outcome.

    Args:
        code: its status: 408 if the far end did not answer (its session timer, a request of ours, a missing ACK), 481
            if it no longer knows the call, 415 or 488 if its SDP is unusable.
        reason: the same in words.
    """
    detail = f"{code} {reason}".rstrip()
    if code in _NO_MEDIA:
        return Outcome(EndReason.NO_COMMON_MEDIA, detail, code)
    if code in _LOST:
        return Outcome(EndReason.SIGNALLING_LOST, detail, code)
    return Outcome(EndReason.SIP_ERROR, detail, code, fault=Fault.CARRIER)
