"""
How good a call sounds, and whether anything is heard at all. No I/O.

Counters of RTP and the jitter buffer with the E-model's estimate made of them; a watch for a far end of which nothing
arrives, and one for a far end that sends what was not agreed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.sip.core.jitter import FRAME_MS

R_BEST = 93.2  # ITU-T G.107: all parameters at their defaults
_CODECS: Mapping[str, tuple[float, float]] = {  # ITU-T G.113 appendix I: Ie, Bpl; with packet-loss concealment
    "PCMU": (0.0, 25.1),
    "PCMA": (0.0, 25.1),
    "G722": (0.0, 25.1),  # on the scale of narrowband speech, which it exceeds
}
_UNKNOWN_CODEC = (11.0, 19.0)  # those of G.729, the usual other one
_FRAME_DELAY_MS = 20.0  # a packet is sent when it is full


def rating(delay_ms: float, loss_percent: float, codec: str) -> float:
    """
    Return the E-model's rating R (ITU-T G.107, simplified: no noise, no echo, losses without bursts).

    Args:
        delay_ms: from mouth to ear, one way.
        loss_percent: packets that were lost or came too late.
        codec: name as in SDP.
    """
    delay = 0.024 * delay_ms + (0.11 * (delay_ms - 177.3) if delay_ms > 177.3 else 0.0)
    equipment, robustness = _CODECS.get(codec.upper(), _UNKNOWN_CODEC)
    loss = min(100.0, max(0.0, loss_percent))
    return R_BEST - delay - (equipment + (95.0 - equipment) * loss / (loss + robustness))


def mean_opinion(r: float) -> float:
    """Return the mean opinion score, 1 to 4.5, of a rating (ITU-T G.107 annex B)."""
    if r <= 6.5:  # below this the polynomial turns round
        return 1.0
    if r >= 100:
        return 4.5
    return 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6


@dataclass(frozen=True, slots=True)
class StreamCounts:
    """
    What was counted of the RTP of one stream, or of several one after the other.

    Attributes:
        rx_packets: packets that came.
        rx_lost: packets that never came.
        rx_jitter_ms: mean interarrival jitter (RFC 3550 section 6.4.1).
        tx_packets: packets sent.
        tx_lost: of those, lost as the far end's reports say.
        reports: reports of the far end about us.
        rtt_ms: mean round trip by RTCP; 0 while unknown.
        late: frames that came too late or too early for the jitter buffer.
        missing: frames that were due and not there.
        buffer_ms: mean delay in the jitter buffer.
        level_ms: what is in the jitter buffer at this moment.
    """

    rx_packets: int = 0
    rx_lost: int = 0
    rx_jitter_ms: float = 0.0
    tx_packets: int = 0
    tx_lost: int = 0
    reports: int = 0
    rtt_ms: float = 0.0
    late: int = 0
    missing: int = 0
    buffer_ms: float = 0.0
    level_ms: int = 0

    def and_then(self, later: StreamCounts) -> StreamCounts:
        """Return the counts of both: a re-INVITE ends a stream and begins another."""
        packets = self.rx_packets + later.rx_packets

        def mean(before: float, after: float) -> float:
            return (before * self.rx_packets + after * later.rx_packets) / packets if packets else after or before

        return StreamCounts(
            rx_packets=packets,
            rx_lost=self.rx_lost + later.rx_lost,
            rx_jitter_ms=mean(self.rx_jitter_ms, later.rx_jitter_ms),
            tx_packets=self.tx_packets + later.tx_packets,
            tx_lost=self.tx_lost + later.tx_lost,
            reports=self.reports + later.reports,
            rtt_ms=later.rtt_ms or self.rtt_ms,
            late=self.late + later.late,
            missing=self.missing + later.missing,
            buffer_ms=mean(self.buffer_ms, later.buffer_ms),
            level_ms=later.level_ms,
        )

    def fields(self, codec: str) -> dict[str, int | float]:
        """Return the fields of the call's record (``store/record.py``); what is not known is left out."""
        fields: dict[str, int | float] = {
            "rx_packets": self.rx_packets,
            "rx_lost": self.rx_lost,
            "tx_packets": self.tx_packets,
            "late_frames": self.late,
            "underruns": self.missing,
        }
        if self.reports:
            fields["tx_lost"] = self.tx_lost
        if self.rtt_ms:
            fields["rtt_ms"] = round(self.rtt_ms, 1)
        if self.rx_packets:
            expected = self.rx_packets + self.rx_lost
            loss_percent = 100 * min(expected, self.rx_lost + self.late) / expected
            delay_ms = self.rtt_ms / 2 + self.buffer_ms + _FRAME_DELAY_MS
            fields["rx_jitter_ms"] = round(self.rx_jitter_ms, 2)
            fields["mos"] = round(mean_opinion(rating(delay_ms, loss_percent, codec)), 2)
        return fields


def read_counts(statistics: Any) -> StreamCounts:
    """
    Read a ``pj.StreamStat``. Thread: sip.

    Each part is read while the whole is held: a SWIG proxy does not keep its parent alive.
    """
    rtcp = statistics.rtcp
    received, sent, round_trip = rtcp.rxStat, rtcp.txStat, rtcp.rttUsec
    jitter = received.jitterUsec
    buffer = statistics.jbuf
    return StreamCounts(
        rx_packets=received.pkt,
        # A packet out of order was counted as lost before it came.
        rx_lost=max(0, received.loss - received.reorder),
        rx_jitter_ms=jitter.mean / 1000,
        tx_packets=sent.pkt,
        tx_lost=max(0, sent.loss),
        reports=sent.updateCount,
        rtt_ms=round_trip.mean / 1000 if round_trip.n else 0.0,
        late=buffer.discard,
        missing=buffer.lost + buffer.empty,
        buffer_ms=buffer.avgDelayMsec,
        level_ms=buffer.size * FRAME_MS,
    )


PAUSE_FACTOR = 3
"""A caller who announced comfort noise may send nothing for this many times longer."""

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
