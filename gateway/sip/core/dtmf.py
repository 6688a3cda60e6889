"""Telephone keys (DTMF): each press once, by RTP event or SIP INFO, and dial strings with pauses."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from gateway.sip.core.message import Message

KeyBy = Literal["rfc4733", "info"]

KEYS = frozenset("0123456789*#ABCD")
PAUSES_S = {"w": 0.5, ",": 2.0}
"""What a pause in a dial string lasts."""

KEY_S = 0.25
"""What a key of ours takes: its tone and the gap behind it."""

TWICE_WITHIN_S = 2.5
"""A press that comes both ways is one: SIP INFO often comes only when the key is released."""

KEY_TYPES = ("application/dtmf-relay", "application/dtmf", "application/vnd.nortelnetworks.digits")
"""Bodies of an INFO that tell a key."""

_MAX_BODY = 200
_SIGNAL = re.compile(r"^\s*(?:signal|d)[ \t]*[=:][ \t]*\"?([^\s\";,]*)", re.IGNORECASE | re.MULTILINE)
_NUMBERED = {"10": "*", "11": "#", "12": "A", "13": "B", "14": "C", "15": "D"}  # event codes, RFC 4733 section 3.2
_IN_WORDS = {"STAR": "*", "ASTERISK": "*", "POUND": "#", "HASH": "#"}
_REMEMBERED = 16
_WRAP_MS = 2**32 // 8  # RTP timestamps of 8 kHz
_NEAR_MS = 60
"""
Timestamps as near as this are of one press: with a gap of 40 ms (ITU-T Q.24) between presses of 40 ms, starts are 80 ms
apart, packets 20; of large timestamps the library keeps no more than 24 bits, steps of 32 ms.
"""
_SEGMENT_MS = 0xFFFF // 8
_LATE_IN_SEGMENT_MS = 1000
_LATE_S = 0.1  # so long behind its end a packet of a press may come


def key_in_info(info: Message) -> str | None:
    """
    Return the key that a SIP INFO tells, an empty string where it tells none, or None where it is not about keys.

    Two bodies are common, neither of them standardised: ``application/dtmf-relay`` with a line ``Signal=5``, and
    ``application/dtmf`` that is the key alone; Nortel's has a line ``d=5``. They come as either type, with event codes
    or words for keys, and percent-encoded. The event code of a hook flash, 16, is no key.
    """
    kind = re.sub(r"[ \t]", "", info.first("content-type").partition(";")[0])
    if kind.lower() not in KEY_TYPES:
        return None
    body = info.body[:_MAX_BODY].replace("\r\n", "\n")
    signal = _SIGNAL.search(body)
    key = unquote(signal.group(1) if signal else body.strip()).upper()
    if re.fullmatch(r"0[0-9]", key):
        key = key[1]
    key = _NUMBERED.get(key) or _IN_WORDS.get(key, key)
    return key if key in KEYS else ""


@dataclass(slots=True)
class _Press:
    """
    An RFC 4733 event as far as it was heard, in milliseconds: its first packet, its last one, its duration.

    ``updated`` is the duration before its end; ``ended_at`` is when that came, in monotonic seconds.
    """

    key: str
    first_at: int
    first_duration: int
    at: int
    duration: int
    ended: bool
    updated: int
    ended_at: float

    @classmethod
    def begin(cls, key: str, at: int, duration: int, now: float, *, ended: bool) -> _Press:
        """Return a press of which this is the first packet."""
        return cls(key, at, duration, at, duration, ended, 0 if ended else duration, now)

    def goes_on(self, at: int, duration: int, now: float, *, ended: bool) -> bool:
        """Return whether a packet of the same key is of this press."""
        if self.ended:
            if not ended:  # what ended does not begin again, though some senders' timestamps stand still
                overtaken = duration > self.updated and now - self.ended_at <= _LATE_S
                return at == self.at and (duration >= self.duration or overtaken)
            return abs(_since(at, self.at)) <= _NEAR_MS and duration >= self.duration
        if at == self.at:
            return True
        if abs(_since(at, self.at) - _SEGMENT_MS) <= _NEAR_MS:  # RFC 4733 section 2.5.1.3
            return self.duration >= _SEGMENT_MS - _LATE_IN_SEGMENT_MS
        # The timestamp moves with the duration, or that of the end is where the event ends, or where it began.
        begun, earliest = _since(at - duration, self.first_at), -self.first_duration - _NEAR_MS
        fits = earliest <= begun <= _NEAR_MS or earliest <= _since(at, self.first_at) <= 0
        return fits and duration >= self.duration

    def follow(self, at: int, duration: int, now: float, *, ended: bool) -> None:
        """Take a packet of this press."""
        if not ended:
            if self.ended:
                return
            self.updated = duration
        elif not self.ended:
            self.ended_at = now
        if duration < self.duration:  # a new segment
            self.first_at, self.first_duration = at, duration
        self.at, self.duration, self.ended = at, duration, ended or self.ended


def _since(later: int, earlier: int) -> int:
    """Return how much later one timestamp is than another, though they wrap."""
    return (later - earlier + _WRAP_MS // 2) % _WRAP_MS - _WRAP_MS // 2


class DtmfFilter:
    """
    Tells a press from its repetitions.

    An RFC 4733 event ought to keep its timestamp while the key is down, in every packet and every retransmission. Some
    senders move it on with each packet, or in the end packets; a press of more than 8 s goes on at a later one. So the
    same key is the same press when its packet fits what was heard of it, and another one when it comes later than that,
    or begins anew after an end. A press that comes by SIP INFO too is told once.
    """

    def __init__(self) -> None:
        self._press: _Press | None = None
        self._events: deque[tuple[str, int]] = deque(maxlen=_REMEMBERED)
        self._unmatched: dict[KeyBy, deque[tuple[str, float]]] = {
            "rfc4733": deque(maxlen=_REMEMBERED),
            "info": deque(maxlen=_REMEMBERED),
        }

    def event(self, key: str, at: int, duration: int, now: float, *, ended: bool) -> bool:
        """
        Return whether an RFC 4733 packet is of a new press.

        Args:
            key: the key.
            at: timestamp in ms.
            duration: of the event so far, in ms.
            now: monotonic seconds.
            ended: the packet is an end packet.
        """
        if key not in KEYS:
            return False
        press = self._press if self._press is not None and self._press.key == key else None
        if press is not None and press.goes_on(at, duration, now, ended=ended):
            press.follow(at, duration, now, ended=ended)
            return False
        if (key, at) in self._events and (press is None or press.at != at):  # late
            return False
        self._press = _Press.begin(key, at, duration, now, ended=ended)
        self._events.append((key, at))
        return self._is_first("rfc4733", "info", key, now)

    def info(self, key: str, now: float) -> bool:
        """Return whether a key in SIP INFO is a new press. A retransmitted INFO never gets this far."""
        return key in KEYS and self._is_first("info", "rfc4733", key, now)

    def _is_first(self, way: KeyBy, other: KeyBy, key: str, now: float) -> bool:
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
        digits: keys; ``w`` is a pause of half a second, a comma one of two; anything else is skipped.
    """
    plan: list[tuple[float, str]] = []
    at_s = 0.0
    for char in digits:
        if char.upper() in KEYS:
            plan.append((at_s, char.upper()))
            at_s += KEY_S
        at_s += PAUSES_S.get(char.lower(), 0.0)
    return tuple(plan)
