"""Records of calls that have ended: found, added up by day, exported as files; and erasing a caller."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.responses import Response

from gateway.errors import ConfigError
from gateway.store.erase import erase_caller
from gateway.store.export import MEDIA_TYPES, Encoder, ExportFormat, encoder_for
from gateway.store.reader import MOST_CDRS, CdrQuery, DayTotals, Page
from gateway.threads import run_in_pool
from gateway.web.audit import audited
from gateway.web.auth import allowed
from gateway.web.calls import EVENT_ID, STREAM
from gateway.web.errors import ApiError, problem_responses
from gateway.web.services import Served, Services
from gateway.web.tokens import Client
from gateway.web.views import CallView, view_of

READ = [allowed("read")]
DAYS = 7
"""Days that totals are for when nothing else is asked for."""
_EPOCH = date(1970, 1, 1)

router = APIRouter(tags=["records of calls"])

Since = Annotated[float | None, Query(ge=0, lt=1e11, description="Unix seconds; calls that ended then or later")]
Until = Annotated[float | None, Query(gt=0, lt=1e11, description="Unix seconds; calls that ended before")]
Filter = Annotated[str | None, Query(max_length=256)]


class Cdrs(BaseModel):
    """Records, the newest first. A page may have fewer than asked for before the last one."""

    cdrs: list[CallView]
    next_cursor: str | None = Field(None, description="where the next page begins; absent on the last one")


class TotalsView(BaseModel):
    """Ended calls added up."""

    calls: int
    answered: int
    talk_s: float
    cost_usd: float


class DayView(TotalsView):
    """The calls that ended on a day of UTC."""

    day: date
    by_route: dict[str, TotalsView]
    by_end_reason: dict[str, int]


class DailyTotals(BaseModel):
    """One entry for each day, the oldest first, days without calls too."""

    totals: list[DayView]


class ErasedView(BaseModel):
    """What was erased, or would be."""

    dry_run: bool
    calls: list[str]
    live: list[str] = Field(description="calls that go on; nothing of them was erased")
    records: int
    events: int
    cdrs: int
    deliveries: int
    limits: int
    audit: int
    files: list[str]
    files_elsewhere: list[str] = Field(description="files that are on another machine, and still there")


def asked_for(
    since: Since = None,
    until: Until = None,
    route: Filter = None,
    trunk: Filter = None,
    agent: Filter = None,
    caller: Filter = None,
    end_reason: Filter = None,
) -> CdrQuery:
    """Return what a request asks for. Raises ``ApiError``, 422."""
    try:
        return CdrQuery(since, until, route, trunk, agent, caller, end_reason)
    except ValueError as error:
        raise ApiError(422, "invalid_request", f"query: {error}") from None


Asked = Annotated[CdrQuery, Depends(asked_for)]


@router.get("/v1/cdrs", dependencies=READ, response_model_exclude_none=True)
async def cdrs(
    services: Served,
    query: Asked,
    cursor: Annotated[str | None, Query(pattern=EVENT_ID, description="next_cursor of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_CDRS)] = 100,
) -> Cdrs:
    """Return records of calls that have ended, the newest first."""
    page = await services.reader.cdrs(query, cursor or "", limit)
    return Cdrs(cdrs=[view_of(record) for record in page.records], next_cursor=page.next_cursor)


@router.get("/v1/cdrs/totals", dependencies=READ)
async def cdr_totals(services: Served, since: Since = None, until: Until = None) -> DailyTotals:
    """Return the calls of each day of UTC added up; of the last seven days if nothing else is asked for."""
    last = datetime.now(UTC).date() if until is None else _day_before(until)
    first = last - timedelta(days=DAYS - 1) if since is None else _EPOCH + timedelta(days=since // 86_400)
    if first > last:
        raise ApiError(422, "invalid_request", "query.until: should be later than since")
    try:
        days = await services.reader.totals(first, last)
    except ValueError as error:
        raise ApiError(422, "invalid_request", f"query.since: {error}") from None
    return DailyTotals(totals=[_day_view(day) for day in days])


@router.get(
    "/v1/cdrs/export",
    dependencies=STREAM,
    response_class=Response,
    responses={200: {"content": {kind: {"schema": {"type": "string"}} for kind in MEDIA_TYPES.values()}}},
)
async def export_cdrs(
    services: Served,
    query: Asked,
    form: Annotated[ExportFormat, Query(alias="format", description="parquet needs the extra of that name")] = "csv",
) -> StreamingResponse:
    """Return records as a file, of any length, the newest first."""
    try:
        encoder = encoder_for(form)
    except ConfigError as error:
        raise ApiError(422, "no_such_format", str(error)) from None
    first = await services.reader.cdrs(query, "", MOST_CDRS)
    headers = {"Content-Disposition": f'attachment; filename="calls.{form}"'}
    return StreamingResponse(_file(services, query, first, encoder), media_type=MEDIA_TYPES[form], headers=headers)


@router.delete("/v1/callers/{number}", responses=problem_responses(409))
async def erase(
    services: Served,
    request: Request,
    client: Annotated[Client, allowed("admin")],
    number: Annotated[str, Path(min_length=1, max_length=128, description="telephone number, or SIP user")],
    dry_run: Annotated[bool, Query(description="only say what there is")] = False,
) -> ErasedView:
    """Erase what is kept of a person: records, transcripts, recordings, traces, counts."""
    async with audited(services, request, "erase", client=client.name) as story:  # without the number
        try:
            erased = await erase_caller(
                services.redis, number, recordings=services.recordings, traces=services.traces, dry_run=dry_run
            )
        except ValueError as error:
            raise ApiError(422, "invalid_number", f"path.number: {error}") from None
        except OSError as error:
            raise ApiError(409, "file_not_deleted", f"nothing was erased: {error}; delete it, then ask again") from None
        story["calls"] = len(erased.calls)
        return ErasedView.model_validate(asdict(erased))


async def _file(services: Services, query: CdrQuery, page: Page, encoder: Encoder) -> AsyncIterator[bytes]:
    while True:
        yield await run_in_pool(partial(encoder.encode, page.records))
        if page.next_cursor is None:
            break
        page = await services.reader.cdrs(query, page.next_cursor, MOST_CDRS)
    yield await run_in_pool(encoder.finish)


def _day_before(until: float) -> date:
    """Return the last day that has a moment before ``until``."""
    return _EPOCH + timedelta(days=max(0, -(-until // 86_400) - 1))


def _day_view(day: DayTotals) -> DayView:
    by_route = {route: TotalsView(**asdict(totals)) for route, totals in day.by_route.items()}
    return DayView(day=day.day, by_route=by_route, by_end_reason=dict(day.by_end_reason), **asdict(day.all))
