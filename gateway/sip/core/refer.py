"""
What a far end says of a transfer by REFER (RFC 3515): NOTIFYs, as carriers send them. No I/O.

The library passes over a NOTIFY without a body, and waits for the end of a subscription after the transfer's. Here the
first final word counts: a final status, or the end of the subscription (RFC 6665 section 4.1.3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.sip.core.message import Message, clean

_STATUS = re.compile(r"\s*SIP/2\.0[ \t]+([1-6][0-9]{2})[ \t]*([^\r\n]*)")
_DONE, _UNKNOWN = "noresource", 408  # RFC 6665 section 4.1.3: nothing more to be told
_REFUSED = {"rejected": 603}


@dataclass(frozen=True, slots=True)
class TransferNews:
    """
    What became of a transfer so far.

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


def news_in(notify: Message) -> TransferNews | None:
    """Return what a NOTIFY says of a transfer; None when it is about something else."""
    if not is_of_a_transfer(notify):
        return None
    status = _STATUS.match(notify.body)
    code = int(status[1]) if status else 100
    state, *parameters = (part.strip() for part in notify.first("subscription-state").lower().split(";"))
    over = state == "terminated"
    if status and code >= 200:
        return TransferNews(code, clean(status[2]), over)
    if not over:
        return TransferNews(code, "")
    why = next((value.strip() for name, _, value in (p.partition("=") for p in parameters) if name == "reason"), "")
    if why in ("", _DONE):
        return TransferNews(200, "the far end reports no more of it", over)
    return TransferNews(_REFUSED.get(why, _UNKNOWN), f"the far end reports no more of it: {clean(why)}", over)
