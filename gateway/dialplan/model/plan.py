"""
A whole dialplan: agents (how a voice behaves) and routes (what happens to which call).

Its parts: ``agent.py`` and ``agent_tools.py``, ``route.py``, ``match.py``, ``steps.py``.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Self

from pydantic import Field, PrivateAttr, model_validator

from gateway.dialplan.model.agent import (
    AgentProfile,
)
from gateway.dialplan.model.fields import PlanName, PlanPart, PlanPath
from gateway.dialplan.model.match import DaysList, Zone
from gateway.dialplan.model.rule import Rule
from gateway.dialplan.model.steps import (
    AgentStep,
    MenuStep,
    PlanStep,
    steps_within,
)
from gateway.dialplan.model.times import Calendar, find_zone, parse_days
from gateway.dialplan.routing.index import RouteIndex, compile_routes
from gateway.errors import Mistake


class Dialplan(PlanPart):
    """A whole dialplan."""

    agents: dict[str, AgentProfile] = Field(min_length=1, description="the agents by name")
    routes: tuple[Rule, ...] = Field(min_length=1, description="in order, the first whose match fits decides")
    holidays: dict[PlanName, DaysList] = Field(default_factory=dict, description="name -> list of dates")
    timezone: Zone = Field("UTC", description="IANA time zone of hours, dates and days")

    _version: str = PrivateAttr("")
    _folder: Path = PrivateAttr(Path())
    _remarks: tuple[Mistake, ...] = PrivateAttr(())

    @property
    def version(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of its files; empty when it was not read from files."""
        return self._version

    @property
    def folder(self) -> Path:
        """The folder that relative paths of WAV files start from."""
        return self._folder

    @property
    def remarks(self) -> tuple[Mistake, ...]:
        """What is odd about it, or could not be checked, though it can be used."""
        return self._remarks

    @cached_property
    def calendar(self) -> Calendar:
        """Zone and holidays."""
        zone = find_zone(self.timezone)
        assert zone is not None
        holidays = {name: tuple(map(parse_days, days)) for name, days in self.holidays.items()}
        return Calendar(zone, holidays)

    @cached_property
    def index(self) -> RouteIndex:
        """The routes made ready for deciding."""
        return compile_routes(self.routes, self.calendar)

    def read_from(self, folder: Path, version: str, remarks: tuple[Mistake, ...]) -> Self:
        """Remember where it came from; for the loader."""
        self._folder, self._version, self._remarks = folder, version, remarks
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        twice = [name for name, count in Counter(rule.name for rule in self.routes).items() if count > 1]
        if twice:
            raise ValueError(f"two routes are named {twice[0]!r}; rename one")
        known = ", ".join(map(repr, self.agents))
        for rule in self.routes:
            for _, name in agents_named(rule):
                if name not in self.agents:
                    raise ValueError(f"route {rule.name!r} names the agent {name!r}; there is {known}")
        return self


def agents_named(rule: Rule) -> list[tuple[PlanPath, str]]:
    """Return the agents a route names, each with its path inside the route."""
    found: list[tuple[PlanPath, str]] = []
    for path, step in all_steps(rule):
        if isinstance(step, AgentStep | MenuStep) and step.agent is not None:
            found.append(((*path, "agent"), step.agent))
    return found


def all_steps(rule: Rule) -> list[tuple[PlanPath, PlanStep]]:
    """Return every step of a route, also that of its limits, each with its path inside the route."""
    over = [(("limits", "over", *path), step) for path, step in steps_within(rule.limits.over)]
    return [*steps_within(rule.step), *over]
