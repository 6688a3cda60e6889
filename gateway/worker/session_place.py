"""
The place of one agent among the sessions of its model, counted over all workers that share a Redis.

A place is booked like a call of a limited route (``store/limits.py``), under the route ``model:NAME``: in one atomic
step, renewed by the worker's heartbeat, free when the agent closes or the call of a lost worker is ended, and admitted
while Redis is away. It is taken before the agent's first session is opened and kept until the agent closes, so a
session that is replaced, or lost and found again, counts once. Where the agent's model is full, its
``when_full.model`` is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from gateway.call.ports import SessionStore
from gateway.errors import SessionsFull
from gateway.ids import CallId
from gateway.store.limits import Caps, RouteAdmission, RouteLimits
from gateway.store.model_lives import session_route

Now = Callable[[], float]


class Gate(Protocol):
    """Counts what is limited: ``store/limits.py``."""

    async def admit(self, call_id: CallId, *, route: str, caller: str, day: str, limits: RouteLimits) -> RouteAdmission:
        """Book a place, or say that none is free."""

    def release(self, call_id: CallId, seconds: float) -> None:
        """Free a place."""


class LimitedPlace:
    """
    A ``SessionPlace`` of one agent. Thread: loop.

    Args:
        call_id: our id of the call.
        number: of the agent among those of the call, from 1.
        wanted: models that may speak, the first choice first.
        most: model -> the most sessions at once; one that is not there has no limit.
        gate: counts.
        store: where it is written down that a model was full.
        now: Unix seconds.

    Attributes:
        model: that the agent speaks with, as far as that is known.
    """

    def __init__(
        self,
        call_id: CallId,
        number: int,
        wanted: Sequence[str],
        most: Mapping[str, int],
        gate: Gate,
        store: SessionStore,
        now: Now,
    ) -> None:
        self._call_id = call_id
        self._id = CallId(f"{call_id}:session:{number}")
        self._wanted = tuple(wanted)
        self._most = most
        self._gate = gate
        self._store = store
        self._now = now
        self._is_taken = False
        self.model = self._wanted[0]

    async def take(self) -> str:
        """Have a place and return the model; see ``SessionPlace``."""
        if self._is_taken:
            return self.model
        full: list[str] = []
        for model in self._wanted:
            most = self._most.get(model)
            if most is None or await self._book(model, most):
                self._is_taken, self.model = True, model
                if full:
                    self._note(full[-1], then=model)
                return model
            full.append(model)
        self._note(full[-1], then="none")
        raise SessionsFull(
            " and ".join(f"{model} has {self._most[model]} sessions" for model in full) + ", no more are allowed"
        )

    def give_back(self) -> None:
        """Let another agent have the place."""
        self._gate.release(self._id, 0)

    async def _book(self, model: str, most: int) -> bool:
        day = datetime.fromtimestamp(self._now(), UTC).date().isoformat()
        limits = RouteLimits(Caps(max_calls=most))
        return (
            await self._gate.admit(self._id, route=session_route(model), caller="", day=day, limits=limits)
        ).admitted

    def _note(self, model: str, *, then: str) -> None:
        limit = f"realtime.sessions_max.{model} {self._most[model]}"
        self._store.note(self._call_id, "sessions_full", limit_exceeded=limit, then=then)
