"""Watches whether this process is late with its audio: what ``core/lateness.py`` decides by is counted here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import structlog

from gateway.settings.sip import SipSettings
from gateway.sip.core.lateness import Lateness, Sample
from gateway.threads import runs_on

_log = structlog.get_logger(__name__)
_SCHEDSTAT = Path("/proc/self/schedstat")  # of the main thread: ns on a CPU, ns of waiting for one, turns on one
_TICK_S = 0.02
_SAME_TICK_S = 0.005
"""Ports are served within this time of each other in one tick."""
_PAUSE_S = 1.0
"""A gap this long is none of the clock's: nobody wanted to hear the agent."""


class ClockTicks:
    """
    Counts the ticks of the media clock: written by the clock, which never waits, and read on ``sip``.

    Args:
        late_ms: a tick later than this is late.
    """

    def __init__(self, late_ms: float) -> None:
        self._late_s = late_ms / 1000
        self._last = 0.0
        self.ticks = 0
        self.late = 0
        self.longest_s = 0.0

    @runs_on("sip")
    def begin(self) -> None:
        """Expect the first tick after a time without a call: what was before it is no gap."""
        self._last = 0.0

    @runs_on("clock")
    def note(self, now: float) -> None:
        """Note that the clock is at work, for each port that it serves; ``now``: monotonic seconds."""
        gap = now - self._last
        if gap < _SAME_TICK_S:
            return
        self._last = now
        if gap < _PAUSE_S:  # ticks that were due in it are made up for at once, and not seen here
            self.ticks += round(gap / _TICK_S)
            self.late += max(0, int((gap - self._late_s) / _TICK_S))
            self.longest_s = max(self.longest_s, gap)


class Overload:
    """
    Says whether new calls are to be refused because this process is late. Thread: sip.

    Args:
        settings: what is late, and how much of it is too much.
        changed: hears of each change.
    """

    def __init__(self, settings: SipSettings, changed: Callable[[bool], None]) -> None:
        self._changed = changed
        self.clock = ClockTicks(settings.late_ms)
        self._lateness = Lateness(settings.late_percent, settings.late_ms)
        self._counted = (0, 0)
        self._waited = (0, 0)  # ns, turns
        self._since = 0.0

    @property
    def overloaded(self) -> bool:
        """Whether it is so now. Any thread."""
        return self._lateness.overloaded

    @runs_on("sip")
    def tick(self, now: float) -> None:
        """Take a sample, about once a second; ``now``: monotonic seconds."""
        clock = self.clock
        counted, (ticks, late) = (clock.ticks, clock.late), self._counted
        waited, (nanoseconds, turns) = _waited_so_far(), self._waited
        worst_ms = max(0.0, clock.longest_s - _TICK_S) * 1000
        clock.longest_s = 0.0
        self._counted, self._waited = counted, waited
        sample = Sample(
            *(now, counted[0] - ticks, counted[1] - late, worst_ms),
            *(waited[1] - turns, (waited[0] - nanoseconds) / 1e6),
        )
        if not turns:  # the first one: of what was before, nothing is known
            sample = Sample(now)
        if self._lateness.take(sample):
            self._tell(now)
            self._changed(self.overloaded)

    def _tell(self, now: float) -> None:
        seen = self._lateness.figures
        figures = {
            "late_percent": round(seen.late_percent, 1),
            "worst_ms": round(seen.worst_ms),
            "cpu_wait_ms": round(seen.wait_ms, 1),
        }
        if self.overloaded:
            self._since = now
            cure = "new calls get 503: give the machine more CPU or fewer calls (fleet.calls), or move other work away"
            _log.warning("worker_overloaded", **figures, detail=cure)
        else:
            _log.warning("worker_recovered", after_s=round(now - self._since), **figures)


def _waited_so_far() -> tuple[int, int]:
    """Return the nanoseconds for which the loop waited for a CPU, and how often it got one; zeros but on Linux."""
    with contextlib.suppress(OSError, ValueError):
        _, waited, turns = map(int, _SCHEDSTAT.read_text().split())
        return waited, turns
    return 0, 0
