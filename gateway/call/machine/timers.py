"""Which timers of a call run: as its orders say, for nobody else starts or stops one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.call.actions import CallAction, CancelTimer, StartTimer


def running_after(orders: Iterable[CallAction], running: Mapping[str, None]) -> dict[str, None]:
    """Return the timers that run once these orders are carried out, in order of their start."""
    after = dict(running)
    for order in orders:
        if isinstance(order, StartTimer):
            after[order.name] = None
        elif isinstance(order, CancelTimer):
            del after[order.name]
    return after
