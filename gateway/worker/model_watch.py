"""
Looks up once a day until when the models of the dialplan are offered; one worker of all that share a Redis does it.

What it finds goes to Redis (``store/model_lives.py``), for the HTTP API, the metrics and the page. A model that goes
within ``WARN_DAYS`` is in the log each time. A service that has no such list, or cannot be reached, harms nothing: the
dates that ship with the gateway are shown instead, and it is asked again in an hour.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog

from gateway.cost.model_life import Listed, ModelLife, lives_of, models_of
from gateway.dialplan.model.plan import Dialplan
from gateway.errors import AgentError, StoreError
from gateway.store.model_lives import LOOK_UP_EVERY_S, TRY_AGAIN_S, Runner, take_look_up, write_lives

LOOK_EVERY_S = 3600.0
"""How often a worker asks whether a look-up is due."""

_log = structlog.get_logger(__name__)


class ModelWatch:
    """
    Keeps in Redis until when the models are offered. Thread: loop.

    Args:
        store: open.
        prefix: first part of every key.
        worker: name of this worker.
        plan: gives the dialplan in force.
        ask: asks the service for its models; raises ``AgentError``.
    """

    def __init__(
        self,
        store: Runner,
        prefix: str,
        worker: str,
        plan: Callable[[], Dialplan],
        ask: Callable[[], Awaitable[Listed]],
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._worker = worker
        self._plan = plan
        self._ask = ask

    async def run(self) -> None:
        """Look up whenever it is due and nobody else does, until cancelled."""
        while True:
            try:
                await self.look()
            except StoreError as error:
                _log.debug("models_look_up_put_off", detail=str(error))
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> list[ModelLife]:
        """
        Look up if that is due; return what was found, nothing where it is not.

        Raises:
            StoreError: Redis does not answer.
        """
        models = models_of(self._plan())
        if not await take_look_up(self._store, self._prefix, models, self._worker):
            return []
        listed = None
        try:
            listed = await self._ask()
        except AgentError as error:
            _log.warning("models_not_looked_up", detail=str(error), then=f"asked again in {TRY_AGAIN_S / 3600:g} h")
        lives = lives_of(models, listed, time.time())
        again_s = TRY_AGAIN_S if listed is None else LOOK_UP_EVERY_S
        await write_lives(self._store, self._prefix, lives, again_s=again_s)
        today = datetime.now(UTC).date()
        for life in lives:
            if life.retires(today):
                told = {"model": life.model, "shutdown_date": str(life.shutdown_date), "agents": list(life.agents)}
                _log.warning("model_retires", **told, days_left=life.days_left(today))
        return lives
