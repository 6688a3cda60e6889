"""
A whole dialplan: agents (how a voice behaves) and routes (what happens to which call).

A dialplan is a tree of frozen pydantic models, and nothing else: no files, no places, no router. Its parts:

- ``agent.py``: one voice agent, with its tools;
- ``rule.py``: one route as it is written: ``match``, ``limits``, ``metadata``, and a step;
- ``match.py``: the conditions of a route, checked by ``patterns.py`` (numbers) and ``times.py`` (hours and dates);
- ``steps.py``: what is done with a call, steps inside steps;
- ``templates.py``: texts with places that each call fills in;
- ``fields.py``: the types of single values that all of them share.

``read/loader.py`` makes the tree of YAML files and finds the place of each mistake in it, ``routing/`` decides by it,
``worker/compile.py`` turns a matched route into the steps of one call, ``report/`` explains it to people. Every text of
the model is for them too: ``description`` becomes the reference in docs/dialplan.md and the hints of the JSON Schema.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import Self

from pydantic import Field, model_validator

from gateway.dialplan.model.agent import AgentProfile
from gateway.dialplan.model.fields import PlanName, PlanPart
from gateway.dialplan.model.match import DaysList, Zone
from gateway.dialplan.model.rule import Rule
from gateway.dialplan.model.times import Calendar, find_zone, parse_days


class Dialplan(PlanPart):
    """A whole dialplan."""

    agents: dict[str, AgentProfile] = Field(min_length=1, description="the agents by name")
    routes: tuple[Rule, ...] = Field(min_length=1, description="in order; the first that matches a call decides")
    holidays: dict[PlanName, DaysList] = Field(default_factory=dict, description="name -> list of dates")
    timezone: Zone = Field("UTC", description="IANA time zone of hours, dates and days")

    @cached_property
    def calendar(self) -> Calendar:
        """Zone and holidays."""
        zone = find_zone(self.timezone)
        assert zone is not None
        holidays = {name: tuple(map(parse_days, days)) for name, days in self.holidays.items()}
        return Calendar(zone, holidays)

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        twice = [name for name, count in Counter(rule.name for rule in self.routes).items() if count > 1]
        if twice:
            raise ValueError(f"two routes are named {twice[0]!r}; rename one")
        known = ", ".join(map(repr, self.agents))
        for rule in self.routes:
            for _, step in rule.steps():
                if (name := step.named_agent) is not None and name not in self.agents:
                    raise ValueError(f"route {rule.name!r} names the agent {name!r}; there is {known}")
        return self
