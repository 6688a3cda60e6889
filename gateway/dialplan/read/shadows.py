"""Routes that no call reaches: an earlier one takes everything they would."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from gateway.dialplan.model.match import LoadMatch, Match
from gateway.dialplan.model.patterns import Pattern, parse_pattern
from gateway.dialplan.routing.index import CompiledRoute, RouteIndex

MAX_COMPARISONS = 1_000_000
"""Pairs of routes that are compared; in a very large plan the rest is not looked at."""


def shadowed(index: RouteIndex) -> Iterator[tuple[int, int]]:
    """
    Yield the numbers of routes that are never reached, each with that of the first route that takes all their calls.

    Sure of what it says, but does not see everything: several earlier routes that only together take all, regular
    expressions that are written differently and mean the same.
    """
    left = MAX_COMPARISONS
    for route in index.routes:
        for number in _candidates(index, route):
            left -= 1
            if number >= route.number or left < 0:
                break
            if covers(index.routes[number].rule.match, route.rule.match):
                yield route.number, number
                break


def _candidates(index: RouteIndex, route: CompiledRoute) -> list[int]:
    """Return the routes that may take what this one takes, in order: filed under the beginning of its own values."""
    match = route.rule.match
    called = [parse_pattern(match.to[0]).head] if match.to else []
    callers = [parse_pattern(match.from_[0]).head] if match.from_ else []
    headers = [(name.lower(), parse_pattern(texts[0]).head) for name, texts in (match.headers or {}).items()]
    return index.candidates(called, callers, headers)


def covers(wide: Match, narrow: Match) -> bool:
    """Return whether every call that fulfils ``narrow`` fulfils ``wide`` too; False where that is not known."""
    return (
        _texts_cover(wide.to, narrow.to)
        and _texts_cover(wide.from_, narrow.from_)
        and _names_cover(wide.trunk, narrow.trunk)
        and _networks_cover(wide.source, narrow.source)
        and _headers_cover(wide, narrow)
        and (wide.time is None or wide.time == narrow.time)
        and _load_covers(wide.load, narrow.load)
        and (wide.percent is None or wide.percent == 100)
    )


def _texts_cover(wide: tuple[str, ...] | None, narrow: tuple[str, ...] | None) -> bool:
    if wide is None or narrow is None:
        return wide is None
    patterns: list[Pattern] = [parse_pattern(text) for text in wide]
    return all(any(each.covers(parse_pattern(text)) for each in patterns) for text in narrow)


def _names_cover(wide: tuple[str, ...] | None, narrow: tuple[str, ...] | None) -> bool:
    if wide is None or narrow is None:
        return wide is None
    return {name.lower() for name in narrow} <= {name.lower() for name in wide}


def _networks_cover(wide: tuple[str, ...] | None, narrow: tuple[str, ...] | None) -> bool:
    if wide is None or narrow is None:
        return wide is None
    ours = [ipaddress.ip_network(text) for text in wide]
    theirs = [ipaddress.ip_network(text) for text in narrow]
    return all(any(a.version == b.version and b.subnet_of(a) for a in ours) for b in theirs)  # type: ignore[arg-type]


def _headers_cover(wide: Match, narrow: Match) -> bool:
    theirs = {name.lower(): texts for name, texts in (narrow.headers or {}).items()}
    return all(
        name.lower() in theirs and _texts_cover(texts, theirs[name.lower()])
        for name, texts in (wide.headers or {}).items()
    )


def _load_covers(wide: LoadMatch | None, narrow: LoadMatch | None) -> bool:
    if wide is None or narrow is None:
        return wide is None
    low = wide.above is None or (narrow.above is not None and narrow.above >= wide.above)
    return low and (wide.below is None or (narrow.below is not None and narrow.below <= wide.below))
