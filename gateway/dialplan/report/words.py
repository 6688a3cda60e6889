"""Conditions and steps in a few words, for tables."""

from __future__ import annotations

from gateway.dialplan.model.match import Match
from gateway.dialplan.model.steps import AgentStep, AnnounceStep, AnyStep, DialStep, MenuStep, RejectStep


def conditions_in_words(match: Match) -> str:
    """Return what a route asks for: ``to +49*; time weekdays mon-fri``."""
    given = match.model_dump(by_alias=True, exclude_none=True)
    return "; ".join(f"{key} {_words(value)}" for key, value in given.items()) or "any call"


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        shown = " or ".join(_words(each) for each in value[:6])
        return f"{shown} or {len(value) - 6} more" if len(value) > 6 else shown
    return f"{value:g}" if isinstance(value, float) else str(value)


def step_in_words(step: AnyStep) -> str:
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
