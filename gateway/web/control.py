"""
Steering calls, workers and trunks: each request becomes a command to the worker that has the call.

The answer is what became of it: 200 ``done``; 409, the worker refused and did nothing; 504, no answer came in time.
"""

from __future__ import annotations

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool
from starlette.requests import HTTPConnection

from gateway.ids import CallId, new_call_id
from gateway.store.commands import CommandAnswer, CommandKind
from gateway.store.registry import RegisteredWorker
from gateway.web.audit import Story, audited
from gateway.web.auth import allowed
from gateway.web.calls import ENDED, KnownCall
from gateway.web.errors import ApiError, problem_responses
from gateway.web.services import Served, Services
from gateway.web.tokens import Client
from gateway.web.workers import NamePath

WAIT_S = 5.0
PROBE_WAIT_S = 12.0
PICK_UP_WAIT_S = 75.0
"""For what is answered when somebody has picked up a telephone, or was given up."""
KEY = r"^[!-~]{1,255}$"
"""An idempotency key: visible ASCII characters."""

router = APIRouter(tags=["control"], responses=problem_responses(404, 409, 504))
Controlling = Annotated[Client, allowed("control")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Target(_Body):
    """Whom to call: a number, a SIP URI, or the name of a target in the dialplan."""

    target: str = Field(min_length=1, max_length=256)


class HangUp(_Body):
    """How to end a call."""

    goodbye: StrictBool = Field(False, description="let the agent say goodbye first")


class Digits(_Body):
    """Keys to press."""

    digits: str = Field(pattern=r"^[0-9A-D*#,]{1,64}$", description="0-9, *, #, A-D; a comma is a pause")


class Words(_Body):
    """What to say, or what the agent is to know."""

    text: str = Field(min_length=1, max_length=4000)


class Dial(_Body):
    """A call to place."""

    target: str = Field(min_length=1, max_length=256, description="number or SIP URI to call")
    agent: str = Field(min_length=1, max_length=128, description="the agent that speaks")
    trunk: str | None = Field(None, min_length=1, max_length=64, description="trunk to call through")
    caller_id: str | None = Field(None, min_length=1, max_length=64, description="number to show")


class Done(BaseModel):
    """The worker did it."""

    state: Literal["done"] = "done"
    detail: str = ""
    fields: dict[str, str] = {}


class Dialled(BaseModel):
    """The worker places the call; its record has what becomes of it."""

    call_id: str


async def command(
    services: Services,
    connection: HTTPConnection,
    client: Client,
    worker: str,
    kind: CommandKind,
    *,
    call_id: str = "",
    wait_s: float = WAIT_S,
    **fields: str,
) -> Done:
    """
    Have a worker do something, and write down who asked and what came of it.

    Raises:
        ApiError: 409, 504.
        StoreError: Redis is away.
    """
    about = {"call_id": call_id} if call_id else {"worker_asked": worker}
    async with audited(services, connection, kind, client=client.name, **about) as story:
        given = {name: value for name, value in fields.items() if value}
        answer = await services.commands.send(
            worker, kind, call_id=call_id, fields=given, by=client.name, wait_s=wait_s
        )
        return _outcome(answer, story)


def _outcome(answer: CommandAnswer, story: Story) -> Done:
    if answer.detail:
        story["detail"] = answer.detail
    if answer.state == "refused":
        raise ApiError(409, "refused", answer.detail or "the worker refused, and did nothing")
    if answer.state == "expired":
        raise ApiError(504, "expired", answer.detail or "the worker did not answer in time")
    return Done(detail=answer.detail, fields=dict(answer.fields))


async def on_call(
    services: Services, request: Request, client: Client, record: KnownCall, kind: CommandKind, **fields: str
) -> Done:
    """Have the worker of a live call do something with it. Raises as ``command`` does."""
    if record.state == ENDED or record.worker is None:
        raise ApiError(409, "call_ended", "the call has ended")
    wait_s = PICK_UP_WAIT_S if kind in ("transfer", "take_over") else WAIT_S
    return await command(
        services, request, client, record.worker, kind, call_id=record.call_id, wait_s=wait_s, **fields
    )


@router.post("/v1/calls/{call_id}/hang-up")
async def hang_up(
    services: Served, request: Request, client: Controlling, record: KnownCall, body: HangUp | None = None
) -> Done:
    """End a call: at once, or with ``goodbye`` once the agent has taken leave."""
    asked = {"goodbye": "true"} if body is not None and body.goodbye else {}
    return await on_call(services, request, client, record, "hang_up", **asked)


@router.post("/v1/calls/{call_id}/transfer")
async def transfer(services: Served, request: Request, client: Controlling, record: KnownCall, body: Target) -> Done:
    """Transfer the caller; answered when the target has answered or was given up."""
    return await on_call(services, request, client, record, "transfer", target=body.target)


@router.post("/v1/calls/{call_id}/digits")
async def send_digits(services: Served, request: Request, client: Controlling, record: KnownCall, body: Digits) -> Done:
    """Press keys towards the far end."""
    return await on_call(services, request, client, record, "send_digits", digits=body.digits)


@router.post("/v1/calls/{call_id}/say")
async def say(services: Served, request: Request, client: Controlling, record: KnownCall, body: Words) -> Done:
    """Have the agent say a sentence."""
    return await on_call(services, request, client, record, "say", text=body.text)


@router.post("/v1/calls/{call_id}/whisper")
async def whisper(services: Served, request: Request, client: Controlling, record: KnownCall, body: Words) -> Done:
    """Give the agent an instruction that the caller does not hear."""
    return await on_call(services, request, client, record, "whisper", text=body.text)


@router.post("/v1/calls/{call_id}/take-over")
async def take_over(services: Served, request: Request, client: Controlling, record: KnownCall, body: Target) -> Done:
    """Call a person and join them with the caller; the agent is silent meanwhile."""
    return await on_call(services, request, client, record, "take_over", target=body.target)


@router.post("/v1/calls/{call_id}/give-back")
async def give_back(services: Served, request: Request, client: Controlling, record: KnownCall) -> Done:
    """Give a call that was taken over back to the agent."""
    return await on_call(services, request, client, record, "give_back")


@router.post("/v1/calls/{call_id}/trace")
async def trace(services: Served, request: Request, client: Controlling, record: KnownCall) -> Done:
    """Trace the SIP messages of a call from now on."""
    return await on_call(services, request, client, record, "trace")


@router.post("/v1/workers/{worker}/drain")
async def drain(services: Served, request: Request, client: Controlling, worker: NamePath) -> Done:
    """Have a worker take no more calls; those it has go on."""
    await _known_worker(services, worker)
    return await command(services, request, client, worker, "drain")


@router.post("/v1/workers/{worker}/undrain")
async def undrain(services: Served, request: Request, client: Controlling, worker: NamePath) -> Done:
    """Have a worker take calls again."""
    await _known_worker(services, worker)
    return await command(services, request, client, worker, "undrain")


@router.post("/v1/trunks/{trunk}/probe")
async def probe(services: Served, request: Request, client: Controlling, trunk: NamePath) -> Done:
    """Have a worker that knows a trunk ask it whether it is there (OPTIONS)."""
    known = [state["worker"] for state in await services.reader.trunks() if state.get("trunk") == trunk]
    if not known:
        raise ApiError(404, "unknown_trunk", "no worker has such a trunk")
    return await command(services, request, client, known[0], "probe_trunk", wait_s=PROBE_WAIT_S, trunk=trunk)


@router.post("/v1/calls", status_code=202)
async def dial(
    services: Served,
    request: Request,
    body: Dial,
    client: Annotated[Client, allowed("dial")],
    idempotency_key: Annotated[
        str | None,
        Header(description="the same key is the same call, for a day, however often it is sent", pattern=KEY),
    ] = None,
) -> Dialled:
    """Call somebody. A request that is repeated with its `Idempotency-Key` calls nobody twice."""
    call_id = new_call_id(time.time_ns())
    if idempotency_key is not None:
        call_id = await _claimed(services, client, body, idempotency_key, call_id)
    worker = least_loaded(await services.reader.workers())
    await command(
        services,
        request,
        client,
        worker.condition.worker,
        "dial",
        call_id=call_id,
        target=body.target,
        agent=body.agent,
        trunk=body.trunk or "",
        caller_id=body.caller_id or "",
    )
    return Dialled(call_id=call_id)


async def _claimed(services: Services, client: Client, body: Dial, key: str, call_id: CallId) -> CallId:
    claimed = await services.dial_keys.claim(client.name, key, body.model_dump_json(), call_id)
    if not claimed.same:
        raise ApiError(422, "key_used", "this Idempotency-Key was used for another call; make a new one")
    return claimed.call_id


def least_loaded(workers: list[RegisteredWorker]) -> RegisteredWorker:
    """
    Return the worker that a new call goes to.

    Raises:
        ApiError: 503; none takes calls.
    """
    ready = [
        each
        for each in workers
        if each.condition.state == "ready" and each.condition.live_calls < each.condition.capacity
    ]
    if not ready:
        raise ApiError(503, "no_worker", "no worker takes calls now; try again", headers={"Retry-After": "5"})
    return min(ready, key=lambda each: each.condition.live_calls / each.condition.capacity)


async def _known_worker(services: Services, name: str) -> None:
    if name not in {each.condition.worker for each in await services.reader.workers()}:
        raise ApiError(404, "unknown_worker", "there is no such worker")
