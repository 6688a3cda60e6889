"""
The registry of end reasons: whose fault each is, what it means and what to do about it.

Theory of operation
-------------------
A call ends for one reason out of a fixed list (``EndReason``), and ``END_REASONS`` has one entry for each; a test fails
if one is missing. ``docs/end-reasons.md`` is printed from it, and whatever shows the end of a call takes its words from
here: the log, ``gateway dial``, the demo, the HTTP API and the page.

*Whose fault* answers who has to change something for the next call to end otherwise; it is not who ended the call
(``ended_by``). It depends on more than the reason at times: a call that could not be set up is the model's fault if the
agent was not ready, the carrier's if no media came. So ``Outcome.fault`` overrides the entry, and the record of a call
keeps what ``fault_of`` returned as its field ``fault``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.call.outcome import EndReason, Fault, Outcome


@dataclass(frozen=True, slots=True)
class EndReasonInfo:
    """
    What there is to know of an end reason.

    Attributes:
        fault: whose fault it is, unless the outcome says otherwise.
        meaning: what happened, in a sentence.
        cure: what to do about it, in a sentence or two; empty where nothing has to be done.
        otherwise: whose fault it can be instead -> in which case.
    """

    fault: Fault
    meaning: str
    cure: str = ""
    otherwise: Mapping[Fault, str] | None = None


_R, _F = EndReason, Fault

END_REASONS: Mapping[EndReason, EndReasonInfo] = {
    _R.CALLER_HUNG_UP: EndReasonInfo(
        _F.NOBODY, "The caller hung up; in a call that the gateway placed, the called side."
    ),
    _R.CALLER_CANCELLED: EndReasonInfo(
        _F.NOBODY,
        "The caller hung up before the call was answered.",
        "If it happens often, look at the seconds between `created_at` and `ended_at`: callers give up when the agent "
        "takes long to be ready.",
    ),
    _R.AGENT_HUNG_UP: EndReasonInfo(_F.NOBODY, "The agent ended the call with its tool, after its goodbye."),
    _R.OPERATOR_HUNG_UP: EndReasonInfo(
        _F.NOBODY, "An operator ended the call, on the page or by a command; `end_detail` says who."
    ),
    _R.TRANSFERRED: EndReasonInfo(
        _F.NOBODY,
        "The agent, or an operator (`ended_by`), transferred the caller; `end_detail` has the target.",
    ),
    _R.MESSAGE_LEFT: EndReasonInfo(_F.NOBODY, "The agent left its message on a voicemail."),
    _R.CONNECTED: EndReasonInfo(
        _F.NOBODY, "The dialplan joined the caller with somebody else, and one of them hung up."
    ),
    _R.COMPLETED: EndReasonInfo(_F.NOBODY, "The steps of the dialplan were done, and none was left."),
    _R.REDIRECTED: EndReasonInfo(
        _F.NOBODY,
        "The dialplan sent the caller elsewhere; or the called side answered with another address, "
        "which the gateway does not call.",
        "If the called side redirected the call and the new address is right, dial that one.",
    ),
    _R.REJECTED: EndReasonInfo(
        _F.NOBODY,
        "The dialplan refused the call, a limit of the route was reached (`limit_exceeded`), or all lines of the trunk "
        "were busy.",
        "If the call should have been taken: `gateway dialplan explain` shows why it went where it went; raise the "
        "limit of the route, or `max_calls` of the trunk.",
    ),
    _R.BUSY: EndReasonInfo(_F.CALLER, "The called side was busy.", "Try again later."),
    _R.NO_ANSWER: EndReasonInfo(
        _F.CALLER,
        "The called side did not answer in time.",
        "Try again later, or let it ring longer (`call.ring_limit_s`, or `ring_limit_s` of the step).",
    ),
    _R.DECLINED: EndReasonInfo(
        _F.CALLER,
        "The called side refused the call.",
        "Do not try again at once. If the trunk refused it (403), ask the carrier whether it permits this destination "
        "and this caller id.",
        {_F.CARRIER: "the status was 403, as trunks send it"},
    ),
    _R.NO_SUCH_NUMBER: EndReasonInfo(
        _F.CONFIGURATION,
        "The dialled number does not exist, or is not complete.",
        "Correct the number. If it is right, check how numbers are sent to the trunk (`numbers_out`).",
    ),
    _R.CONGESTION: EndReasonInfo(
        _F.CARRIER,
        "The telephone network had no line free.",
        "Try again in a few seconds; if it goes on, ask the carrier for more lines or use another trunk.",
    ),
    _R.UNREACHABLE: EndReasonInfo(
        _F.CARRIER,
        "The called side, or the server on the way to it, could not be reached or failed.",
        "Check the trunk; `end_detail` has what the last server said. With 401 or 407, set the "
        "trunk's `username` and `password_from`.",
        {_F.CONFIGURATION: "the status was 401 or 407: a password is missing or wrong"},
    ),
    _R.HELD_TOO_LONG: EndReasonInfo(
        _F.CALLER, "The caller left the call on hold for too long.", "Raise `call.hold_limit_s` if that is not enough."
    ),
    _R.SESSION_EXPIRED: EndReasonInfo(
        _F.UPSTREAM,
        "The agent's session reached the longest time that the model's service permits, and no new one replaced it.",
        "Let sessions roll over (`roll_over` of the agent). If they do, the event `roll_over_refused` of the call "
        "says why none followed.",
    ),
    _R.AGENT_CLOSED: EndReasonInfo(
        _F.UPSTREAM,
        "The model's service ended the session in an orderly way, unasked.",
        "Look at the status page of the service; let the agent reconnect (`on_loss`).",
    ),
    _R.AGENT_REFUSED: EndReasonInfo(
        _F.CONFIGURATION,
        "The model's service refused the session: key, model, quota or session settings.",
        "`end_detail` has its words. Check the API key, its quota and the name of the model (`gateway check`).",
    ),
    _R.SESSIONS_FULL: EndReasonInfo(
        _F.CONFIGURATION,
        "The model had as many sessions as `realtime.sessions_max` allows, over all workers, and no other might speak.",
        "Raise that number if the service allows more, or name another model in the agent's `when_full`.",
    ),
    _R.AGENT_LOST: EndReasonInfo(
        _F.UPSTREAM,
        "The model's service could not be reached, or its session broke off and could not be replaced.",
        "Look at the status page of the service and at the way to it (DNS, proxy, firewall); let the agent reconnect "
        "(`on_loss`), or give the step an `on_failure`.",
        {_F.CONFIGURATION: "the service answered with a redirection: the URL in the settings is not its address"},
    ),
    _R.SETUP_TIMEOUT: EndReasonInfo(
        _F.UPSTREAM,
        "The call was not set up in time: the agent was not ready, or no media came; `end_detail` says which.",
        "If the agent was late, look at the status page of the model's service, or raise `call.setup_limit_s`. If the "
        "media was, check the SDP of both sides in the call's ladder.",
        {_F.CARRIER: "the media did not come up"},
    ),
    _R.MAX_LENGTH: EndReasonInfo(
        _F.NOBODY,
        "The call reached its longest permitted length.",
        "If calls need longer, raise `call.max_length_s`, or `max_minutes` or `minutes_per_day` of the route.",
    ),
    _R.BUDGET_USED_UP: EndReasonInfo(
        _F.NOBODY,
        "The call cost what it may, by itself or with the others of the day; `limit_exceeded` names the limit.",
        "If calls may cost more, raise that limit in the route or in `[cost]` of the settings.",
    ),
    _R.NO_RTP: EndReasonInfo(
        _F.CARRIER,
        "No audio came from the caller any more, though the call was up and not on hold.",
        "With `rx_packets` 0 none ever came: open the RTP ports in the firewall, and check `sip.public_address`. "
        "Otherwise the caller's network was lost.",
    ),
    _R.SIGNALLING_LOST: EndReasonInfo(
        _F.CARRIER,
        "The other side no longer answered SIP requests, or no longer knew the call.",
        "Check that a firewall or NAT on the way keeps the connection open for as long as a call lasts, and the trunk.",
    ),
    _R.NO_COMMON_MEDIA: EndReasonInfo(
        _F.CARRIER,
        "The other side offered or accepted no audio that the gateway can use.",
        "Compare `codecs` and `srtp` of the trunk with what the other side offers; the call's ladder has its SDP.",
    ),
    _R.NO_ROUTE: EndReasonInfo(
        _F.CONFIGURATION,
        "No route of the dialplan takes calls to this number.",
        "Add a route. `gateway dialplan explain` shows why each one does not match. From strangers (no `trunk`) such "
        "calls are scans and need nothing.",
    ),
    _R.SHUTDOWN: EndReasonInfo(
        _F.GATEWAY,
        "The worker was stopped before the call was over.",
        "Drain before you stop, and give calls longer to end with `call.drain_limit_s`.",
    ),
    _R.WORKER_LOST: EndReasonInfo(
        _F.GATEWAY,
        "The worker process of the call died, or could not reach Redis for `redis.expiry_s`.",
        "If it died, the supervisor's log has its last lines (`worker_died`): look for a kill for lack of memory, then "
        "report it. If it lives, its log says that Redis was away: look at the network between them.",
    ),
    _R.SIP_ERROR: EndReasonInfo(
        _F.GATEWAY,
        "The gateway's SIP side failed, or the other side answered with an error in mid-call.",
        "`end_detail` says what failed; the call's ladder shows the messages. If the gateway is at fault, report it.",
        {_F.CARRIER: "a message of the other side, or its silence, ended the call"},
    ),
    _R.INTERNAL_ERROR: EndReasonInfo(
        _F.GATEWAY,
        "A fault of the gateway ended the call.",
        "The log has the cause, under the call's id; please report it. If the agent could not be set up, correct what "
        "`end_detail` names in the dialplan.",
        {_F.CONFIGURATION: "the agent could not be set up from what the dialplan says of it"},
    ),
}
"""What there is to know of every reason."""


def fault_of(outcome: Outcome) -> Fault:
    """Return whose fault the end of a call is."""
    return outcome.fault or END_REASONS[outcome.reason].fault


def info_of(end_reason: str) -> EndReasonInfo | None:
    """Return the entry of a reason as records name it; None for a name that this version does not know."""
    return END_REASONS.get(EndReason(end_reason)) if end_reason in _NAMES else None


_NAMES = frozenset(reason.value for reason in EndReason)


def explained(end_reason: str, fault: str) -> str:
    """
    Return what an end means, whose fault it is and what to do, in one line for people.

    Args:
        end_reason: as the record has it.
        fault: likewise; empty in records of older versions.
    """
    info = info_of(end_reason)
    if info is None:
        return ""
    whose = fault or info.fault
    return info.meaning if whose == Fault.NOBODY else f"{info.meaning} Fault: {whose}. {info.cure}".rstrip()
