"""Telephone keys (DTMF): each press once, however it was told, and dial strings with pauses."""

from __future__ import annotations

import re
from collections import deque
from typing import Literal

Told = Literal["rfc4733", "info"]

KEYS = frozenset("0123456789*#ABCD")
PAUSES_S = {"w": 0.5, ",": 2.0}
"""What a pause in a dial string lasts."""

KEY_S = 0.25
"""What a key of ours takes: its tone and the gap behind it."""

TWICE_WITHIN_S = 2.5
"""A press told by both ways is one: SIP INFO often comes only when the key is released."""

_MAX_BODY = 200
_SIGNAL = re.compile(r"^\s*signal\s*[=:]\s*(\S+)\s*$", re.IGNORECASE | re.MULTILINE)
_CONTENT_TYPE = re.compile(r"^(?:content-type|c)[ \t]*:[ \t]*([\w.+/-]+)", re.IGNORECASE | re.MULTILINE)
_NUMBERED = {"10": "*", "11": "#", "12": "A", "13": "B", "14": "C", "15": "D"}  # event codes, RFC 4733 section 3.2
_REMEMBERED = 16


def key_in_info(message: str) -> str | None:
    """
    Return the key that a SIP INFO tells, or None when it tells none.

    Two bodies are common, neither of them standardised: ``application/dtmf-relay`` with a line ``Signal=5``, and
    ``application/dtmf`` that is the key alone.
    """
    head, _, body = message.replace("\r\n", "\n").partition("\n\n")
    found = _CONTENT_TYPE.search(head)
    kind = found.group(1).lower() if found else ""
    body = body[:_MAX_BODY]
    signal = _SIGNAL.search(body)
    if kind == "application/dtmf-relay" or (kind == "application/dtmf" and signal):
        key = signal.group(1) if signal else ""
    elif kind == "application/dtmf":
        key = body.strip()
    else:
        return None
    key = _NUMBERED.get(key, key).upper()
    return key if key in KEYS else None


class KeyFilter:
    """
    Tells a press from its repetitions.

    An RFC 4733 event keeps its timestamp while the key is down, in every packet and every retransmission: the same
    key at the same timestamp is the same press. A press that comes by SIP INFO too is told once.
    """

    def __init__(self) -> None:
        self._events: deque[tuple[str, int]] = deque(maxlen=_REMEMBERED)
        self._unmatched: dict[Told, deque[tuple[str, float]]] = {
            "rfc4733": deque(maxlen=_REMEMBERED),
            "info": deque(maxlen=_REMEMBERED),
        }

    def event(self, key: str, timestamp: int, now: float) -> bool:
        """Return whether an RFC 4733 event is a new press."""
        if key not in KEYS or (key, timestamp) in self._events:
            return False
        self._events.append((key, timestamp))
        return self._is_first("rfc4733", "info", key, now)

    def info(self, key: str, now: float) -> bool:
        """Return whether a key told by SIP INFO is a new press. A retransmitted INFO never gets this far."""
        return key in KEYS and self._is_first("info", "rfc4733", key, now)

    def _is_first(self, way: Told, other: Told, key: str, now: float) -> bool:
        waiting = self._unmatched[other]
        for press in tuple(waiting):
            if now - press[1] > TWICE_WITHIN_S:
                waiting.remove(press)
            elif press[0] == key:
                waiting.remove(press)
                return False
        self._unmatched[way].append((key, now))
        return True


def dialling(digits: str) -> tuple[tuple[float, str], ...]:
    """
    Return when each key of a dial string is sent: seconds from its start, and the key.

    Args:
        digits: keys; ``w`` is a pause of half a second, a comma one of two; anything else is passed over.
    """
    plan: list[tuple[float, str]] = []
    at_s = 0.0
    for char in digits:
        if char.upper() in KEYS:
            plan.append((at_s, char.upper()))
            at_s += KEY_S
        at_s += PAUSES_S.get(char.lower(), 0.0)
    return tuple(plan)
