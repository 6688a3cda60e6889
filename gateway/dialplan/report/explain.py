"""Why a call goes where it goes: route by route, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from gateway.dialplan.model.agent import AgentProfile
from gateway.dialplan.model.match import Match
from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.model.rule import Limits
from gateway.dialplan.model.steps import (
    AgentStep,
    AnnounceStep,
    DialStep,
    HuntStep,
    MenuStep,
    PlanStep,
    RedirectStep,
    RejectStep,
    steps_within,
)
from gateway.dialplan.model.templates import TemplateFailed
from gateway.dialplan.routing.call_facts import RoutingFacts
from gateway.dialplan.routing.route import Rejection, Route, find_route

MATCHES = "matches"
NOT_ASKED = "not asked: an earlier route took the call"


class Considered(NamedTuple):
    """One route and this call: ``why`` is the first condition that does not hold."""

    name: str
    matched: bool
    why: str


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


def explain_call(plan: Dialplan, call: RoutingFacts) -> Explanation:
    """Return why a call goes where it goes."""
    result = find_route(plan, call)
    considered = tuple(_considered(plan, call, result))
    if isinstance(result, Rejection):
        return Explanation(considered, result)
    problems: list[str] = []
    agents: dict[str, AgentProfile] = {}
    metadata: tuple[tuple[str, str], ...] = ()
    try:
        metadata = tuple(result.metadata.items())
        for _, step in steps_within(result.step):
            if isinstance(step, AgentStep):
                agents.setdefault(step.agent, result.profile_for(step))
            elif isinstance(step, MenuStep) and step.agent is not None:
                agents.setdefault(step.agent, result.agent(step.agent))
    except TemplateFailed as error:
        problems.append(str(error))
    try:
        lines = (*_words(result, result.step), *_limits_words(result.limits))
    except TemplateFailed as error:
        lines = (result.step.action,)
        problems.append(str(error))
    return Explanation(considered, result, lines, tuple(agents.items()), metadata, tuple(problems))


def _considered(plan: Dialplan, call: RoutingFacts, result: Route | Rejection) -> Iterator[Considered]:
    chosen = result.name if isinstance(result, Route) else None
    taken = False
    for route in plan.index.routes:
        name = route.rule.name
        if taken:
            yield Considered(name, False, NOT_ASKED)
        elif name == chosen:
            taken = True
            yield Considered(name, True, MATCHES)
        else:
            failing = route.failing(call)
            yield Considered(name, False, failing.why_not(call) if failing is not None else MATCHES)


def _words(route: Route, step: PlanStep, indent: str = "") -> Iterator[str]:
    """Yield a step in words."""
    inner = indent + "  "
    yield indent + _headline(route, step)
    if isinstance(step, AgentStep) and step.on_failure is not None:
        yield from _named(route, "if the agent fails:", step.on_failure, inner)
    elif isinstance(step, DialStep | AnnounceStep) and step.then is not None:
        yield from _named(route, "if that fails:" if isinstance(step, DialStep) else "then:", step.then, inner)
    elif isinstance(step, HuntStep):
        for number, each in enumerate(step.steps, 1):
            yield from _named(route, f"{number}.", each, inner)
    elif isinstance(step, MenuStep):
        for key, each in step.keys.items():
            yield from _named(route, f"key {key}:", each, inner)
        if step.otherwise is not None:
            yield from _named(route, "otherwise:", step.otherwise, inner)


def _named(route: Route, name: str, step: PlanStep, indent: str) -> Iterator[str]:
    first, *rest = _words(route, step, indent)
    yield f"{indent}{name} {first.strip()}"
    yield from rest


def _headline(route: Route, step: PlanStep) -> str:
    if isinstance(step, AgentStep):
        return f"agent {step.agent}" + (f", answers after {step.answer_after_s:g} s" if step.answer_after_s else "")
    if isinstance(step, RejectStep):
        first = f"play {step.announcement} as early media, then " if step.announcement else ""
        return f"{first}reject with {step.code} {route.reason(step) or ''}".rstrip()
    if isinstance(step, RedirectStep):
        return f"redirect with 302 to {', '.join(route.contacts(step))}"
    if isinstance(step, DialStep):
        dialled = route.dial_target(step)
        through = f" through the trunk {dialled.trunk}" if dialled.trunk else ""
        through += f" as {dialled.caller_id}" if dialled.caller_id else ""
        headers = "".join(f", {name}: {value}" for name, value in dialled.headers.items())
        return f"dial {dialled.target}{through}, {step.ring_limit_s:g} s{headers}"
    if isinstance(step, MenuStep):
        prompt = step.prompt or f"{step.agent} says {route.text(step.say or '')!r}"
        return f"menu ({prompt}), {step.timeout_s:g} s for a key, {step.retries} more times"
    if isinstance(step, AnnounceStep):
        return f"{'answer and play' if step.answer else 'play as early media'} {', '.join(step.files)}"
    return "hunt, the next when one fails"


def _limits_words(limits: Limits) -> Iterator[str]:
    given = {name: value for name, value in limits if isinstance(value, int | float)}
    each = {f"{name} per caller": value for name, value in limits.per_caller if value is not None}
    words = [f"{name.replace('_', ' ')} {value:g}" for name, value in {**given, **each}.items()]
    if words:
        yield f"limits: {', '.join(words)}; beyond: {limits.over.action}" + (
            f" {limits.over.code}" if isinstance(limits.over, RejectStep) else ""
        )


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


def step_in_words(step: PlanStep) -> str:
    """Return a step without those inside it: ``dial sip:desk@pbx.example.com``."""
    if isinstance(step, AgentStep):
        return f"agent {step.agent}"
    if isinstance(step, RejectStep):
        return f"reject {step.code}"
    if isinstance(step, DialStep):
        return f"dial {step.to}"
    if isinstance(step, MenuStep):
        return f"menu with {len(step.keys)} keys"
    return f"announce {', '.join(step.files)}" if isinstance(step, AnnounceStep) else step.action
