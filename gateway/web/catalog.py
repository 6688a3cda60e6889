"""What is for those who watch over it: end reasons, the audit, metrics."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from gateway.call.end_reasons import END_REASONS
from gateway.call.outcome import Outcome
from gateway.store.keys import key_of
from gateway.web.auth import allowed, may_scrape
from gateway.web.calls import EVENT_ID
from gateway.web.errors import file_response
from gateway.web.metrics import metrics_page
from gateway.web.services import Served

MOST_ENTRIES = 1000
_NEWEST = "return redis.call('XREVRANGE', KEYS[1], ARGV[1], '-', 'COUNT', ARGV[2])"
_NUMBERS = {"at", "seconds", "expires_at"}

router = APIRouter(tags=["for operators"])


class EndReasonView(BaseModel):
    """One of the reasons that calls end for."""

    end_reason: str
    fault: str = Field(description="whose fault it is, unless the call's record says otherwise")
    ended_by: str
    meaning: str
    cure: str


class EndReasons(BaseModel):
    """All of them."""

    end_reasons: list[EndReasonView]


class AuditEntry(BaseModel):
    """Who asked for what, and what came of it."""

    model_config = ConfigDict(extra="allow")

    id: str
    at: float | None = None
    action: str = ""
    client: str = ""
    source: str = ""
    result: str = ""


class Audit(BaseModel):
    """Entries of the audit, the newest first; ``next`` is what to ask for as ``before`` next, null at the end."""

    entries: list[AuditEntry]
    next: str | None


@router.get("/v1/end-reasons", dependencies=[allowed("read")])
async def end_reasons() -> EndReasons:
    """Return why calls end, whose fault each is, what it means and what to do."""
    return EndReasons(
        end_reasons=[
            EndReasonView(
                end_reason=reason,
                fault=info.fault,
                ended_by=Outcome(reason).ended_by,
                meaning=info.meaning,
                cure=info.cure,
            )
            for reason, info in END_REASONS.items()
        ]
    )


@router.get("/v1/audit", dependencies=[allowed("admin")])
async def audit(
    services: Served,
    before: Annotated[str | None, Query(description="id of the last entry that is known", pattern=EVENT_ID)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 100,
) -> Audit:
    """Return who asked for what, the newest first."""
    end = "+" if before is None else f"({before}"
    found = await services.store.run(_NEWEST, [key_of(services.redis.prefix, "audit")], [end, str(limit)])
    entries = [AuditEntry(id=each, **_fields(flat)) for each, flat in found]
    return Audit(entries=entries, next=entries[-1].id if len(entries) == limit else None)


def _fields(flat: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = dict(zip(flat[::2], flat[1::2], strict=True))
    for name in _NUMBERS & fields.keys():
        try:
            fields[name] = float(fields[name])
        except ValueError:
            fields[name] = None
    return fields


@router.get("/metrics", dependencies=[may_scrape], response_class=Response, responses=file_response("text/plain"))
async def metrics(services: Served, request: Request) -> Response:
    """Return the metrics of all workers in the text format of Prometheus."""
    page = await metrics_page(services.reader, request.headers.get("Accept", ""))
    return Response(page.body, headers={"Content-Type": page.content_type})
