"""
``POST /v1/client-secrets``: a trusted client gets an ephemeral key for one of the dialplan's agents.

The key is for a browser or an app that talks to the voice service directly. The gateway is not in the path of such a
session, so the tools that the gateway runs are not offered there.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import structlog
from fastapi import APIRouter, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gateway.dialplan.model.agent import AgentProfile
from gateway.dialplan.model.templates import TemplateFailed
from gateway.dialplan.routing.route import profile_without_call
from gateway.errors import AgentError, AgentLost
from gateway.upstream.realtime.access.secrets import LONGEST_S, SHORTEST_S
from gateway.upstream.realtime.config import direct_session
from gateway.web.audit import Story, audited
from gateway.web.auth import allowed
from gateway.web.errors import RETRY_AFTER_S, ApiError, problem_responses
from gateway.web.services import Served, Services
from gateway.web.tokens import Client

DEFAULT_S = 600
MINTED = "minted"

_log = structlog.get_logger(__name__)
router = APIRouter(tags=["client secrets"], responses=problem_responses(404, 409, 502))


def _whole(value: object) -> object:
    """Return 60.0 as 60: JSON knows one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class MintRequest(BaseModel):
    """Which agent the secret is for, and how long it lives."""

    model_config = ConfigDict(extra="forbid", strict=True)

    profile: str = Field(min_length=1, max_length=128, description="an agent of the dialplan", examples=["hello"])
    seconds: Annotated[int | None, BeforeValidator(_whole)] = Field(
        None, ge=SHORTEST_S, le=LONGEST_S, description=f"at most web.mint_seconds_max; default {DEFAULT_S}"
    )


class Secret(BaseModel):
    """An ephemeral key, and when it expires, Unix seconds."""

    value: str
    expires_at: int


@router.post("/v1/client-secrets")
async def mint(
    services: Served, request: Request, wanted: MintRequest, client: Annotated[Client, allowed("mint")]
) -> Secret:
    """Make an ephemeral key of the voice service for an agent."""
    async with audited(services, request, "mint", client=client.name, profile=wanted.profile) as story:
        await services.rates.count_mint(client.name)
        return await _grant(services, wanted, story)


async def _grant(services: Services, wanted: MintRequest, story: Story) -> Secret:
    if services.minter is None:
        raise ApiError(503, "no_api_key", "this process has no API key to mint with; set OPENAI_API_KEY for it")
    profile = _profile(services, wanted.profile)
    longest_s = min(LONGEST_S, services.web.mint_seconds_max)
    seconds = min(DEFAULT_S, longest_s) if wanted.seconds is None else wanted.seconds
    if seconds > longest_s:
        raise ApiError(422, "seconds_out_of_range", f"seconds must be from {SHORTEST_S} to {longest_s}")
    story["seconds"] = seconds
    try:
        secret = await services.minter.mint(direct_session(profile), model=profile.model, seconds=seconds)
    except AgentError as error:
        story["detail"] = error.detail
        raise _upstream_refusal(error) from None
    story |= {"result": MINTED, "expires_at": secret.expires_at}
    return Secret(value=secret.value.get_secret_value(), expires_at=int(secret.expires_at))


def _profile(services: Services, name: str) -> AgentProfile:
    dialplan = services.dialplan.plan.dialplan
    if name not in dialplan.agents:
        raise ApiError(404, "unknown_profile", "there is no such profile")
    if services.web.profiles is not None and name not in services.web.profiles:
        raise ApiError(403, "profile_not_allowed", "no secrets are minted for this profile")
    try:
        return profile_without_call(dialplan, name, datetime.now(UTC))
    except TemplateFailed as problem:
        _log.error("profile_not_filled_in", profile=name, detail=str(problem))
        raise ApiError(409, "profile_needs_a_call", "this profile's texts need values of a call") from None


def _upstream_refusal(error: AgentError) -> ApiError:
    """Return an error that says where to look; what the service said may be about our key, so it is left out."""
    if isinstance(error, AgentLost):
        after = {"Retry-After": str(RETRY_AFTER_S)}
        return ApiError(503, "upstream_lost", "the voice service is unavailable; try again later", headers=after)
    return ApiError(502, "upstream_refused", "the voice service refused; the gateway's log says why")
