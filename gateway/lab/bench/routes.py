"""What finding a route costs in a plan of ten thousand, and what loading that plan costs. Needs no call."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.dialplan.read.loader import load_dialplan
from gateway.dialplan.routing.call_facts import RoutingFacts, facts_of_call
from gateway.dialplan.routing.index import RouteIndex
from gateway.dialplan.routing.route import find_route

ROUTES = 10_000
_AT = datetime(2026, 1, 5, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RoutesResult:
    """
    Microseconds for a decision, the mean of many, and seconds to load the plan.

    Attributes:
        routes: routes of the plan.
        load_s: reading, checking and compiling it.
        exact_us: an exact number, filed in the middle of the plan.
        pattern_us: a digit pattern or prefix among many.
        default_us: no route but the last one fits.
        regex_us: a thousand regular expressions that do not fit, tried one by one.
    """

    routes: int
    load_s: float
    exact_us: float
    pattern_us: float
    default_us: float
    regex_us: float

    def to_json(self) -> dict[str, float | int]:
        """Return the figures by the names that other programs read."""
        return {
            "dialplan_routes": self.routes,
            "dialplan_load_s": round(self.load_s, 2),
            "route_exact_us": round(self.exact_us, 1),
            "route_pattern_us": round(self.pattern_us, 1),
            "route_default_us": round(self.default_us, 1),
            "route_1000_regexes_us": round(self.regex_us, 1),
        }

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Yield the table for people."""
        yield "exact number", f"{self.exact_us:.1f}", "us"
        yield "pattern or prefix", f"{self.pattern_us:.1f}", "us"
        yield "no number fits", f"{self.default_us:.1f}", "us"
        yield "1000 regular expressions tried in vain", f"{self.regex_us:.0f}", "us"
        yield "loading the plan", f"{self.load_s:.2f}", "s"


def measure_routes(*, routes: int = ROUTES, rounds: int = 500) -> RoutesResult:
    """Write a plan of this many routes, load it, and route calls of several kinds ``rounds`` times each."""
    with tempfile.TemporaryDirectory(prefix="gateway-routes-") as folder:
        path = Path(folder) / "plan.yaml"
        path.write_text("\n".join(_plan(routes)), encoding="utf-8")
        began = time.perf_counter()
        index = load_dialplan(path).index
        load_s = time.perf_counter() - began
        path.write_text("\n".join(_regexes(1000)), encoding="utf-8")
        regexes = load_dialplan(path).index
    half = routes // 8 * 4  # the number of a pattern; the next one is exact
    return RoutesResult(
        routes=routes,
        load_s=load_s,
        exact_us=_cost_us(index, f"+4930{half + 1:06d}", f"exact-{half + 1}", rounds),
        pattern_us=_cost_us(index, f"+44{half:06d}7", f"pattern-{half}", rounds),
        default_us=_cost_us(index, "+15550100", "rest", rounds),
        regex_us=_cost_us(regexes, "+15550100", "rest", max(1, rounds // 20)),
    )


def _plan(routes: int) -> Iterator[str]:
    """Yield a plan: three in four routes name a number and hours, the fourth a pattern or a prefix."""
    yield "agents: {desk: {instructions: Be brief.}}\nroutes:"
    for number in range(routes - 1):
        if number % 4:
            match = f'to: "+4930{number:06d}", time: {{hours: 08:00-20:00}}'
        else:
            match = f'to: ["_+44{number:06d}X", "+33{number:06d}*"]'
        yield f"  - {{name: {'exact' if number % 4 else 'pattern'}-{number}, match: {{{match}}}, agent: desk}}"
    yield "  - {name: rest, agent: desk}"


def _regexes(routes: int) -> Iterator[str]:
    yield "agents: {desk: {instructions: Be brief.}}\nroutes:"
    for number in range(routes):
        yield f"  - {{name: r{number}, match: {{to: '/^\\+49(?P<area>\\d+){number:04d}$/'}}, agent: desk}}"
    yield "  - {name: rest, agent: desk}"


def _call(to: str) -> RoutingFacts:
    return facts_of_call(to=to, caller="+4930999", at=_AT, headers={"X-Campaign": "spring"}, call_id="bench")


def _cost_us(index: RouteIndex, to: str, expected: str, rounds: int) -> float:
    call = _call(to)
    found = find_route(index, call)
    if getattr(found, "name", None) != expected:
        raise AssertionError(f"{to} went to {found}, not to {expected}")
    began = time.perf_counter()
    for _ in range(rounds):
        find_route(index, call)
    return (time.perf_counter() - began) / rounds * 1e6
