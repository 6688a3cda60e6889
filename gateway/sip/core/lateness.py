"""
Whether this process is late with the audio of its calls, and so had better take no more. No I/O.

Two things are looked at: the share of the media clock's ticks that came late in the last ``WINDOW_S``, and how long the
loop waited for a CPU each time it had something to do (median of the last ``WAITS`` samples, so that one pause of the
machine is no overload). The first is what callers hear, but shows only with calls up; the second shows a machine that
is overloaded by others, too. A machine that is merely busy makes neither late.

To go back takes a longer calm: both must stay under a quarter of their limits for ``CALM_S``, and twice as long each
time that the overload returns soon after, up to ``MOST_CALM_S``. So a process at its limit does not take calls and
refuse them by turns.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

WINDOW_S = 5.0
LEAST_TICKS = 100
"""Ticks in the window without which their share says nothing: two seconds of audio."""
WAITS = 5
LEAST_WAITS = 3
CALM_S = 10.0
MOST_CALM_S = 80.0
SOON_S = 60.0
"""An overload that returns within this time after the last one needs a longer calm."""
_CALM_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Sample:
    """
    What was counted since the sample before.

    Attributes:
        at: monotonic seconds.
        ticks: of the media clock.
        late: of these, late ones.
        worst_ms: the latest of them.
        slices: how often the loop got a CPU.
        waited_ms: how long it waited for that, in all.
    """

    at: float
    ticks: int = 0
    late: int = 0
    worst_ms: float = 0.0
    slices: int = 0
    waited_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What is decided by: share of late ticks, the latest one, and the usual wait for a CPU."""

    late_percent: float
    worst_ms: float
    wait_ms: float


class Lateness:
    """
    Decides between overloaded and not.

    Args:
        late_percent: share of late ticks that makes an overload; 0 sees none, whatever happens.
        wait_ms: usual wait for a CPU that makes one.

    Attributes:
        overloaded: whether it is.
        figures: those of the newest window.
    """

    def __init__(self, late_percent: float, wait_ms: float) -> None:
        self._late_percent = late_percent
        self._wait_ms = wait_ms
        self._window: deque[Sample] = deque()
        self._waits: deque[float] = deque(maxlen=WAITS)
        self._calm_s = CALM_S
        self._calm_since: float | None = None
        self._left_at: float | None = None
        self.overloaded = False
        self.figures = Figures(0.0, 0.0, 0.0)

    def take(self, sample: Sample) -> bool:
        """Take a sample; return whether ``overloaded`` has changed."""
        self._window.append(sample)
        while self._window[0].at <= sample.at - WINDOW_S:
            self._window.popleft()
        if sample.slices:
            self._waits.append(sample.waited_ms / sample.slices)
        self.figures = _figures(self._window, self._waits)
        if not self._late_percent:
            return False
        if self.overloaded:
            return self._recover(sample.at)
        if not self._exceeds(1.0):
            return False
        soon = self._left_at is not None and sample.at - self._left_at < SOON_S
        self._calm_s = min(self._calm_s * 2, MOST_CALM_S) if soon else CALM_S
        self._calm_since = None
        self.overloaded = True
        return True

    def _recover(self, now: float) -> bool:
        if self._exceeds(_CALM_SHARE):
            self._calm_since = None
            return False
        if self._calm_since is None:
            self._calm_since = now
        if now - self._calm_since < self._calm_s:
            return False
        self.overloaded = False
        self._left_at = now
        return True

    def _exceeds(self, share: float) -> bool:
        figures = self.figures
        return figures.late_percent >= self._late_percent * share or figures.wait_ms >= self._wait_ms * share


def _figures(window: deque[Sample], waits: deque[float]) -> Figures:
    ticks, late = sum(each.ticks for each in window), sum(each.late for each in window)
    return Figures(
        late_percent=100 * late / ticks if ticks >= LEAST_TICKS else 0.0,
        worst_ms=max(each.worst_ms for each in window),
        wait_ms=median(waits) if len(waits) >= LEAST_WAITS else 0.0,
    )
