"""``GET /dialplan`` reports the state of each process's plan, ``POST /dialplan/reload`` makes all of them reload it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping

import structlog
from aiohttp import web

from gateway.errors import StoreError
from gateway.rate_limit import TokenBuckets
from gateway.web.auth import Clients
from gateway.web.errors import NO_STORE, ApiError, check_rate
from gateway.web.secrets import Audit

RELOADS_PER_MINUTE = 30
"""Per client; a reload costs every worker the time to load the plan."""
RETRY_AFTER_S = 5
NUMBERS = {"loaded_at": float, "at": float, "agents": int, "routes": int, "failures": int, "mistake_count": int}
PUBLIC = ("worker", "state", "version", "loaded_at", "failures")
"""What anyone who reaches the port may know of a plan; its mistakes quote it, so they are not among these."""

ReadPlans = Callable[[], Awaitable[list[dict[str, str]]]]
AskForReload = Callable[[], Awaitable[None]]

_log = structlog.get_logger(__name__)


class DialplansEndpoint:
    """
    Shows dialplans and has them reloaded, for trusted clients. Thread: loop.

    Args:
        clients: who may ask.
        plans: reads the state of every process's plan. Raises ``StoreError``.
        reload: asks every process to load its plan; None if no Redis is configured.
        audit: takes the fields of each granted request's entry; None leaves the log as the only place.
        buckets: how often each client may ask for a reload.
    """

    def __init__(
        self,
        *,
        clients: Clients,
        plans: ReadPlans,
        reload: AskForReload | None,
        audit: Audit | None = None,
        buckets: TokenBuckets | None = None,
    ) -> None:
        self._clients = clients
        self._plans = plans
        self._reload = reload
        self._audit = audit
        self._buckets = TokenBuckets.per_minute(RELOADS_PER_MINUTE) if buckets is None else buckets

    async def get(self, request: web.Request) -> web.Response:
        """Answer 200 with the plan of each process."""
        try:
            self._clients.name_of(request)
            return web.json_response({"dialplans": await self.states()}, headers=NO_STORE)
        except StoreError:
            return _away().response()
        except ApiError as error:
            return error.response()

    async def post(self, request: web.Request) -> web.Response:
        """Answer 202 when every process was asked; ``get`` has the result a few seconds later."""
        try:
            client = self._clients.name_of(request)
            check_rate(client, self._buckets)
            if self._reload is None:
                raise ApiError(503, "no_redis", "without Redis no worker can be reached; send them SIGHUP")
            await self._reload()
        except StoreError:
            return _away().response()
        except ApiError as error:
            return error.response()
        _log.info("dialplan_reload_asked", client=client, source=request.remote or "")
        if self._audit is not None:
            self._audit({"client": client, "source": request.remote or "", "result": "reload_asked"})
        return web.json_response({"status": "asked"}, status=202, headers=NO_STORE)

    async def states(self) -> list[dict[str, object]]:
        """Return the state of each process's plan. Raises ``StoreError``."""
        return [_typed(state) for state in await self._plans()]


def _typed(state: Mapping[str, str]) -> dict[str, object]:
    """Return a state as JSON; foreign entries in Redis are ignored."""
    told: dict[str, object] = {name: value for name, value in state.items() if name not in NUMBERS}
    for name, kind in NUMBERS.items():
        try:
            told[name] = kind(state[name])
        except (KeyError, ValueError):
            told[name] = None
    try:
        mistakes = json.loads(state.get("mistakes", "[]"))
    except ValueError:
        mistakes = []
    told["mistakes"] = [str(mistake) for mistake in mistakes] if isinstance(mistakes, list) else []
    return told


def _away() -> ApiError:
    after = {"Retry-After": str(RETRY_AFTER_S)}
    return ApiError(503, "redis_away", "Redis does not answer; no process was asked", headers=after)
