"""Can what is limited in money be counted: does every model that may speak under such a limit have its prices?"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.cost.prices import PriceList
from gateway.dialplan.model.agent import AgentProfile
from gateway.dialplan.model.fields import PlanPath
from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.model.rule import Limits
from gateway.dialplan.read.messages import Finding
from gateway.settings.cost import CostSettings


def cap_findings(dialplan: Dialplan, prices: PriceList, cost: CostSettings) -> Iterator[Finding]:
    """
    Yield each limit in money that cannot be counted, because a price of a model under it is not known.

    Args:
        dialplan: agents and routes.
        prices: those shipped, with those of the settings.
        cost: limits over all routes.
    """
    unknown = {name: missing for name, agent in dialplan.agents.items() if (missing := _missing(agent, prices))}
    overall = [f"cost.{name}" for name in ("usd_per_day", "max_usd") if getattr(cost, name) is not None]
    for name, missing in unknown.items():
        if overall:
            yield Finding(("agents", name, "model"), f"{_counts(missing)}, which {overall[0]} needs; {_cure(missing)}")
    for number, rule in enumerate(dialplan.routes):
        agents = {step.named_agent for _, step in rule.steps()}
        for path in _caps(rule.limits):
            for name in sorted(unknown.keys() & agents):
                problem = f"cannot be counted: {_counts(unknown[name])} of the agent {name!r}; {_cure(unknown[name])}"
                yield Finding(("routes", number, "limits", *path), problem)


def _caps(limits: Limits) -> Iterator[PlanPath]:
    if limits.max_usd is not None:
        yield ("max_usd",)
    if limits.usd_per_day is not None:
        yield ("usd_per_day",)
    if limits.per_caller.usd_per_day is not None:
        yield ("per_caller", "usd_per_day")


def _missing(agent: AgentProfile, prices: PriceList) -> dict[str, list[str]]:
    """Return the models of an agent, each with the prices that are missing."""
    found: dict[str, list[str]] = {}
    for talking in agent.talking_models():
        for each in prices.missing(talking, agent.transcription):
            model, _, price = each.rpartition(": ")
            if price not in found.setdefault(model, []):
                found[model].append(price)
    return found


def _counts(missing: dict[str, list[str]]) -> str:
    return " and ".join(f"no price ({', '.join(names)}) is known for {model!r}" for model, names in missing.items())


def _cure(missing: dict[str, list[str]]) -> str:
    model, names = next(iter(missing.items()))
    return f"set [prices.{model!r}] {names[0]} = ... in the settings, or leave the limit out".replace("'", '"')
