"""Tells a caller whose audio is missing from one who is only quiet, and one who sends what was not agreed on."""

from __future__ import annotations

PAUSE_FACTOR = 3
"""A caller who announced comfort noise may send nothing for so many times longer."""

_PACKETS_PER_S = 50
_WRONG_SAMPLES = 2

Heard = tuple[int, int]
"""What came so far: RTP packets, RTCP reports. Either shows that the far end is there."""


class RtpWatch:
    """
    Watches one call.

    A muted phone sends packets of silence, a silent one with comfort noise (RFC 3389) still sends RTCP or a packet now
    and then: only a far end of which nothing arrives is lost.

    Args:
        limit_s: how long nothing may come; 0 never ends.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._heard: Heard | None = None
        self._at = 0.0

    def begin(self, now: float) -> None:
        """Start to wait for the first packet; ``now`` in monotonic seconds."""
        self._at = now

    def silent_s(self, heard: Heard | None, now: float, *, owed: bool, may_pause: bool) -> float | None:
        """
        Return for how long nothing came once that is too long, again each time as long later; else None.

        Args:
            heard: what came so far; None when there is no stream.
            now: monotonic seconds.
            owed: the far end ought to send: we are not on hold.
            may_pause: it announced that it sends nothing while it is silent.
        """
        limit_s = self._limit_s * (PAUSE_FACTOR if may_pause else 1)
        if not limit_s or not owed or heard != self._heard:
            self._heard, self._at = heard, now
            return None
        if now - self._at < limit_s:
            return None
        silent_s, self._at = now - self._at, now
        return silent_s


class CodecWatch:
    """
    Tells a far end that sends in another codec than the one in use.

    Who answers our offer with several codecs may send in any of them (RFC 3264 section 7), and PJMEDIA drops all but
    the first: packets are counted, and none gets to the jitter buffer.
    """

    def __init__(self) -> None:
        self._before: tuple[float, int, int] | None = None
        self._wrong = 0

    def is_other(self, now: float, received: int, missing: int, level_ms: int) -> bool:
        """
        Take a sample, once a second; return whether nothing that came in the last few could be used.

        Args:
            now: monotonic seconds.
            received: RTP packets so far.
            missing: frames so far that were due and not there.
            level_ms: what is in the jitter buffer.
        """
        before, self._before = self._before, (now, received, missing)
        if before is None:
            return False
        due = (now - before[0]) * _PACKETS_PER_S
        useless = level_ms == 0 and received - before[1] > due / 4 and missing - before[2] > due * 3 / 4
        self._wrong = self._wrong + 1 if useless else 0
        return self._wrong >= _WRONG_SAMPLES
