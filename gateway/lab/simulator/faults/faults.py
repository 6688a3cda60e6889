"""
What can be made to go wrong: on all connections (options, a script), on one (``?fault=`` in its URL), or now (control).

A new fault is a class with the hooks it needs, in one of the modules beside this one, and its line in ``FAULTS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from gateway.errors import ConfigError
from gateway.lab.simulator.faults import answers as faults_answers
from gateway.lab.simulator.faults import connecting as faults_connect
from gateway.lab.simulator.faults import ending as faults_end
from gateway.lab.simulator.faults import events as faults_events
from gateway.lab.simulator.faults import odd as faults_odd
from gateway.lab.simulator.faults import speech as faults_speech
from gateway.lab.simulator.faults.ending import CloseAfter, DropAfter
from gateway.lab.simulator.faults.fault import AnswerFault, Fault, count, numbers
from gateway.lab.simulator.faults.odd import Odd

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
    "usage": faults_events.usage,
    "unknown_events": faults_events.unknown_events,
    "unknown_fields": faults_events.unknown_fields,
    "latency": faults_events.latency,
    "jitter": faults_events.jitter,
    "slow_acks": faults_events.slow_acks,
    "open_turns": faults_events.open_turns,
    "odd": faults_odd.odd,
    "stray": faults_odd.stray,
    "reject": faults_events.reject,
    "ignore": faults_events.ignore,
    "pace": faults_speech.pace,
    "burst": faults_speech.burst,
    "think": faults_speech.think,
    "late_deltas": faults_speech.late_deltas,
    "two_items": faults_speech.two_items,
    "interleaved": faults_speech.interleaved,
    "backwards": faults_speech.backwards,
    "fail": faults_answers.fail,
    "try_again": faults_answers.try_again,
    "incomplete": faults_answers.incomplete,
    "cancelled": faults_answers.cancelled,
    "empty": faults_answers.empty,
    "comes_as": faults_answers.comes_as,
    "stall": faults_answers.stall,
    "deny": faults_answers.deny,
    "unanswered": faults_answers.unanswered,
    "crossed": faults_answers.crossed,
    "calls": faults_answers.calls,
    "mcp": faults_answers.mcp,
    "cut_calls": faults_answers.cut_calls,
    "tell_calls": faults_answers.tell_calls,
}


@dataclass(frozen=True, slots=True)
class _Told:
    """A fault and the connections that have it: of all, or of those that ask for its model, by number from 1."""

    fault: Fault
    first: int | None
    since: int
    model: str | None

    def hits(self, number: int, model: str, of_model: int) -> bool:
        if self.model is not None:
            if self.model != model:
                return False
            number = of_model
        return self.since <= number and (self.first is None or number < self.since + self.first)


def parse_fault(told: str) -> Fault:
    """
    Read one fault: ``name`` or ``name=value``, and what limits it.

    ``,first=N``: N connections have it; ``,from=N``: from there on; ``,model=M``: only those that ask for that model
    have it, and are counted; ``,answers=2`` (``2-``, ``1-3``): those of a connection's answers; ``,events=2``: those of
    the events it changes.

    Raises:
        ConfigError: no such fault, or a value that is not one.
    """
    return _parse(told).fault


def faults_for(told: Iterable[str], number: int, model: str = "", of_model: int = 1) -> tuple[Fault, ...]:
    """
    Return fresh faults for a connection.

    Args:
        told: all faults, in the form that ``parse_fault`` reads.
        number: of the connection, from 1.
        model: that it asks for.
        of_model: its number among those that ask for that model.

    Raises:
        ConfigError: no such fault, or a value that is not one.
    """
    return tuple(each.fault for each in map(_parse, told) if each.hits(number, model, of_model))


def _parse(told: str) -> _Told:
    head, *limits = told.split(",")
    name, _, value = head.partition("=")
    make = FAULTS.get(name)
    if make is None:
        raise ConfigError(f"fault {told!r}: unknown; known are {', '.join(FAULTS)}")
    try:
        given: dict[str, str] = {}
        for limit in limits:
            key, _, given[key] = limit.partition("=")
        unknown = given.keys() - {"first", "from", "model", "answers", "events"}
        if unknown:
            raise ValueError(f"{min(unknown)!r} is not a limit; the limits are first, from, model, answers and events")
        first = count(given["first"], 0) if "first" in given else None
        fault = make(value)
        for limit, kind in (("answers", AnswerFault), ("events", Odd)):
            if limit in given:
                if not isinstance(fault, kind):
                    raise ValueError(f"this fault changes no {limit}; leave that out")
                fault = replace(fault, numbers=numbers(given[limit]))
        return _Told(fault, first, count(given.get("from", ""), 1), given.get("model"))
    except ValueError as error:
        raise ConfigError(f"fault {told!r}: {error}") from None
