"""
The budget of one call: watches what it costs, books more of the day's money, and says when it comes to an end.

The session tells each change of the cost (``spend``). What may be spent is decided in ``cost/budget.py``, what may be
booked by Redis over all workers (``store/limits.py``), whose answer comes later. While Redis is away a call has its
own budget (``max_usd``) alone.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.call.events import BudgetLow, BudgetUsedUp
from gateway.call.ports import EmitEvent
from gateway.cost.budget import Ceiling, reached
from gateway.ids import CallId
from gateway.store.limits import OnBooked

Book = Callable[[CallId, float, OnBooked], None]
"""``RedisLimits.spend``."""


class CallBudget:
    """
    What one call may spend. Thread: loop.

    Args:
        call_id: our id of the call.
        own: what it may cost whatever others do; None: no limit.
        warn_at: share of a ceiling at which the agent is told to come to an end.
        book: books more of the day's money.
    """

    def __init__(self, call_id: CallId, own: Ceiling | None, warn_at: float, book: Book) -> None:
        self._call_id = call_id
        self._own = own
        self._warn_at = warn_at
        self._book = book
        self._spent = 0.0
        self._warned = self._over = False
        self._emit: EmitEvent = lambda event: None

    def spend(self, usd: float, emit: EmitEvent) -> None:
        """Take what the call has cost so far, in US dollars; see ``call.ports.Spend``."""
        self._spent, self._emit = usd, emit
        self._judge(self._own)
        self._book(self._call_id, usd, self._booked)

    def _booked(self, usd: float, limit: str) -> None:
        self._judge(self._own, Ceiling(usd, limit) if limit else None)

    def _judge(self, *ceilings: Ceiling | None) -> None:
        if (over := reached(self._spent, ceilings)) is not None and not self._over:
            self._over = self._warned = True
            self._emit(BudgetUsedUp(self._call_id, self._spent, over.limit))
        elif not self._warned and (low := reached(self._spent, ceilings, self._warn_at)) is not None:
            self._warned = True
            self._emit(BudgetLow(self._call_id, self._spent, low.limit))
