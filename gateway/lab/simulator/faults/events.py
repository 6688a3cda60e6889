"""Faults of single events: missing, late, doubled, strange, refused, and slow on their way."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.lab.simulator.faults.fault import ALWAYS, Fault, count, nothing, seconds
from gateway.lab.simulator.wire.event_types import CLIENT_EVENT_TYPES, SERVER_EVENT_TYPES
from gateway.lab.simulator.wire.schema import ClientMistake

UNKNOWN_EVENT = "simulator.unheard_of"
UNKNOWN_FIELD = "x_unheard_of"
_UNKNOWN_BEFORE = frozenset({"session.updated", "response.created", "response.done"})


@dataclass(frozen=True, slots=True)
class Missing(Fault):
    """``missing=rate_limits.updated``: events of that type never come. ``silent`` is that of ``session.updated``."""

    event_type: str

    def delay_s(self, event_type: str) -> float | None:
        """Swallow them."""
        return None if event_type == self.event_type else 0.0


@dataclass(frozen=True, slots=True)
class Hold(Fault):
    """``hold=EVENT:2``: they, and all after them, come this many seconds late. ``slow=2`` holds ``session.updated``."""

    event_type: str
    held_s: float

    def delay_s(self, event_type: str) -> float | None:
        """Hold them back."""
        return self.held_s if event_type == self.event_type else 0.0


@dataclass(frozen=True, slots=True)
class LateEvent(Fault):
    """``late=EVENT:2``: they come this many seconds late, and later events overtake them."""

    event_type: str
    seconds_late: float

    def late_s(self, event_type: str) -> float:
        """Put them off."""
        return self.seconds_late if event_type == self.event_type else 0.0


@dataclass(frozen=True, slots=True)
class Twice(Fault):
    """``twice=response.done``: events of that type come twice, with the same ``event_id``."""

    event_type: str

    def sent_as(self, event: dict[str, Any]) -> Sequence[dict[str, Any]]:
        """Double them."""
        return (event, event) if event["type"] == self.event_type else (event,)


@dataclass(frozen=True, slots=True)
class UsageFactor(Fault):
    """``usage=1000``: every response says that it used so many times the tokens that it did."""

    factor: int

    def sent_as(self, event: dict[str, Any]) -> Sequence[dict[str, Any]]:
        """Multiply what it used."""
        if event["type"] != "response.done":
            return (event,)
        response = event["response"]
        return ({**event, "response": {**response, "usage": _times(response["usage"], self.factor)}},)


def _times(used: Any, factor: int) -> Any:
    if isinstance(used, dict):
        return {name: _times(each, factor) for name, each in used.items()}
    return used * factor if isinstance(used, int) else used


@dataclass(frozen=True, slots=True)
class UnknownEvents(Fault):
    """``unknown_events``: events of a type that no client knows come between the others."""

    def sent_as(self, event: dict[str, Any]) -> Sequence[dict[str, Any]]:
        """Put one in front of a few."""
        if event["type"] not in _UNKNOWN_BEFORE:
            return (event,)
        return {"event_id": f"{event['event_id']}_0", "type": UNKNOWN_EVENT, "payload": {"of": event["type"]}}, event


@dataclass(frozen=True, slots=True)
class UnknownFields(Fault):
    """``unknown_fields``: every event, and every object in it, has a field that no client knows."""

    def sent_as(self, event: dict[str, Any]) -> Sequence[dict[str, Any]]:
        """Add them."""
        return (_with_field(event),)


def _with_field(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_field(each) for key, each in value.items()} | {UNKNOWN_FIELD: {"of": [1, None]}}
    return [_with_field(each) for each in value] if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class Latency(Fault):
    """``latency=80``: every event takes this many milliseconds to the client."""

    milliseconds: float

    def latency_s(self) -> float:
        """Return the way's length."""
        return self.milliseconds / 1000


@dataclass(frozen=True, slots=True)
class Jitter(Fault):
    """``jitter=50``: every event takes from 0 to this many milliseconds more; their order is kept."""

    milliseconds: float
    dice: random.Random = field(default_factory=lambda: random.Random(1), compare=False)

    def latency_s(self) -> float:
        """Throw the dice; the same throws in every run."""
        return self.dice.random() * self.milliseconds / 1000


@dataclass(frozen=True, slots=True)
class Reject(Fault):
    """``reject=session.update:invalid_value:session.audio``: a good event of the client's draws an error, no effect."""

    event_type: str
    code: str
    param: str | None

    def mistake(self, event_type: str) -> ClientMistake | None:
        """Refuse events of that type."""
        if event_type != self.event_type:
            return None
        return ClientMistake(self.code, f"The simulator was told to refuse {event_type}.", self.param)


@dataclass(frozen=True, slots=True)
class Ignore(Fault):
    """``ignore=audio.output.voice``: that field of a ``session.update`` has no effect; the echo shows it."""

    path: tuple[str, ...]

    def accepted(self, update: dict[str, Any]) -> dict[str, Any]:
        """Leave the field out."""
        return _without(update, self.path)


def _without(value: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    key, *rest = path
    if key not in value:
        return value
    if not rest:
        return {each: inner for each, inner in value.items() if each != key}
    return value | {key: _without(value[key], tuple(rest))} if isinstance(value[key], dict) else value


@dataclass(frozen=True, slots=True)
class SlowAcks(Fault):
    """``slow_acks=0.5``: what tells the client that its item was taken comes so late; what is behind passes it."""

    seconds_late: float

    def ack_delay_s(self) -> float:
        """Return the seconds."""
        return self.seconds_late


@dataclass(frozen=True, slots=True)
class OpenTurns(Fault):
    """``open_turns=2``: the end of this many of the caller's first turns is never detected."""

    times: int

    def ends_turn(self, number: int) -> bool:
        """Leave them open."""
        return number > self.times


def slow_acks(value: str) -> Fault:
    """Read ``SECONDS``."""
    return SlowAcks(seconds(value))


def open_turns(value: str) -> Fault:
    """Read nothing, or how many."""
    return OpenTurns(count(value, ALWAYS))


def silent(value: str) -> Fault:
    """Read no value."""
    nothing(value)
    return Missing("session.updated")


def slow(value: str) -> Fault:
    """Read ``SECONDS``."""
    return Hold("session.updated", seconds(value))


def missing(value: str) -> Fault:
    """Read ``EVENT``."""
    return Missing(_server_event(value))


def hold(value: str) -> Fault:
    """Read ``EVENT:SECONDS``."""
    name, _, late = value.partition(":")
    return Hold(_server_event(name), seconds(late))


def late(value: str) -> Fault:
    """Read ``EVENT:SECONDS``."""
    name, _, by = value.partition(":")
    return LateEvent(_server_event(name), seconds(by))


def twice(value: str) -> Fault:
    """Read ``EVENT``."""
    return Twice(_server_event(value))


def usage(value: str) -> Fault:
    """Read ``FACTOR``."""
    return UsageFactor(count(value, 1))


def unknown_events(value: str) -> Fault:
    """Read no value."""
    nothing(value)
    return UnknownEvents()


def unknown_fields(value: str) -> Fault:
    """Read no value."""
    nothing(value)
    return UnknownFields()


def latency(value: str) -> Fault:
    """Read ``MILLISECONDS``."""
    return Latency(seconds(value))


def jitter(value: str) -> Fault:
    """Read ``MILLISECONDS``."""
    return Jitter(seconds(value))


def reject(value: str) -> Fault:
    """Read ``EVENT``, ``EVENT:CODE`` or ``EVENT:CODE:PARAM``."""
    name, _, rest = value.partition(":")
    if name not in CLIENT_EVENT_TYPES:
        raise ValueError(f"there is no client event {name!r}")
    code, _, param = rest.partition(":")
    return Reject(name, code or "invalid_value", param or None)


def ignore(value: str) -> Fault:
    """Read a dotted path in ``session``."""
    if not value:
        raise ValueError("give a path in the session, as audio.output.voice")
    return Ignore(tuple(value.split(".")))


def _server_event(name: str) -> str:
    if name not in SERVER_EVENT_TYPES:
        raise ValueError(f"there is no server event {name!r}")
    return name
