"""
How a dialog ended: by whom, with which status, why, and where a redirected call was sent. No I/O.

Why is told by the Reason header (RFC 3326), in SIP's words or the telephone network's (ITU-T Q.850): what a far end's
says, and what ours do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.sip.core.address import parse_address
from gateway.sip.core.message import Message, clean

NORMAL_CLEARING = 16
_Q850_OF_SIP = {  # RFC 3398 section 8.2.6.1
    200: NORMAL_CLEARING,
    **dict.fromkeys((404, 485, 604), 1),
    **dict.fromkeys((486, 600), 17),
    480: 18,
    **dict.fromkeys((401, 402, 403, 407, 603, 607, 608), 21),
    410: 22,
    **dict.fromkeys((482, 483), 25),
    484: 28,
    502: 38,
    **dict.fromkeys((400, 481, 500, 503), 41),
    405: 63,
    488: 65,
    **dict.fromkeys((406, 415, 501), 79),
    **dict.fromkeys((408, 504), 102),
    **dict.fromkeys((413, 414, 416, 420, 421, 423, 505, 513), 127),
}
_VALUE = re.compile(
    r'(?P<protocol>[A-Za-z0-9.+-]+)(?P<parameters>(?:\s*;\s*[\w-]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]+))*)'
)
_PARAMETER = re.compile(r';\s*([\w-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;,"]+)')
_MAX_LINE = 1000
_MAX_WORDS = 100
_MAX_CAUSES = 4
_MAX_CONTACTS = 5


@dataclass(frozen=True, slots=True)
class DialogEnding:
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


def ending_in(message: Message | None, code: int, phrase: str, *, asked: bool) -> DialogEnding:
    """
    Return how a dialog ended.

    Args:
        message: what came from the far end at last: BYE, CANCEL or a response; None when nothing did.
        code: the status that the library gives the end.
        phrase: its reason phrase.
        asked: the message answers an INVITE of ours that asked for the call. Of any other response it is our library
            that ends the call because of it.
    """
    if message is None:
        return DialogEnding(code, clean(phrase))
    if asked and message.code >= 300:  # the library makes 487 of a redirection that is not followed
        code, phrase = message.code, message.reason or phrase
    elif message.method not in ("BYE", "CANCEL"):
        return DialogEnding(code, clean(phrase))
    contacts = contacts_in(message) if 300 <= code < 400 else ()
    return DialogEnding(code, reason_in(message, phrase), True, cause_in(message), contacts)


def contacts_in(message: Message) -> tuple[str, ...]:
    """Return the URIs of a redirection, the highest q first (RFC 3261 section 20.10); anything else is skipped."""
    found: list[tuple[float, str]] = []
    for element in message.values("contact")[:_MAX_CONTACTS]:
        try:
            address = parse_address(element)
            found.append((float(address.params.get("q") or 1), clean(str(address.uri))))
        except ValueError:
            continue
    return tuple(uri for _, uri in sorted(found, key=lambda each: -each[0]))


def reason_headers(code: int, words: str, *, answered: bool, cause: int = 0) -> tuple[str, ...]:
    """
    Return the values of the Reason headers of a message of ours.

    Args:
        code: SIP status that tells why; 200 is an ordinary end.
        words: the same for people.
        answered: the message is a BYE. A final response tells its code itself, so only Q.850 is added there.
        cause: ITU-T Q.850 cause from the side that ended the call beyond us (RFC 6432); 0 derives it from the code.
    """
    text = f';text="{_quotable(words)}"' if words else ""
    values = []
    if answered and code >= 300:
        values.append(f"SIP;cause={code}{text}")
    cause = cause or _Q850_OF_SIP.get(code, 0)
    if cause:
        values.append(f"Q.850;cause={cause}{text}")
    return tuple(values)


def reason_in(message: Message, phrase: str) -> str:
    """
    Return why a dialog ended, in one line such as ``Normal call clearing (Q.850 16)``.

    Args:
        message: the BYE, CANCEL or final response.
        phrase: what is said when the message has no Reason header.
    """
    causes = _causes(message)
    if not causes:
        return clean(phrase)
    words = next((words for *_, words in causes if words), phrase)
    return clean(f"{words} ({', '.join(f'{protocol} {cause}' for protocol, cause, _ in causes)})")


def cause_in(message: Message) -> int:
    """Return the ITU-T Q.850 cause of a message (RFC 6432); 0 when it has none. One of SIP is translated."""
    causes = _causes(message)
    q850 = [cause for protocol, cause, _ in causes if protocol.upper() == "Q.850" and 0 < cause < 128]
    sip = [_Q850_OF_SIP.get(cause, 0) for protocol, cause, _ in causes if protocol.upper() == "SIP" and cause >= 300]
    return next(iter((*q850, *sip)), 0)


def _causes(message: Message) -> list[tuple[str, int, str]]:
    """Return protocol, cause and words of the first few reasons of a message."""
    causes: list[tuple[str, int, str]] = []
    for line in message.all("reason")[:_MAX_CAUSES]:
        for found in list(_VALUE.finditer(line[:_MAX_LINE]))[:_MAX_CAUSES]:
            given = {name.lower(): _unquoted(value) for name, value in _PARAMETER.findall(found["parameters"])}
            if given.get("cause", "").isdecimal():
                causes.append((found["protocol"], int(given["cause"][:5]), given.get("text", "")))
    return causes[:_MAX_CAUSES]


def _quotable(words: str) -> str:
    plain = "".join(char for char in clean(words)[:_MAX_WORDS] if char.isascii())
    return plain.replace("\\", "").replace('"', "'")


def _unquoted(value: str) -> str:
    if value.startswith('"'):
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    return value[:_MAX_WORDS]
