"""One route as people write it: conditions, limits, metadata, and a step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field, model_validator

from gateway.dialplan.model.fields import PlanName, PlanPart, PlanPath
from gateway.dialplan.model.match import Match
from gateway.dialplan.model.steps import AnyStep, PlanStep, RejectStep, ShortTemplate

Count = Annotated[int, Field(ge=0, le=1_000_000)]
UsDollars = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Minutes = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class CallerLimits(PlanPart):
    """Limits for each caller's number, on one route."""

    max_calls: Count | None = Field(None, description="calls of one caller at once")
    calls_per_day: Count | None = Field(None, description="calls of one caller in a day (the plan's `timezone`)")
    minutes_per_day: Minutes | None = Field(None, description="minutes of one caller in a day")
    usd_per_day: UsDollars | None = Field(None, description="what calls of one caller may cost in a day, in US dollars")


class Limits(PlanPart):
    """Limits of a route, counted over all workers."""

    max_minutes: Annotated[float, Field(gt=0, le=1440, allow_inf_nan=False)] | None = Field(
        None, description="longest call"
    )
    max_calls: Count | None = Field(None, description="calls at once")
    calls_per_day: Count | None = Field(None, description="calls in a day (the plan's `timezone`)")
    minutes_per_day: Minutes | None = Field(None, description="minutes in a day")
    max_usd: UsDollars | None = Field(None, description="what one call may cost, in US dollars ([costs.md](costs.md))")
    usd_per_day: UsDollars | None = Field(None, description="what the calls of a day may cost, in US dollars")
    per_caller: CallerLimits = Field(CallerLimits(), description="the same for each caller's number")
    over: AnyStep = Field(RejectStep(code=486), description="step for calls beyond a limit")


class Rule(PlanPart):
    """One route: the first that matches a call decides what happens to it."""

    name: str = Field(min_length=1, max_length=64, description="unique name, shown in logs and in the call's record")
    match: Match = Field(Match(), description="conditions; without any, every call matches")
    limits: Limits = Field(Limits(), description="how long, how many calls, how many minutes")
    metadata: Annotated[dict[PlanName, ShortTemplate], Field(max_length=50)] = Field(
        default_factory=dict, description="name -> text (template), for the call's record"
    )
    step: AnyStep = Field(description="what happens; its keys stand beside the route's own")

    @model_validator(mode="before")
    @classmethod
    def _step_stands_beside(cls, value: Any) -> Any:
        """Take the step's keys out of the route's, where people write them."""
        if not isinstance(value, dict) or isinstance(value.get("step"), PlanPart):
            return value
        own = {key: each for key, each in value.items() if key in ROUTE_KEYS}
        step = {key: each for key, each in value.items() if key not in ROUTE_KEYS}
        return {**own, "step": step}

    def steps(self) -> Iterator[tuple[PlanPath, PlanStep]]:
        """Yield every step of the route, also those of its limits, each with its path inside the route."""
        yield from self.step.within()
        yield from self.limits.over.within(("limits", "over"))


ROUTE_KEYS = frozenset({"name", "match", "limits", "metadata"})
"""Keys of a route that are not its step's."""
