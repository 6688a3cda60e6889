"""The workers as the edge knows them: in which order calls go to them, and what Kamailio is told of a change. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from gateway.condition import State, WorkerCondition

SHORTLIST = 64
"""How many workers Kamailio looks at for one call: more than fill between two orders of ours."""
Order = tuple[str | int, ...]
"""One RPC: method and parameters."""
Place = tuple[str, str]
"""A table of Kamailio's, and a key in it."""
_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}:\d{1,5}")


@dataclass(frozen=True, slots=True)
class EdgeWorker:
    """
    A worker as the edge needs to know it.

    Attributes:
        sip: ``address:port`` that it takes SIP at, over UDP; IPv4.
        capacity: calls that it can have.
        state: only ``ready`` gets new calls; its calls go on until it is ``ended``, or not in the list any more.
        live_calls: calls that it has, all edges together; None leaves the count to the edge.
    """

    sip: str
    capacity: int
    state: State = "ready"
    live_calls: int | None = None

    @classmethod
    def of(cls, condition: WorkerCondition) -> EdgeWorker:
        """Return what the edge needs of a worker's condition; raises ValueError where ``sip`` is empty."""
        return cls(condition.sip, condition.capacity, condition.state, condition.live_calls)

    def __post_init__(self) -> None:
        """Refuse what is no address: it becomes part of what Kamailio is told."""
        if _ADDRESS.fullmatch(self.sip) is None:
            raise ValueError(f"{self.sip!r} is not an IPv4 address with a port, such as 127.0.0.1:5071")

    @property
    def host(self) -> str:
        """Its address without the port."""
        return self.sip.partition(":")[0]


def token(key: str, sip: str) -> str:
    """Return the name that callers see in place of a worker's address; the configuration computes the same."""
    return hashlib.md5(f"{key}{sip}".encode(), usedforsecurity=False).hexdigest()[:16]


def order_of(workers: Iterable[EdgeWorker]) -> str:
    """
    Return who gets the next calls, the first with room first: ``127.0.0.1:5071/4,127.0.0.1:5072/4``.

    On one machine a worker is filled before the next one gets a call: a full worker costs less per call than two that
    are half empty, and those that stay empty can be ended. Machines take turns.
    """
    hosts: dict[str, list[EdgeWorker]] = {}
    for worker in sorted(workers, key=lambda worker: (worker.host, len(worker.sip), worker.sip)):
        if worker.state == "ready" and worker.capacity > 0:
            hosts.setdefault(worker.host, []).append(worker)
    by_turns = [each for each in chain.from_iterable(zip_longest(*hosts.values())) if each is not None]
    if len(by_turns) > SHORTLIST:
        by_turns = [each for each in by_turns if each.live_calls is None or each.live_calls < each.capacity]
    return ",".join(f"{each.sip}/{each.capacity}" for each in by_turns[:SHORTLIST])


def tables(key: str, workers: Iterable[EdgeWorker], *, growing: bool = False) -> dict[Place, str | int]:
    """Return what Kamailio's tables hold: (table, key) -> value."""
    workers = [worker for worker in workers if worker.state != "ended"]
    held: dict[Place, str | int] = {}
    for worker in workers:
        held["worker", token(key, worker.sip)] = worker.sip
        held["host", worker.host] = 1
        if worker.live_calls is not None:
            held["load", worker.sip] = worker.live_calls
    held["edge", "order"] = order_of(workers) or "-"
    if growing:
        held["edge", "growing"] = 1
    return held


def orders(told: Mapping[Place, str | int], wanted: Mapping[Place, str | int], now: int) -> Sequence[Order]:
    """
    Return the orders that make Kamailio's tables what is wanted: first what is new, then what goes.

    Workers that go leave no call behind: Kamailio hangs up those that they had before ``now`` (Unix seconds).
    """
    found: list[Order] = []
    for (table, name), value in wanted.items():
        if told.get((table, name)) != value:
            found.append(("htable.seti" if isinstance(value, int) else "htable.sets", table, name, value))
    gone = [place for place in told if place not in wanted]
    dead = [told[place] for place in gone if place[0] == "worker"]
    found += [("htable.seti", "dead", sip, now) for sip in dead]
    found += [("htable.seti", "edge", "dead", 1)] if dead else []
    found += [("htable.delete", *place) for place in gone]
    return found
