"""Health: of this process, of the whole for a load balancer, and in detail for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from gateway.errors import StoreError
from gateway.web.auth import allowed
from gateway.web.dialplans import PlanView, plan_states
from gateway.web.errors import RETRY_AFTER_S, ApiError, problem_responses
from gateway.web.services import Served
from gateway.web.workers import TrunkView, WorkerView, trunk_view, worker_view

BAD_STATES = frozenset({"failed", "away", "refused"})
"""Of a trunk, an upstream, a dialplan."""

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    """This process answers."""

    status: Literal["ok"] = "ok"


class UpstreamView(BaseModel):
    """How a worker found a model's service."""

    upstream: str
    worker: str
    state: str
    at: float | None = None


class Health(BaseModel):
    """All that is known of the gateway's state; ``degraded`` while something is not as it should be."""

    status: Literal["ok", "degraded"]
    redis: Literal["ok", "refuses_writes"] = "ok"
    workers: list[WorkerView]
    trunks: list[TrunkView]
    upstreams: list[UpstreamView]
    dialplans: list[PlanView]


@router.get("/health/live")
async def live() -> Alive:
    """Answer 200 while this process serves."""
    return Alive()


@router.get("/health/ready", responses=problem_responses(503))
async def ready(services: Served) -> Alive:
    """Answer 200 while Redis answers and at least one worker takes calls; otherwise 503."""
    after = {"Retry-After": str(RETRY_AFTER_S)}
    try:
        workers = await services.reader.workers()
    except StoreError:
        raise ApiError(503, "redis_away", "Redis does not answer", headers=after) from None
    if not any(worker.condition.state == "ready" for worker in workers):
        raise ApiError(503, "no_worker", "no worker takes calls", headers=after)
    return Alive()


@router.get("/v1/health", dependencies=[allowed("read")])
async def health(services: Served) -> Health:
    """Return the state of workers, trunks, upstreams and dialplans."""
    workers = [worker_view(worker) for worker in await services.reader.workers()]
    trunks = [trunk_view(state) for state in await services.reader.trunks()]
    upstreams = [_upstream(state) for state in await services.reader.upstreams()]
    plans = await plan_states(services)
    states = {trunk.state for trunk in trunks} | {each.state for each in upstreams} | {plan.state for plan in plans}
    return Health(
        status="degraded" if BAD_STATES & states or services.store.away else "ok",
        redis="refuses_writes" if services.store.away else "ok",
        workers=workers,
        trunks=trunks,
        upstreams=upstreams,
        dialplans=plans,
    )


def _upstream(state: Mapping[str, str]) -> UpstreamView:
    try:
        at: float | None = float(state["at"])
    except (KeyError, ValueError):
        at = None
    return UpstreamView(**{name: state.get(name, "") for name in ("upstream", "worker", "state")}, at=at)
