"""
Routes made ready for deciding: filed by what they ask for first, so that few of many are looked at.

A route is filed under its called numbers, else its callers, else one of its headers, else under "look at always". Exact
values and what numbers begin with are dictionary look-ups; only regular expressions are tried one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from gateway.dialplan.model.patterns import Pattern, parse_pattern
from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.model.rule import Rule
from gateway.dialplan.routing.call_facts import RoutingFacts
from gateway.dialplan.routing.conditions import Condition, conditions_of


@dataclass(frozen=True, slots=True)
class CompiledRoute:
    """
    A rule made ready.

    Attributes:
        number: its place in the plan, from 0.
        rule: as it was written.
        conditions: in the order they are checked.
        empty_groups: each named group of its regular expressions, with an empty text.
    """

    number: int
    rule: Rule
    conditions: tuple[Condition, ...]
    empty_groups: Mapping[str, str]

    def failing(self, call: RoutingFacts) -> Condition | None:
        """Return the first condition that does not hold; None when all do."""
        return next((each for each in self.conditions if each.groups(call) is None), None)

    def groups(self, call: RoutingFacts) -> dict[str, str] | None:
        """Return the named groups of all conditions, empty where they took no part; None when one does not hold."""
        found: dict[str, str] = {}
        for condition in self.conditions:
            groups = condition.groups(call)
            if groups is None:
                return None
            if groups:
                found.update(groups)
        return {**self.empty_groups, **found} if self.empty_groups else found


@dataclass(slots=True)
class _Drawer:
    """Routes filed under texts of one kind."""

    exact: dict[str, list[int]] = field(default_factory=dict)
    heads: dict[str, list[int]] = field(default_factory=dict)
    lengths: tuple[int, ...] = ()

    def add(self, patterns: Iterable[Pattern], number: int) -> None:
        for pattern in patterns:
            place = self.exact if pattern.kind == "exact" else self.heads
            filed = place.setdefault(pattern.head, [])
            if not filed or filed[-1] != number:
                filed.append(number)

    def close(self) -> None:
        self.lengths = tuple(sorted({len(head) for head in self.heads}))

    def find(self, text: str) -> Iterator[list[int]]:
        if text in self.exact:
            yield self.exact[text]
        for length in self.lengths:
            if length > len(text):
                return
            if (filed := self.heads.get(text[:length])) is not None:
                yield filed


@dataclass(slots=True)
class RouteIndex:
    """
    All routes of a plan.

    Attributes:
        plan: the plan.
        routes: its routes, in order.
    """

    plan: Dialplan
    routes: tuple[CompiledRoute, ...]
    _called: _Drawer = field(default_factory=_Drawer)
    _callers: _Drawer = field(default_factory=_Drawer)
    _headers: dict[str, _Drawer] = field(default_factory=dict)
    _always: list[int] = field(default_factory=list)

    def candidates(
        self, called: Iterable[str], callers: Iterable[str], headers: Iterable[tuple[str, str]]
    ) -> list[int]:
        """Return the numbers of the routes that may fit, in order; none that fits is missing."""
        found = [self._always]
        for text in called:
            found += self._called.find(text)
        for text in callers:
            found += self._callers.find(text)
        for name, text in headers:
            if (drawer := self._headers.get(name)) is not None:
                found += drawer.find(text)
        filled = [numbers for numbers in found if numbers]
        return filled[0] if len(filled) == 1 else sorted({number for numbers in filled for number in numbers})

    def find(self, call: RoutingFacts) -> tuple[CompiledRoute, dict[str, str]] | None:
        """Return the first route whose conditions hold, and the named groups they found."""
        headers = ((name, value.strip()) for name, value in call.headers.items()) if self._headers else ()
        for number in self.candidates(call.called_forms, call.caller_forms, headers):
            route = self.routes[number]
            if (groups := route.groups(call)) is not None:
                return route, groups
        return None

    def file(self, route: CompiledRoute) -> None:
        """Put a route where it is found again."""
        match = route.rule.match
        if match.to is not None:
            self._called.add(map(parse_pattern, match.to), route.number)
        elif match.from_ is not None:
            self._callers.add(map(parse_pattern, match.from_), route.number)
        elif match.headers is not None:
            name, texts = next(iter(match.headers.items()))
            self._headers.setdefault(name.lower(), _Drawer()).add(map(parse_pattern, texts), route.number)
        else:
            self._always.append(route.number)

    def close(self) -> None:
        """No more routes are filed."""
        for drawer in (self._called, self._callers, *self._headers.values()):
            drawer.close()


def compile_routes(plan: Dialplan) -> RouteIndex:
    """Return the routes of a plan made ready."""
    routes = (
        CompiledRoute(
            *(number, rule, conditions_of(rule.match, rule.name, plan.calendar)),
            empty_groups=dict.fromkeys(rule.match.group_names, ""),
        )
        for number, rule in enumerate(plan.routes)
    )
    index = RouteIndex(plan, tuple(routes))
    for route in index.routes:
        index.file(route)
    index.close()
    return index
