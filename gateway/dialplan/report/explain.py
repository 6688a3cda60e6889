"""
Why a call goes where it goes: route by route, and the steps that follow.

How this folder works. It tells people what a plan says and never decides anything: ``explain`` asks the same index
that takes real calls and shows each route that was considered with the condition that failed; ``cases`` compares the
outcome with what a file of cases expects; ``schema`` is the JSON Schema for editors, made from the models. How a step
reads in a table, the step says itself (``PlanStep.headline`` and ``summary``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from gateway.dialplan.model.agent import AgentProfile
from gateway.dialplan.model.match import Match
from gateway.dialplan.model.rule import Limits
from gateway.dialplan.model.steps import PlanStep
from gateway.dialplan.model.templates import TemplateFailed
from gateway.dialplan.routing.call_facts import RoutingFacts
from gateway.dialplan.routing.index import RouteIndex
from gateway.dialplan.routing.route import Rejection, Route, find_route

MATCHES = "matches"
NOT_ASKED = "not checked: an earlier route took the call"


class Considered(NamedTuple):
    """One route and this call: ``why`` says the first condition that does not hold, ``key`` is its key in ``match``."""

    name: str
    matched: bool
    why: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """
    What a dialplan does with a call.

    Attributes:
        considered: every route, in order.
        result: what was decided.
        lines: the chosen step in words, a line each, inner ones indented.
        agents: the agents that may speak in this call, filled in, by name; the first answers first.
        metadata: for the call's record.
        problems: texts that cannot be filled in for this call.
    """

    considered: tuple[Considered, ...]
    result: Route | Rejection
    lines: tuple[str, ...] = ()
    agents: tuple[tuple[str, AgentProfile], ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()


def explain_call(index: RouteIndex, call: RoutingFacts) -> Explanation:
    """Return why a call goes where it goes."""
    result = find_route(index, call)
    considered = tuple(_considered(index, call, result))
    if isinstance(result, Rejection):
        return Explanation(considered, result)
    problems: list[str] = []
    agents: dict[str, AgentProfile] = {}
    metadata: tuple[tuple[str, str], ...] = ()
    try:
        metadata = tuple(result.metadata.items())
        for _, step in result.step.within():
            if (profile := step.profile(result)) is not None and step.named_agent is not None:
                agents.setdefault(step.named_agent, profile)
    except TemplateFailed as error:
        problems.append(str(error))
    try:
        lines = (*_words(result, result.step), *_limits_words(result.limits))
    except TemplateFailed as error:
        lines = (result.step.action,)
        problems.append(str(error))
    return Explanation(considered, result, lines, tuple(agents.items()), metadata, tuple(problems))


def as_json(version: str, call: RoutingFacts, found: Explanation) -> dict[str, Any]:
    """
    Return an explanation as JSON.

    Args:
        version: of the plan.
        call: what was asked.
        found: the answer.
    """
    result = found.result
    decided: dict[str, Any]
    if isinstance(result, Rejection):
        decided = {"route": None, "action": "reject", "code": result.sip_code, "steps": [result.detail], "groups": {}}
    else:
        decided = {"route": result.name, "action": result.step.action, "code": result.step.refusal_code}
        decided |= {"steps": list(found.lines), "groups": dict(result.groups)}
    return {
        "version": version,
        "at": call.at.isoformat(),
        "routes": [each._asdict() for each in found.considered],
        **decided,
        "metadata": dict(found.metadata),
        "agents": [
            {"name": name, "instructions": profile.instructions, "greeting": profile.greeting}
            for name, profile in found.agents
        ],
        "problems": list(found.problems),
    }


def _considered(index: RouteIndex, call: RoutingFacts, result: Route | Rejection) -> Iterator[Considered]:
    chosen = result.name if isinstance(result, Route) else None
    taken = False
    for route in index.routes:
        name = route.rule.name
        if taken:
            yield Considered(name, False, NOT_ASKED)
        elif name == chosen:
            taken = True
            yield Considered(name, True, MATCHES)
        else:
            failing = route.failing(call)
            if failing is None:
                yield Considered(name, False, MATCHES)
            else:
                yield Considered(name, False, failing.why_not(call), failing.key)


def _words(route: Route, step: PlanStep, indent: str = "") -> Iterator[str]:
    """Yield a step in words, a line each, inner ones indented."""
    yield indent + step.headline(route)
    for branch in step.inner():
        first, *rest = _words(route, branch.step, indent + "  ")
        yield f"{indent}  {branch.when} {first.strip()}"
        yield from rest


def _limits_words(limits: Limits) -> Iterator[str]:
    given = {name: value for name, value in limits if isinstance(value, int | float)}
    each = {f"{name} per caller": value for name, value in limits.per_caller if value is not None}
    words = [f"{name.replace('_', ' ')} {value:g}" for name, value in {**given, **each}.items()]
    if words:
        yield f"limits: {', '.join(words)}; beyond: {limits.over.summary()}"


def conditions_in_words(match: Match) -> str:
    """Return what a route asks for: ``to +49*; time weekdays mon-fri``."""
    given = match.model_dump(by_alias=True, exclude_none=True)
    return "; ".join(f"{key} {_value_words(value)}" for key, value in given.items()) or "any call"


def _value_words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value_words(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        shown = " or ".join(_value_words(each) for each in value[:6])
        return f"{shown} or {len(value) - 6} more" if len(value) > 6 else shown
    return f"{value:g}" if isinstance(value, float) else str(value)
