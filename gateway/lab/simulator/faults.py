"""
What can be made to go wrong: on all connections (options, a script), on one (``?fault=`` in its URL), or now (control).

A new fault is a class with the hooks it needs, in one of the ``faults_*`` modules, and its line in ``FAULTS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.errors import ConfigError
from gateway.lab.simulator import faults_connect, faults_end, faults_events, faults_speech
from gateway.lab.simulator.fault import Fault, count
from gateway.lab.simulator.faults_end import CloseAfter, DropAfter

__all__ = ["FAULTS", "CloseAfter", "DropAfter", "Fault", "faults_for", "parse_fault"]

FAULTS: dict[str, Callable[[str], Fault]] = {
    "refuse": faults_connect.refuse,
    "http": faults_connect.http,
    "mint": faults_connect.mint,
    "handshake": faults_connect.handshake,
    "close_reply": faults_connect.close_reply,
    "close": faults_end.close,
    "drop": faults_end.drop,
    "freeze": faults_end.freeze,
    "server_error": faults_end.server_error,
    "expire": faults_end.expire,
    "ping": faults_end.ping,
    "silent": faults_events.silent,
    "slow": faults_events.slow,
    "missing": faults_events.missing,
    "hold": faults_events.hold,
    "late": faults_events.late,
    "twice": faults_events.twice,
    "unknown_events": faults_events.unknown_events,
    "unknown_fields": faults_events.unknown_fields,
    "latency": faults_events.latency,
    "jitter": faults_events.jitter,
    "reject": faults_events.reject,
    "ignore": faults_events.ignore,
    "pace": faults_speech.pace,
    "burst": faults_speech.burst,
    "think": faults_speech.think,
    "late_deltas": faults_speech.late_deltas,
    "two_items": faults_speech.two_items,
    "fail": faults_speech.fail,
    "incomplete": faults_speech.incomplete,
}


@dataclass(frozen=True, slots=True)
class _Told:
    """A fault and the connections that have it, by number from 1."""

    fault: Fault
    first: int | None
    since: int

    def hits(self, number: int) -> bool:
        return self.since <= number and (self.first is None or number < self.since + self.first)


def parse_fault(told: str) -> Fault:
    """
    Read one fault: ``name`` or ``name=value``, then ``,first=N`` (N connections have it), ``,from=N`` (from there on).

    Raises:
        ConfigError: no such fault, or a value that is not one.
    """
    return _parse(told).fault


def faults_for(told: Iterable[str], number: int) -> tuple[Fault, ...]:
    """
    Return fresh faults for the connection of that number.

    Raises:
        ConfigError: no such fault, or a value that is not one.
    """
    return tuple(each.fault for each in map(_parse, told) if each.hits(number))


def _parse(told: str) -> _Told:
    head, *limits = told.split(",")
    name, _, value = head.partition("=")
    make = FAULTS.get(name)
    if make is None:
        raise ConfigError(f"fault {told!r}: not known; there are {', '.join(FAULTS)}")
    try:
        given: dict[str, str] = {}
        for limit in limits:
            key, _, given[key] = limit.partition("=")
        unknown = given.keys() - {"first", "from"}
        if unknown:
            raise ValueError(f"{min(unknown)!r} limits nothing; there are first and from")
        first = count(given["first"], 0) if "first" in given else None
        return _Told(make(value), first, count(given.get("from", ""), 1))
    except ValueError as error:
        raise ConfigError(f"fault {told!r}: {error}") from None
