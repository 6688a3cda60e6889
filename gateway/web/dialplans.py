"""Dialplans: the state of each process's plan, its files, why a call goes where it goes, and reloads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from gateway.dialplan.read.files import PlanFile, read_files
from gateway.dialplan.report.cases import parse_moment
from gateway.dialplan.report.explain import Explanation, as_json, explain_call
from gateway.dialplan.routing.call_facts import facts_of_call
from gateway.errors import DialplanError
from gateway.threads import run_in_pool
from gateway.web.audit import audited
from gateway.web.auth import allowed
from gateway.web.errors import ApiError, problem_responses
from gateway.web.services import Served, Services
from gateway.web.tokens import Client

READ = [allowed("read")]
NUMBERS = {"loaded_at": float, "at": float, "agents": int, "routes": int, "failures": int, "mistake_count": int}
Text = Annotated[str, Field(max_length=1024)]

router = APIRouter(prefix="/v1/dialplan", tags=["dialplan"])


class PlanView(BaseModel):
    """The state of one process's dialplan."""

    worker: str
    state: str = Field(description="current, or refused if the files hold a newer plan that has mistakes")
    version: str
    loaded_at: float | None = None
    agents: int | None = None
    routes: int | None = None
    failures: int | None = Field(None, description="loads refused since the process began")
    mistakes: list[str] = Field(description="of the newest refused plan, cut")
    mistake_count: int | None = None
    at: float | None = None


class Plans(BaseModel):
    """The dialplans of all processes."""

    dialplans: list[PlanView]


class SourceFile(BaseModel):
    """A file of the dialplan."""

    name: str
    text: str


class LastReload(BaseModel):
    """The files before and after the last reload that changed the plan in force."""

    before: list[SourceFile]
    after: list[SourceFile]


class Source(BaseModel):
    """The files of the dialplan of this process."""

    files: list[SourceFile]
    last_reload: LastReload | None = Field(None, description="null: none since this process began")


class Asked(BaseModel):
    """Every process was asked; the state of the plans has the result a few seconds later."""

    status: str = "asked"


class ImaginedCall(BaseModel):
    """A call that is only imagined."""

    model_config = ConfigDict(extra="forbid")

    number: Text = Field("", description="called number, user or URI")
    caller: Text = Field("", description="caller's number, user or URI")
    headers: dict[Text, Text] = Field({}, max_length=64)
    at: str | None = Field(
        None, max_length=64, description="such as 2026-12-24T10:00, in the plan's time zone; if not given, now"
    )
    trunk: Text = Field("", description="trunk the call comes through")
    source: Text = Field("", description="address the call comes from")
    load: float = Field(0, ge=0, le=1, description="share of the worker's capacity in use")
    call_id: Text = Field("", description="the gateway's id of the call, which decides percentages")


class ConsideredRoute(BaseModel):
    """One route and this call."""

    name: str
    matched: bool
    why: str = Field(description="the first condition that does not hold")
    key: str = Field(description="its key in the route's match")
    file: str = Field("", description="where the route stands")
    line: int = 0
    key_line: int | None = Field(None, description="line of the key")


class AgentTexts(BaseModel):
    """An agent that may speak in this call, its texts filled in."""

    name: str
    instructions: str
    greeting: str | None


class ExplanationView(BaseModel):
    """What the dialplan does with a call, and why."""

    version: str
    at: str
    routes: list[ConsideredRoute]
    route: str | None = Field(description="the route that takes the call; null: none")
    action: str
    code: int | None = Field(description="SIP status of a refusal")
    steps: list[str]
    groups: dict[str, Any]
    metadata: dict[str, str]
    agents: list[AgentTexts]
    problems: list[str] = Field(description="texts that cannot be filled in for this call")


async def plan_states(services: Services) -> list[PlanView]:
    """Return the state of each process's plan. Raises ``StoreError``."""
    return [_view(state) for state in await services.reader.dialplans()]


@router.get("", dependencies=READ)
async def plans(services: Served) -> Plans:
    """Return the state of every process's dialplan."""
    return Plans(dialplans=await plan_states(services))


@router.get("/source", dependencies=READ, responses=problem_responses(404))
async def source(services: Served) -> Source:
    """Return the files of the dialplan as they are now on the machine that serves this."""
    try:
        files = await run_in_pool(lambda: read_files(services.dialplan_path))
    except DialplanError:
        raise ApiError(404, "unreadable_dialplan", "the dialplan's files cannot be read; the log says why") from None
    plan = services.dialplan.plan
    changed = LastReload(before=_texts(plan.before), after=_texts(plan.files)) if plan.before else None
    return Source(files=_texts(files), last_reload=changed)


def _texts(files: Iterable[PlanFile]) -> list[SourceFile]:
    return [SourceFile(name=file.name, text=file.data.decode("utf-8", "replace")) for file in files]


@router.post("/reload", status_code=202)
async def reload(services: Served, request: Request, client: Annotated[Client, allowed("control")]) -> Asked:
    """Have every process load its dialplan again."""
    async with audited(services, request, "reload", client=client.name) as story:
        await services.reloads.ask()
        story["result"] = "reload_asked"
    return Asked()


@router.post("/explain", dependencies=READ)
async def explain(services: Served, call: ImaginedCall) -> ExplanationView:
    """Return why a call would go where it goes, route by route."""
    plan = services.dialplan.plan
    try:
        moment = datetime.now(UTC) if call.at is None else parse_moment(call.at, plan.dialplan)
    except ValueError as error:
        raise ApiError(422, "invalid_request", f"body.at: {error}") from None
    facts = facts_of_call(
        to=call.number,
        caller=call.caller,
        at=moment,
        trunk=call.trunk,
        source=call.source,
        headers=call.headers,
        load=call.load,
        call_id=call.call_id,
    )
    explanation: Explanation = explain_call(plan.index, facts)
    told = as_json(plan.version, facts, explanation)
    for route, place in zip(told["routes"], plan.places, strict=True):
        route |= {"file": place.file, "line": place.line, "key_line": place.match.get(route["key"])}
    return ExplanationView.model_validate(told)


def _view(state: Mapping[str, str]) -> PlanView:
    """Return a state as JSON; foreign entries in Redis are ignored."""
    numbers = {}
    for name, kind in NUMBERS.items():
        try:
            numbers[name] = kind(state[name])
        except (KeyError, ValueError):
            numbers[name] = None
    try:
        found = json.loads(state.get("mistakes", "[]"))
    except ValueError:
        found = []
    mistakes = [str(mistake) for mistake in found] if isinstance(found, list) else []
    texts = {name: state.get(name, "") for name in ("worker", "state", "version")}
    return PlanView(**texts, **numbers, mistakes=mistakes)
