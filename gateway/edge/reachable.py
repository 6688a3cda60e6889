"""Which of the registered workers an edge of this machine can send calls to. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Iterable

from gateway.condition import WorkerCondition
from gateway.store.registry import RegisteredWorker


def reachable(
    own: Iterable[WorkerCondition], registered: Iterable[RegisteredWorker], *, once_own: Container[str], host: str
) -> tuple[WorkerCondition, ...]:
    """
    Return the workers that an edge can send calls to, by name, one for each address.

    Not every worker in the registry is among them: one on 127.0.0.1 takes calls only from an edge of its own machine,
    and one without an address stands behind no edge.

    Args:
        own: those of this machine's fleet, as their pipes tell; what the registry says of them is older.
        registered: those in the registry.
        once_own: names of those that the fleet has or had: one that is not ``own`` any more has ended.
        host: name of this machine.
    """
    by_address = {}
    for worker in sorted(registered, key=lambda each: each.heartbeat_at):
        condition = worker.condition
        far = worker.host != host and _is_loopback(condition.sip)
        if condition.sip and not far and condition.worker not in once_own:
            by_address[condition.sip] = condition  # of a worker that died and the one that took its port, the latter
    by_address |= {condition.sip: condition for condition in own if condition.sip}
    return tuple(sorted(by_address.values(), key=lambda each: each.worker))


def _is_loopback(sip: str) -> bool:
    address = sip.rpartition(":")[0]
    return bool(address) and ipaddress.ip_address(address).is_loopback
