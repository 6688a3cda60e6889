"""The models that the dialplan names: until when each is offered, and how many sessions it has."""

from __future__ import annotations

from datetime import date
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from gateway.web.auth import allowed
from gateway.web.services import Served

router = APIRouter(tags=["workers and trunks"])


class ModelView(BaseModel):
    """A model that agents of the dialplan use."""

    model: str
    agents: list[str] = Field(description="who uses it")
    shutdown_date: date | None = Field(description="when the service shuts it down; null: no date is announced")
    source: Literal["service", "table", "unknown"] = Field(
        description="who says so: the service, the table that ships with the gateway, or nobody"
    )
    looked_up_at: float = Field(description="when the service was asked, Unix seconds; 0: it could not be")
    sessions: int | None = Field(description="sessions it has now, over all workers; null: they are not counted")
    sessions_max: int | None = Field(description="sessions it may have at once; null: any number")


class Models(BaseModel):
    """All of them, by name; none before the first look-up."""

    models: list[ModelView]


@router.get("/v1/models", dependencies=[allowed("read")])
async def models(services: Served) -> Models:
    """Return the models that the dialplan names, until when they are offered, and their sessions."""
    lives, most = await services.reader.models(), services.sessions_max
    sessions = await services.reader.sessions([life.model for life in lives if life.model in most])
    return Models(
        models=[
            ModelView(
                model=life.model,
                agents=list(life.agents),
                shutdown_date=life.shutdown_date,
                source=life.source,
                looked_up_at=life.looked_up_at,
                sessions=sessions.get(life.model),
                sessions_max=most.get(life.model),
            )
            for life in lives
        ]
    )
