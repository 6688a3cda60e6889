"""
INFO and NOTIFY inside a call: what they are answered with, and what a NOTIFY says of a transfer by REFER. No I/O.

The library answers 500 to what it does not know, so the answers are ours. NOTIFYs (RFC 3515) are read as carriers send
them: the library passes over one without a body, and waits for the end of a subscription after the transfer's. Here the
first final word counts: a final status, or the end of the subscription (RFC 6665 section 4.1.3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.sip.core.dtmf import KEY_TYPES
from gateway.sip.core.message import Message, clean


@dataclass(frozen=True, slots=True)
class FinalResponse:
    """A final response: its status and more headers, name and value."""

    code: int
    headers: tuple[tuple[str, str], ...] = ()


_OK = FinalResponse(200)
_UNKNOWN_PACKAGE = FinalResponse(469, (("Recv-Info", ""),))  # RFC 6086 section 4.2.2: this is how one says "none"
_UNKNOWN_TYPE = FinalResponse(415, (("Accept", ", ".join(KEY_TYPES)),))  # RFC 3261 section 21.4.13
_NO_SUBSCRIPTION = FinalResponse(481)  # RFC 6665 section 4.1.3
_BAD_EVENT = FinalResponse(489, (("Allow-Events", "refer"),))  # RFC 6665 section 8.3.2


def answer_to(request: Message, *, referred: bool = False) -> FinalResponse | None:
    """
    Return what an INFO or NOTIFY inside a call is answered with; None leaves it to the library.

    Args:
        request: an INFO that tells no key, or a NOTIFY.
        referred: NOTIFYs about a transfer are expected here.
    """
    if request.method == "INFO":
        return _to_info(request)
    if not is_of_a_transfer(request):
        return _BAD_EVENT
    return None if referred else _NO_SUBSCRIPTION


def _to_info(message: Message) -> FinalResponse:
    if message.first("info-package"):
        return _UNKNOWN_PACKAGE
    return _UNKNOWN_TYPE if message.body.strip() else _OK  # an empty one is a keep-alive (RFC 2976 section 2.2)


_STATUS = re.compile(r"\s*SIP/2\.0[ \t]+([1-6][0-9]{2})[ \t]*([^\r\n]*)")
_DONE, _UNKNOWN = "noresource", 408  # RFC 6665 section 4.1.3: nothing more to be told
_REFUSED = {"rejected": 603}


@dataclass(frozen=True, slots=True)
class ReferProgress:
    """
    The result of a transfer so far.

    Attributes:
        code: SIP status of the call to the target; below 200 it is not decided yet.
        reason: its phrase.
        over: the subscription ends with it: no further NOTIFY is expected.
    """

    code: int
    reason: str
    over: bool = False


def is_of_a_transfer(notify: Message) -> bool:
    """Return whether a NOTIFY belongs to a REFER."""
    return notify.first("event").partition(";")[0].strip().lower() == "refer"


def news_in(notify: Message) -> ReferProgress | None:
    """Return what a NOTIFY says of a transfer; None when it is about something else."""
    if not is_of_a_transfer(notify):
        return None
    status = _STATUS.match(notify.body)
    code = int(status[1]) if status else 100
    state, *parameters = (part.strip() for part in notify.first("subscription-state").lower().split(";"))
    over = state == "terminated"
    if status and code >= 200:
        return ReferProgress(code, clean(status[2]), over)
    if not over:
        return ReferProgress(code, "")
    why = next((value.strip() for name, _, value in (p.partition("=") for p in parameters) if name == "reason"), "")
    if why in ("", _DONE):
        return ReferProgress(200, "the far end reports no more of it", over)
    return ReferProgress(_REFUSED.get(why, _UNKNOWN), f"the far end reports no more of it: {clean(why)}", over)
