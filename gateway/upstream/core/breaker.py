"""
A circuit breaker over all calls of a worker: while the service is away, calls do not all go on to connect to it.

Closed, it lets every attempt to get a session pass and counts those that were lost in a row. At ``losses`` of them it
opens: from then on an attempt is held back at once, without a connection, except for one probe at a time, after a delay
that grows from ``FIRST_PROBE_S`` to ``LAST_PROBE_S``. The first session that becomes ready closes it.

What the service refuses (a wrong key, an unknown model) is no loss: the service is there. A session that is lost in
mid-call is none either, only the attempts to replace it are. No I/O: the time is handed in, and what happens is
reported as events.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from gateway.upstream.core.backoff import Backoff

FIRST_PROBE_S, LAST_PROBE_S = 1.0, 30.0
"""Ceilings of the first and the longest delay before a probe; each delay is half of its ceiling or more."""

GIVEN_UP_S = 5.0
"""An attempt abandoned after this long without a session counts as lost, not as the caller's impatience."""

PROBE_LIMIT_S = 10.0
"""A probe without an answer by then counts as lost: the next must not wait for it."""


class AttemptResult(Enum):
    """The result of an attempt."""

    READY = auto()
    LOST = auto()
    NEITHER = auto()
    """Refused, or given up by its call."""


@dataclass(frozen=True, slots=True, eq=False)
class ConnectAttempt:
    """An attempt that may be made; it is handed back to ``Breaker.settle``. ``began_s`` is monotonic time."""

    began_s: float


@dataclass(frozen=True, slots=True)
class HeldBack:
    """An attempt that must not be made, or the report of one; ``detail`` says why, and when the next probe is due."""

    name: str
    detail: str


@dataclass(frozen=True, slots=True)
class UpstreamAway:
    """
    The breaker opened.

    Attributes:
        name: of the breaker.
        losses: attempts that were lost in a row.
        detail: how the last was lost.
    """

    name: str
    losses: int
    detail: str


@dataclass(frozen=True, slots=True)
class UpstreamBack:
    """
    The breaker closed: a session became ready.

    Attributes:
        name: of the breaker.
        lasted_s: how long it was open.
        held_back: attempts that were held back meanwhile.
        probes: attempts that were made meanwhile, this one included.
    """

    name: str
    lasted_s: float
    held_back: int
    probes: int


Report = Callable[[UpstreamAway | UpstreamBack | HeldBack], None]


@dataclass(slots=True)
class _Outage:
    began_s: float
    delays: Backoff
    due_s: float = 0.0  # monotonic: no probe is made before
    probe: ConnectAttempt | None = None
    probes: int = 0
    held_back: int = 0


class Breaker:
    """
    Lets attempts to reach one upstream pass or holds them back. Thread: loop.

    Args:
        now: monotonic seconds.
        losses: attempts lost in a row that open it; 0 never does.
        name: appears in its reports.
        report: takes what happens.
        draw: gives a number between two, for the delays.
    """

    def __init__(
        self,
        now: Callable[[], float],
        losses: int,
        *,
        name: str = "",
        report: Report = lambda _: None,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._now = now
        self._losses = losses
        self._name = name
        self._report = report
        self._draw = draw
        self._lost = 0  # in a row
        self._detail = ""  # how the last was
        self._outage: _Outage | None = None

    def admit(self) -> ConnectAttempt | HeldBack:
        """Return an attempt, which must be settled, or why none may be made now."""
        now, outage = self._now(), self._outage
        if outage is None:
            return ConnectAttempt(now)
        if outage.probe is not None and now - outage.probe.began_s >= PROBE_LIMIT_S:
            self._plan_probe(outage, f"no session within {PROBE_LIMIT_S:g} s", 0.0)
        if outage.probe is None and now >= outage.due_s:
            outage.probe = ConnectAttempt(now)
            outage.probes += 1
            return outage.probe
        outage.held_back += 1
        held = HeldBack(self._name, self._reason(outage, now))
        self._report(held)
        return held

    def settle(
        self, attempt: ConnectAttempt, verdict: AttemptResult, detail: str = "", retry_after_s: float = 0.0
    ) -> None:
        """
        Take the result of an attempt.

        Args:
            attempt: as ``admit`` gave it.
            verdict: its result.
            detail: how it was lost, in words without secrets.
            retry_after_s: seconds that the service asked to be left alone; the longest delay of ours bounds them.
        """
        waited_s = self._now() - attempt.began_s
        if verdict is AttemptResult.NEITHER and waited_s >= GIVEN_UP_S:
            verdict, detail = AttemptResult.LOST, f"no session within {waited_s:.0f} s"
        outage = self._outage
        if verdict is AttemptResult.READY:
            self._lost, self._outage = 0, None
            if outage is not None:
                lasted_s = self._now() - outage.began_s
                self._report(UpstreamBack(self._name, lasted_s, outage.held_back, outage.probes))
        elif verdict is AttemptResult.LOST and outage is None:
            self._lost, self._detail = self._lost + 1, detail
            if self._lost == self._losses:
                self._open(retry_after_s)
        elif outage is not None and outage.probe is attempt:
            if verdict is AttemptResult.LOST:
                self._plan_probe(outage, detail, retry_after_s)
            outage.probe = None  # of one that came to neither, the next attempt takes the place

    def _open(self, retry_after_s: float) -> None:
        delays = Backoff(FIRST_PROBE_S, LAST_PROBE_S, lambda _, ceiling_s: self._draw(ceiling_s / 2, ceiling_s))
        self._outage = _Outage(self._now(), delays)
        self._plan_probe(self._outage, self._detail, retry_after_s)
        self._report(UpstreamAway(self._name, self._lost, self._detail))

    def _plan_probe(self, outage: _Outage, detail: str, retry_after_s: float) -> None:
        self._detail, outage.probe = detail, None
        outage.due_s = self._now() + outage.delays.next_s(min(retry_after_s, LAST_PROBE_S))

    def _reason(self, outage: _Outage, now: float) -> str:
        left_s = outage.due_s - now
        probe = f"the next probe is due in {left_s:.1f} s" if outage.probe is None else "a probe is under way"
        return f"the service is away, no attempt was made, {probe}: {self._detail}"


class Breakers:
    """
    The breakers of a worker, one for each model: a deployment that is gone is no reason to hold back calls to another.

    Args:
        now: monotonic seconds.
        losses: attempts lost in a row that open one; 0 never does.
        report: takes what happens.
    """

    def __init__(self, now: Callable[[], float], losses: int, report: Report) -> None:
        self._now = now
        self._losses = losses
        self._report = report
        self._breakers: dict[str, Breaker] = {}

    def of(self, model: str) -> Breaker:
        """Return the breaker of a model: one of those that the dialplan names, so there are few."""
        if model not in self._breakers:
            self._breakers[model] = Breaker(self._now, self._losses, name=model, report=self._report)
        return self._breakers[model]
