"""
What a call may spend: when its agent is told to come to an end, and when the call is over its budget.

A call has two budgets at most: its own (``max_usd`` of the route or the settings), and its share of the day's, which
grows as the call books more (``store/limits.py``) until a limit of the day lets it book no more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LEAST_USD = 1e-6
"""Money is booked in whole micro-dollars (``store/limits.py``)."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What a call may spend in all, in US dollars, and the limit that says so: ``usd_per_day 20``."""

    usd: float
    limit: str


def own_ceiling(of_route: float | None, of_settings: float | None) -> Ceiling | None:
    """Return what one call may cost: the lower one of both limits; None without any."""
    limits = (("max_usd", of_route), ("cost.max_usd", of_settings))
    ceilings = [Ceiling(usd, f"{name} {usd:.10g}") for name, usd in limits if usd is not None]
    return min(ceilings, key=lambda each: each.usd, default=None)


def reached(spent_usd: float, ceilings: Iterable[Ceiling | None], share: float = 1.0) -> Ceiling | None:
    """Return the lowest ceiling of which at least this share is spent; None if there is none."""
    spent_usd += LEAST_USD / 2  # sums of dollars are a little less than whole micro-dollars at times
    low = [each for each in ceilings if each is not None and spent_usd >= share * each.usd]
    return min(low, key=lambda each: each.usd, default=None)
