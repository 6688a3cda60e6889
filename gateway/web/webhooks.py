"""``/v1/webhooks``: messages to the operator's servers that were given up, and sending one again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field

from gateway.store.webhook_queue import DeadLetter, WebhookQueue
from gateway.web.audit import audited
from gateway.web.auth import allowed
from gateway.web.errors import ApiError, problem_responses
from gateway.web.services import Served
from gateway.web.tokens import Client

MOST = 500

router = APIRouter(tags=["webhooks"])


class DeadLetterView(BaseModel):
    """A message that was given up; what it says is not shown."""

    id: str = Field(description="to send it again")
    endpoint: str
    type: str = Field(description="such as `call.ended`")
    call_id: str
    message_id: str = Field(description="the header `webhook-id`")
    attempts: int
    queued_at: float
    dead_at: float
    detail: str = Field(description="why the last attempt failed")


class DeadLetters(BaseModel):
    """The newest first."""

    dead: list[DeadLetterView]


class SentAgain(BaseModel):
    """The message waits for its next attempt."""

    id: str


@router.get("/v1/webhooks/dead", dependencies=[allowed("read")])
async def dead(services: Served, limit: Annotated[int, Query(ge=1, le=MOST)] = 100) -> DeadLetters:
    """Return messages to webhooks that were given up."""
    async with WebhookQueue(services.redis, services.webhooks) as queue:
        return DeadLetters(dead=[_view(letter) for letter in await queue.dead(limit)])


@router.post("/v1/webhooks/dead/{dead_id}/resend", responses=problem_responses(404))
async def resend(
    services: Served,
    request: Request,
    client: Annotated[Client, allowed("admin")],
    dead_id: Annotated[str, Path(max_length=256)],
) -> SentAgain:
    """Try a message that was given up again, as if for the first time."""
    async with (
        audited(services, request, "resend_webhook", client=client.name, delivery=dead_id),
        WebhookQueue(services.redis, services.webhooks) as queue,
    ):
        if not await queue.resend(dead_id):
            raise ApiError(
                404, "unknown_message", "no message of this id was given up; GET /v1/webhooks/dead lists them"
            )
        return SentAgain(id=dead_id)


def _view(letter: DeadLetter) -> DeadLetterView:
    fields = letter.fields()
    return DeadLetterView.model_validate({name: fields[name] for name in DeadLetterView.model_fields})
