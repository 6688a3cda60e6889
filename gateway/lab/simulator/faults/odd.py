"""Faults of content: fields that are not what they should be, messages that are no events."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.lab.simulator.faults.ending import AtMoment, moment
from gateway.lab.simulator.faults.fault import ALWAYS, Fault, FaultyLink
from gateway.lab.simulator.wire.event_types import SERVER_EVENT_TYPES

_MISSING = "missing"
_KINDS: dict[str, Any] = {
    _MISSING: None,
    "null": None,
    "text": "a text where none belongs",
    "empty": "",
    "number": 7,
    "fraction": 0.5,
    "true": True,
    "list": [None],
    "object": {"x": 1},
    "surrogate": "\ud800",
}
_STRAYS: dict[str, str | bytes] = {
    "text": "upstream connect error or disconnect/reset before headers",
    "empty": "",
    "object": "{}",
    "list": "[]",
    "null": "null",
    "number": "7",
    "untyped": '{"event_id":"event_stray"}',
    "null_type": '{"event_id":"event_stray","type":null}',
    "number_type": '{"event_id":"event_stray","type":7}',
    "cut": '{"event_id":"event_stray","type":"response.done","response":{"id":"resp_',
    "constant": '{"event_id":"event_stray","type":"rate_limits.updated","rate_limits":[{"remaining":NaN}]}',
    "surrogate": '{"event_id":"event_stray","type":"simulator.unheard_of","text":"\\ud800"}',
    "deep": "[" * 20_000,
    "binary": b"\x00\x01\x02",
}


@dataclass(frozen=True, slots=True)
class Odd(Fault):
    """
    ``odd=response.done:response.usage:null``: that field of events of that type is of that kind, or missing.

    Attributes:
        numbers: of which of them, counted from 1.
    """

    event_type: str
    path: tuple[str, ...]
    kind: str
    numbers: range = field(default=range(1, ALWAYS), kw_only=True)
    _count: Iterator[int] = field(default_factory=lambda: itertools.count(1), compare=False, kw_only=True)

    def sent_as(self, event: dict[str, Any]) -> Sequence[dict[str, Any]]:
        """Change the field."""
        if event.get("type") != self.event_type or next(self._count) not in self.numbers:
            return (event,)
        return (_changed(event, self.path, self.kind),)


@dataclass(frozen=True, slots=True)
class Stray(AtMoment):
    """``stray=2:object``: a message that is no event."""

    message: str | bytes = ""

    async def act(self, link: FaultyLink) -> None:
        """Send it."""
        link.send_raw(self.message)


def _changed(value: Any, path: tuple[str, ...], kind: str) -> Any:
    """Return the value with the field at the path changed; unchanged if there is no such field."""
    key, *rest = path
    if isinstance(value, list) and key.isdigit() and int(key) < len(value):
        entries: dict[str, Any] = {str(index): entry for index, entry in enumerate(value)}
        return list(_changed(entries, path, kind).values())
    if not isinstance(value, dict):
        return value
    if rest:
        return value | {key: _changed(value[key], tuple(rest), kind)} if key in value else value
    if kind == _MISSING:
        return {each: inner for each, inner in value.items() if each != key}
    return value | {key: _KINDS[kind]}


def odd(value: str) -> Fault:
    """Read ``EVENT:PATH:KIND``, the path dotted, with numbers for the entries of lists."""
    event_type, _, rest = value.partition(":")
    path, _, kind = rest.partition(":")
    if event_type not in SERVER_EVENT_TYPES:
        raise ValueError(f"there is no server event {event_type!r}")
    if not path or kind not in _KINDS:
        raise ValueError(f"behind the event give a path and one of {', '.join(_KINDS)}")
    return Odd(event_type, tuple(path.split(".")), kind)


def stray(value: str) -> Fault:
    """Read ``MOMENT:KIND``."""
    when, _, kind = value.partition(":")
    if kind not in _STRAYS:
        raise ValueError(f"behind the moment give one of {', '.join(_STRAYS)}")
    return Stray(**moment(when), message=_STRAYS[kind])
