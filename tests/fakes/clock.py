"""Time that a test turns by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class FakeTimer:
    """A timer that runs when the clock is turned past ``at``; like asyncio's it holds nothing once it is over."""

    at: float
    callback: Callable[[], None]
    running: bool = True

    def cancel(self) -> None:
        self.running = False
        self.callback = _nothing


class FakeClock:
    """Stands still until ``advance``. Unix time starts at 1,700,000,000 s, monotonic time at 100 s."""

    def __init__(self) -> None:
        self._passed = 0.0
        self._timers: list[FakeTimer] = []

    def now(self) -> float:
        return 1_700_000_000.0 + self._passed

    def monotonic(self) -> float:
        return 100.0 + self._passed

    def call_later(self, seconds: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(self._passed + seconds, callback)
        self._timers.append(timer)
        return timer

    @property
    def running(self) -> int:
        """How many timers run."""
        return sum(timer.running for timer in self._timers)

    def advance(self, seconds: float) -> None:
        """Turn the clock and run what becomes due, in order of time."""
        end = self._passed + seconds
        while due := [timer for timer in self._timers if timer.running and timer.at <= end]:
            timer = min(due, key=lambda due_timer: due_timer.at)
            self._passed = max(self._passed, timer.at)
            callback = timer.callback
            timer.cancel()
            callback()
        self._passed = end


def _nothing() -> None:
    """Stand for a callback that is not held any more."""
