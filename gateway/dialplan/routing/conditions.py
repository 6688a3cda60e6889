"""Conditions made ready for deciding: does this call fulfil them, and if not, why not?"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Protocol

from gateway.dialplan.model.match import LoadMatch, Match, TimeMatch
from gateway.dialplan.model.patterns import Pattern, parse_pattern
from gateway.dialplan.model.times import (
    DAY_NAMES,
    WEEKDAYS,
    Calendar,
    Days,
    Hours,
    day_before,
    parse_days,
    parse_hours,
    parse_weekdays,
)
from gateway.dialplan.routing.call_facts import RoutingFacts

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_NO_GROUPS: Mapping[str, str] = {}


class Condition(Protocol):
    """
    One key of a match.

    Attributes:
        key: as it is written.
    """

    key: ClassVar[str]

    def groups(self, call: RoutingFacts) -> Mapping[str, str] | None:
        """Return the named groups it found when it holds; None when it does not."""

    def why_not(self, call: RoutingFacts) -> str:
        """Return in words why it does not hold for this call."""


def _first(patterns: tuple[Pattern, ...], values: tuple[str, ...]) -> Mapping[str, str] | None:
    for pattern in patterns:
        for value in values:
            if (found := pattern.match(value)) is not None:
                return found
    return None


def _any_of(words: tuple[object, ...]) -> str:
    shown = [str(word) for word in words[:8]]
    return " or ".join(shown) + (f" or {len(words) - 8} more" if len(words) > 8 else "")


@dataclass(frozen=True, slots=True)
class ToCondition:
    """The called number."""

    key: ClassVar[str] = "to"

    patterns: tuple[Pattern, ...]

    def groups(self, call: RoutingFacts) -> Mapping[str, str] | None:
        """See ``Condition``."""
        return _first(self.patterns, call.called_forms)

    def why_not(self, call: RoutingFacts) -> str:
        """See ``Condition``."""
        return f"to is {call.called or 'missing'}, not {_any_of(self.patterns)}"


@dataclass(frozen=True, slots=True)
class FromCondition:
    """The caller's number."""

    key: ClassVar[str] = "from"

    patterns: tuple[Pattern, ...]

    def groups(self, call: RoutingFacts) -> Mapping[str, str] | None:
        """See ``Condition``."""
        return _first(self.patterns, call.caller_forms)

    def why_not(self, call: RoutingFacts) -> str:
        """See ``Condition``."""
        return f"from is {call.caller or 'missing'}, not {_any_of(self.patterns)}"


@dataclass(frozen=True, slots=True)
class TrunkCondition:
    """The trunk it came through; names ignore case, as in the settings."""

    key: ClassVar[str] = "trunk"

    names: frozenset[str]

    def groups(self, call: RoutingFacts) -> Mapping[str, str] | None:
        """See ``Condition``."""
        return _NO_GROUPS if call.trunk.lower() in self.names else None

    def why_not(self, call: RoutingFacts) -> str:
        """See ``Condition``."""
        return f"it came through {call.trunk or 'no trunk'}, not {_any_of(tuple(sorted(self.names)))}"


@dataclass(frozen=True, slots=True)
class SourceCondition:
    """The address it came from."""

    key: ClassVar[str] = "source"

    networks: tuple[Network, ...]

    def groups(self, call: RoutingFacts) -> Mapping[str, str] | None:
        """See ``Condition``."""
        try:
            address = ipaddress.ip_address(call.source)
        except ValueError:
            return None
        return _NO_GROUPS if any(address in network for network in self.networks) else None

    def why_not(self, call: RoutingFacts) -> str:
        """See ``Condition``."""
        return f"it came from {call.source or 'no address'}, not {_any_of(self.networks)}"


@dataclass(frozen=True, slots=True)
class HeaderCondition:
    """A SIP header; ``name`` in lower case."""

    key: ClassVar[str] = "headers"

    name: str
    patterns: tuple[Pattern, ...]

    def groups(self, call: RoutingFacts) -> Mapping[str, str] | None:
        """See ``Condition``."""
        value = call.headers.get(self.name)
        return None if value is None else _first(self.patterns, (value.strip(),))

    def why_not(self, call: RoutingFacts) -> str:
        """See ``Condition``."""
        value = call.headers.get(self.name)
        if value is None:
            return f"there is no header {self.name}"
        return f"header {self.name} is {value[:80]!r}, not {_any_of(self.patterns)}"


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """One span of time."""

    weekdays: frozenset[int] | None
    hours: tuple[Hours, ...]
    dates: tuple[Days, ...]
    holidays: tuple[str, ...]
    not_holidays: tuple[str, ...]
    zone: str | None

    def problem(self, at: datetime, calendar: Calendar) -> str | None:
        """Return why the moment is not inside; None when it is."""
        local = calendar.local(at, self.zone)
        clock, day = local.time(), local.date()
        if self.hours:
            span = next((each for each in self.hours if each.contains(clock)), None)
            if span is None:
                return f"it is {clock:%H:%M}, not {_any_of(self.hours)}"
            if span.start >= span.end and clock < span.end:
                day = day_before(day)  # past midnight it is still the evening of the day before
        if self.weekdays is not None and day.weekday() not in self.weekdays:
            return f"it is {DAY_NAMES[day.weekday()]}, not {_any_of(tuple(WEEKDAYS[n] for n in sorted(self.weekdays)))}"
        if self.dates and not any(days.contains(day) for days in self.dates):
            return f"it is {day}, not a date of the list"
        if self.holidays and not any(calendar.is_holiday(name, day) for name in self.holidays):
            return f"{day} is not a holiday in {_any_of(self.holidays)}"
        if found := next((name for name in self.not_holidays if calendar.is_holiday(name, day)), None):
            return f"{day} is a holiday in {found}"
        return None


@dataclass(frozen=True, slots=True)
class TimeCondition:
    """The time; one of the spans must hold."""

    key: ClassVar[str] = "time"

    spans: tuple[TimeSpan, ...]
    calendar: Calendar

    def groups(self, call: RoutingFacts) -> Mapping[str, str] | None:
        """See ``Condition``."""
        return _NO_GROUPS if any(span.problem(call.at, self.calendar) is None for span in self.spans) else None

    def why_not(self, call: RoutingFacts) -> str:
        """See ``Condition``."""
        return "; ".join(dict.fromkeys(filter(None, (span.problem(call.at, self.calendar) for span in self.spans))))


@dataclass(frozen=True, slots=True)
class LoadCondition:
    """The share of the capacity in use."""

    key: ClassVar[str] = "load"

    above: float | None
    below: float | None

    def groups(self, call: RoutingFacts) -> Mapping[str, str] | None:
        """See ``Condition``."""
        low = self.above is None or call.load > self.above
        return _NO_GROUPS if low and (self.below is None or call.load < self.below) else None

    def why_not(self, call: RoutingFacts) -> str:
        """See ``Condition``."""
        if self.above is not None and not call.load > self.above:
            return f"the load is {call.load:.0%}, not above {self.above:.0%}"
        return f"the load is {call.load:.0%}, not below {self.below:.0%}"


@dataclass(frozen=True, slots=True)
class PercentCondition:
    """A share of the calls; ``route`` is mixed in, so that two routes draw independently."""

    key: ClassVar[str] = "percent"

    route: str
    percent: float

    def draw(self, call_id: str) -> float:
        """Return a number from 0 up to 100 that is always the same for a call and a route."""
        digest = hashlib.sha256(f"{self.route}\0{call_id}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:6]) / (1 << 48) * 100

    def groups(self, call: RoutingFacts) -> Mapping[str, str] | None:
        """See ``Condition``."""
        return _NO_GROUPS if self.draw(call.call_id) < self.percent else None

    def why_not(self, call: RoutingFacts) -> str:
        """See ``Condition``."""
        return f"this call drew {self.draw(call.call_id):.1f}, not below {self.percent:g} percent"


def conditions_of(match: Match, route: str, calendar: Calendar) -> tuple[Condition, ...]:
    """Return the conditions of a match in the order they are asked: cheap and telling ones first."""
    found: list[Condition] = []
    if match.to is not None:
        found.append(ToCondition(_parsed(match.to)))
    if match.from_ is not None:
        found.append(FromCondition(_parsed(match.from_)))
    if match.trunk is not None:
        found.append(TrunkCondition(frozenset(name.lower() for name in match.trunk)))
    if match.source is not None:
        found.append(SourceCondition(tuple(ipaddress.ip_network(text) for text in match.source)))
    found += [HeaderCondition(name.lower(), _parsed(texts)) for name, texts in (match.headers or {}).items()]
    if match.time is not None:
        found.append(TimeCondition(tuple(_span(each) for each in match.time), calendar))
    if match.load is not None:
        found.append(_load(match.load))
    if match.percent is not None:
        found.append(PercentCondition(route, match.percent))
    return tuple(found)


def _parsed(texts: tuple[str, ...]) -> tuple[Pattern, ...]:
    return tuple(parse_pattern(text) for text in texts)


def _load(load: LoadMatch) -> LoadCondition:
    return LoadCondition(load.above, load.below)


def _span(time: TimeMatch) -> TimeSpan:
    days = [parse_weekdays(text) for text in time.weekdays or ()]
    return TimeSpan(
        weekdays=frozenset().union(*days) if days else None,
        hours=tuple(parse_hours(text) for text in time.hours or ()),
        dates=tuple(parse_days(text) for text in time.dates or ()),
        holidays=time.holidays or (),
        not_holidays=time.not_holidays or (),
        zone=time.zone,
    )
