"""
Until when models are offered: what the service says of those that a dialplan names, and what follows.

``GET /v1/models`` lists the models, each with its ``shutdown_date`` (``YYYY-MM-DD`` or null). Dates announced before a
release of the gateway ship with it (``prices.toml``) and are shown where the service could not be asked, or says
nothing of a model. A model that goes within ``WARN_DAYS`` is warned of.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any, Literal

from gateway.cost.prices import shipped_table
from gateway.dialplan.model.plan import Dialplan

WARN_DAYS = 90
MOST_MODELS = 2000
LONGEST_NAME = 200

Listed = Mapping[str, date | None]
"""What the service lists: model -> when it goes; None: no date is announced."""


@dataclass(frozen=True, slots=True)
class ModelLife:
    """
    Until when a model is offered.

    Attributes:
        model: its name.
        shutdown_date: when it goes; None: no date is announced.
        source: who says so: the service; the gateway's own table; ``unknown``: nobody.
        agents: who uses it.
        looked_up_at: when the service was asked, Unix seconds; 0 when it could not be.
    """

    model: str
    shutdown_date: date | None = None
    source: Literal["service", "table", "unknown"] = "unknown"
    agents: tuple[str, ...] = ()
    looked_up_at: float = 0.0

    def days_left(self, today: date) -> int | None:
        """Return the days until it goes, 0 or less when it has gone; None when no date is announced."""
        return None if self.shutdown_date is None else (self.shutdown_date - today).days

    def retires(self, today: date) -> bool:
        """Return whether it goes so soon that another should be chosen."""
        left = self.days_left(today)
        return left is not None and left <= WARN_DAYS

    def words(self, today: date) -> str:
        """Return until when it is offered, in words for people."""
        left = self.days_left(today)
        if left is None:
            return "no end announced" if self.source == "service" else "not known"
        by = "" if self.source == "service" else ", by the table that ships with the gateway"
        when = f"in {left} days" if left > 0 else "today" if left == 0 else f"{-left} days ago"
        return f"{self.shutdown_date} ({when}{by})"

    def to_json(self) -> str:
        """Return its form in Redis and in the HTTP API."""
        return json.dumps(self.fields())

    def fields(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return {
            "model": self.model,
            "shutdown_date": None if self.shutdown_date is None else str(self.shutdown_date),
            "source": self.source,
            "agents": list(self.agents),
            "looked_up_at": self.looked_up_at,
        }

    @classmethod
    def from_json(cls, text: str) -> ModelLife:
        """
        Read that form.

        Raises:
            ValueError: it is not of that form.
        """
        told = json.loads(text)
        if not isinstance(told, dict) or not isinstance(told.get("model"), str):
            raise ValueError("not the life of a model")
        day, source = told.get("shutdown_date"), told.get("source")
        return cls(
            told["model"],
            date.fromisoformat(day) if isinstance(day, str) else None,
            source if source in ("service", "table") else "unknown",
            tuple(str(name) for name in told.get("agents") or ()),
            float(told.get("looked_up_at") or 0),
        )


def models_of(plan: Dialplan) -> dict[str, tuple[str, ...]]:
    """Return every model that a plan names -> the agents that use it."""
    users: dict[str, list[str]] = {}
    for name, agent in plan.agents.items():
        for model in agent.models():
            users.setdefault(model, []).append(name)
    return {model: tuple(names) for model, names in users.items()}


def read_listed(body: bytes) -> Listed:
    """
    Read the service's list of models; entries that make no sense are left out.

    Raises:
        ValueError: it is no list of models.
    """
    try:
        told = json.loads(body)
        entries = told["data"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("the answer is no list of models") from None
    if not isinstance(entries, list):
        raise ValueError("the answer is no list of models")
    found: dict[str, date | None] = {}
    for entry in entries[:MOST_MODELS]:
        if isinstance(entry, dict) and isinstance(entry.get("id"), str) and len(entry["id"]) <= LONGEST_NAME:
            found[entry["id"]] = _day(entry.get("shutdown_date"))
    return found


def lives_of(models: Mapping[str, Iterable[str]], listed: Listed | None, now: float) -> list[ModelLife]:
    """
    Return until when models are offered.

    Args:
        models: name -> the agents that use it.
        listed: what the service says; None when it could not be asked.
        now: Unix seconds.
    """
    known, lives = shipped_shutdown_dates(), []
    for model, agents in models.items():
        day = (listed or {}).get(model)
        source: Literal["service", "table", "unknown"] = "service" if model in (listed or {}) else "unknown"
        if day is None and model in known:  # a date that was announced does not go away
            day, source = known[model], "table"
        lives.append(ModelLife(model, day, source, tuple(agents), 0.0 if listed is None else now))
    return lives


@cache
def shipped_shutdown_dates() -> Mapping[str, date]:
    """Return the dates that ship with the gateway: model -> when it goes."""
    return {str(model): day for model, day in shipped_table()["shutdown_dates"].items()}


def _day(told: object) -> date | None:
    try:
        return date.fromisoformat(told[:10]) if isinstance(told, str) else None
    except ValueError:
        return None
