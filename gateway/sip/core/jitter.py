"""
How the jitter buffer follows the line: when it ought to be longer, when shorter. No I/O.

PJMEDIA's buffer begins a call with ``jitter_start_ms`` and, as it is set up here (discard: none), never gets shorter by
itself. When it runs dry just before a packet that was lost, it skips that packet instead of hiding the loss, and is
shorter by it from then on; only when a frame is due and nothing is there does it fill up again, to its prefetch. So
three things are left to us:

* a line with gaps gets a longer prefetch, so that the next time the buffer fills it holds enough to hide a loss;
* after a pause of the far end (comfort noise, hold) it fills as at the start of the call;
* what a stall of the network, or a sender whose clock runs fast, has added is taken out again, 10 ms at a time.

The figures behind it: docs/performance.md, "The jitter buffer".
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

FRAME_MS = 10
"""What PJMEDIA counts G.711 and G.722 in."""

GAPPY = 0.01
"""Share of frames missing from which on a line gets the longer prefetch."""
SOUND = 0.005
"""Share below which it gets the ordinary one back."""
GAPPY_PREFETCH_MS = 80
"""With this, two packets of 20 ms in a row may be lost before the buffer runs dry."""
EXCESS_MS = 40
"""How much longer than wanted the buffer may stay."""
_WINDOW = 10  # samples, of a second each
_LEAST_S = 1.5
_LEVELS = 5


@dataclass(frozen=True, slots=True)
class JitterPlan:
    """
    What is wanted of a jitter buffer.

    Attributes:
        prefetch_ms: fill at which playout goes on after the buffer ran dry.
        shrink: whether it is to get shorter.
    """

    prefetch_ms: int
    shrink: bool = False


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    received: int
    missing: int


class JitterWatch:
    """
    Decides on the jitter buffer of one stream, from a sample each second.

    Args:
        start_ms: fill at the start of a call and after a pause (``sip.jitter_start_ms``).
        min_ms: prefetch on a line without gaps (``sip.jitter_min_ms``).
        max_ms: longest prefetch (``sip.jitter_max_ms``).
    """

    def __init__(self, start_ms: int, min_ms: int, max_ms: int) -> None:
        self._start_ms = start_ms
        self._sound_ms = min_ms
        self._gappy_ms = min(max(GAPPY_PREFETCH_MS, min_ms), max_ms)
        self._samples: deque[_Sample] = deque(maxlen=_WINDOW + 1)
        self._levels: deque[int] = deque(maxlen=_LEVELS)
        self._gappy = False
        self._shrinking = False

    def measure(self, now: float, level_ms: int, received: int, missing: int) -> JitterPlan:
        """
        Take a sample and return what is wanted from now on.

        Args:
            now: monotonic seconds.
            level_ms: fill of the buffer at this moment.
            received: packets that came since the stream began.
            missing: frames of 10 ms that were due and not there since the stream began.
        """
        if self._samples and received == self._samples[-1].received:
            self._samples.clear()
            self._levels.clear()
            self._samples.append(_Sample(now, received, missing))
            return JitterPlan(self._start_ms)
        self._samples.append(_Sample(now, received, missing))
        self._levels.append(level_ms)
        self._judge_gaps()
        self._judge_level()
        return JitterPlan(self._gappy_ms if self._gappy else self._sound_ms, self._shrinking)

    def _judge_gaps(self) -> None:
        first, last = self._samples[0], self._samples[-1]
        elapsed_s = last.at - first.at
        if elapsed_s < _LEAST_S:
            return
        share = (last.missing - first.missing) * FRAME_MS / (1000 * elapsed_s)
        if share >= GAPPY:
            self._gappy = True
        elif share <= SOUND and len(self._samples) > _WINDOW:
            self._gappy = False

    def _judge_level(self) -> None:
        wanted_ms = max(self._start_ms, self._gappy_ms if self._gappy else 0)
        # A sample falls just before a packet or just behind one: the least of several tells the buffer's length.
        least_ms = min(self._levels)
        if len(self._levels) == _LEVELS and least_ms > wanted_ms + EXCESS_MS:
            self._shrinking = True
        elif least_ms <= wanted_ms:
            self._shrinking = False
