"""How a dialog ended: by whom, with which status, why, and where a redirected call was sent. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.sip.core.address import parse_address
from gateway.sip.core.message import Malformed, clean, parse_message
from gateway.sip.core.reason import cause_in, reason_in

_FINAL = re.compile(r"SIP/2\.0 +([3-6][0-9]{2})(?: +([^\r\n]*))?")
_MAX_CONTACTS = 5


@dataclass(frozen=True, slots=True)
class Ending:
    """
    The end of a dialog.

    Attributes:
        code: last SIP status (200 after a BYE, 487 after a CANCEL).
        reason: why, in one line.
        by_far_end: the far end ended it, by BYE, CANCEL or a refusal; else it was our side, asked to or not.
        cause: ITU-T Q.850 cause that the far end gave; 0 when it gave none.
        contacts: URIs that a 3xx points to, the best first.
    """

    code: int
    reason: str
    by_far_end: bool = False
    cause: int = 0
    contacts: tuple[str, ...] = ()


def ending_in(message: str, code: int, phrase: str, *, asked: bool) -> Ending:
    """
    Return how a dialog ended.

    Args:
        message: what came from the far end at last: BYE, CANCEL or a response; empty when nothing did.
        code: the status that the library gives the end.
        phrase: its reason phrase.
        asked: the message answers an INVITE of ours that asked for the call. Of any other response it is our library
            that ends the call because of it.
    """
    refusal = _FINAL.match(message) if asked else None
    if refusal is not None:  # the library makes 487 of a redirection that is not followed
        code, phrase = int(refusal[1]), refusal[2] or phrase
    elif not message.startswith(("BYE ", "CANCEL ")):
        return Ending(code, clean(phrase))
    contacts = contacts_in(message) if 300 <= code < 400 else ()
    return Ending(code, reason_in(message, phrase), True, cause_in(message), contacts)


def contacts_in(message: str) -> tuple[str, ...]:
    """Return the URIs of a redirection, the highest q first (RFC 3261 section 20.10); what is none is passed over."""
    found: list[tuple[float, str]] = []
    try:
        elements = parse_message(message).values("contact")
    except Malformed:
        return ()
    for element in elements[:_MAX_CONTACTS]:
        try:
            address = parse_address(element)
            found.append((float(address.params.get("q") or 1), clean(str(address.uri))))
        except ValueError:
            continue
    return tuple(uri for _, uri in sorted(found, key=lambda each: -each[0]))
