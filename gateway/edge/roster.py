"""
Which workers an edge of this machine sends calls to, from those of its fleet and those in the registry. Pure.

Not every worker in the registry can be reached from here: one on 127.0.0.1 takes calls only from an edge of its own
machine, and one without an address stands behind no edge.

A worker that vanished from the registry without saying that it ended is most likely dead. But it may as well be cut off
from Redis only, with calls up, and a request inside such a call must still find it. So it stays known for as long as
a call can last, as one that takes no new calls.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Iterable
from dataclasses import replace

from gateway.condition import WorkerCondition
from gateway.edge.workers import EdgeWorker
from gateway.store.registry import RegisteredWorker

MOST_KEPT = 1000
"""Vanished workers; beyond that the one that vanished first is forgotten."""


class Roster:
    """
    The workers that an edge knows.

    Args:
        host: name of this machine.
        kept_s: how long a worker that vanished is known yet.
    """

    def __init__(self, *, host: str, kept_s: float) -> None:
        self._host = host
        self._kept_s = kept_s
        self._here: dict[str, WorkerCondition] = {}  # by address
        self._vanished: dict[str, tuple[WorkerCondition, float]] = {}  # by address; with the time, oldest first
        self._once_own: set[str] = set()

    def update(
        self, now: float, registered: Iterable[RegisteredWorker], own: Iterable[WorkerCondition] = ()
    ) -> tuple[EdgeWorker, ...]:
        """
        Return the workers for the edge, by address.

        Args:
            now: monotonic seconds.
            registered: those in the registry.
            own: those of this machine's fleet, as their pipes tell, which is newer. One that was among them and is not
                any more has ended, whatever the registry says.
        """
        own = [condition for condition in own if condition.state != "ended"]
        self._once_own |= {condition.worker for condition in own}
        registered = list(registered)
        ended = {each.condition.worker for each in registered if each.condition.state == "ended"}
        here = reachable(own, registered, once_own=self._once_own, host=self._host)
        for sip in self._here.keys() - here.keys():
            last = self._here[sip]
            if last.worker not in self._once_own and last.worker not in ended:
                self._vanished[sip] = (replace(last, state="draining"), now)
        self._here = here
        self._vanished = {
            sip: (last, since)
            for sip, (last, since) in [*self._vanished.items()][-MOST_KEPT:]
            if sip not in here and now - since < self._kept_s
        }
        known = here | {sip: last for sip, (last, _) in self._vanished.items()}
        return tuple(EdgeWorker.of(known[sip]) for sip in sorted(known))


def reachable(
    own: Iterable[WorkerCondition], registered: Iterable[RegisteredWorker], *, once_own: Container[str], host: str
) -> dict[str, WorkerCondition]:
    """
    Return the workers that an edge can send calls to: address -> condition.

    Args:
        own: those of this machine's fleet.
        registered: those in the registry.
        once_own: names of those that the fleet has or had: what the registry says of them is older.
        host: name of this machine.
    """
    found = {}
    for worker in sorted(registered, key=lambda each: each.heartbeat_at):
        condition = worker.condition
        far = worker.host != host and _is_loopback(condition.sip)
        if condition.sip and condition.state != "ended" and not far and condition.worker not in once_own:
            found[condition.sip] = condition  # of a worker that died and the one that took its port, the latter
    return found | {condition.sip: condition for condition in own if condition.sip}


def _is_loopback(sip: str) -> bool:
    address = sip.rpartition(":")[0]
    return bool(address) and ipaddress.ip_address(address).is_loopback
