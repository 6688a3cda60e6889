"""Workers and trunks: which there are, and how they are."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from gateway.condition import State
from gateway.store.registry import RegisteredWorker
from gateway.web.auth import allowed
from gateway.web.services import Served

READ = [allowed("read")]
_NUMBERS = {"code": int, "expires_s": float, "retry_s": float, "at": float}

NamePath = Annotated[str, Path(pattern=r"^[0-9A-Za-z_.@:-]{1,128}$")]

router = APIRouter(tags=["workers and trunks"])


class WorkerView(BaseModel):
    """A worker process, on whichever machine."""

    worker: str
    host: str = Field(description="name of its machine")
    state: State
    live_calls: int
    capacity: int
    sip: str = Field(description="address the edge sends calls to; empty without an edge")
    version: str
    heartbeat_at: float = Field(description="when it last wrote, Unix seconds of its clock")


class Workers(BaseModel):
    """All workers, by name."""

    workers: list[WorkerView]


class TrunkView(BaseModel):
    """The state of a trunk as one worker has it."""

    model_config = ConfigDict(extra="allow")

    trunk: str
    worker: str
    state: str
    code: int | None = Field(None, description="SIP status of the registrar's last answer")
    reason: str | None = None
    expires_s: float | None = None
    retry_s: float | None = None
    at: float | None = None


class Trunks(BaseModel):
    """The trunks of all workers, by trunk and worker."""

    trunks: list[TrunkView]


@router.get("/v1/workers", dependencies=READ)
async def workers(services: Served) -> Workers:
    """Return the workers on all machines."""
    return Workers(workers=[worker_view(worker) for worker in await services.reader.workers()])


def worker_view(worker: RegisteredWorker) -> WorkerView:
    """Return a worker as JSON."""
    condition = worker.condition
    return WorkerView(
        worker=condition.worker,
        host=worker.host,
        state=condition.state,
        live_calls=condition.live_calls,
        capacity=condition.capacity,
        sip=condition.sip,
        version=worker.version,
        heartbeat_at=worker.heartbeat_at,
    )


@router.get("/v1/trunks", dependencies=READ)
async def trunks(services: Served) -> Trunks:
    """Return the state of every worker's trunks."""
    return Trunks(trunks=[trunk_view(state) for state in await services.reader.trunks()])


def trunk_view(state: dict[str, str]) -> TrunkView:
    """Return a state as JSON; numbers that are none are left out."""
    numbers = {}
    for name, kind in _NUMBERS.items():
        try:
            numbers[name] = kind(state[name])
        except (KeyError, ValueError):
            numbers[name] = None
    needed = {name: state.get(name, "") for name in ("trunk", "worker", "state")}
    return TrunkView(**{**state, **needed, **numbers})
