"""
``POST /v1/client-secrets``: a trusted client gets an ephemeral key for one of the dialplan's agents.

The key is for a browser or an app that talks to the voice service directly. The gateway is not in the path of such a
session, so the tools that the gateway runs are not offered there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.dialplan.model.agent import AgentProfile
from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.model.templates import TemplateFailed
from gateway.dialplan.routing.route import profile_without_call
from gateway.errors import AgentError, AgentLost
from gateway.rate_limit import TokenBuckets
from gateway.settings.sections import WebSettings
from gateway.upstream.realtime.access.secrets import LONGEST_S, SHORTEST_S, SecretMinter
from gateway.upstream.realtime.config import direct_session
from gateway.web.auth import UNAUTHORIZED, Clients
from gateway.web.errors import NO_STORE, ApiError, check_rate

DEFAULT_S = 600
BODY_LIMIT_S = 5.0
RETRY_AFTER_S = 5
MINTED = "minted"
STRANGERS_PER_MINUTE = 60
"""Refusals of unknown clients that are audited; more are counted in the next one's log line."""

Audit = Callable[[Mapping[str, str | int | float]], None]

_log = structlog.get_logger(__name__)


class _MintRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    profile: Annotated[str, Field(min_length=1, max_length=128)]
    seconds: int | None = None


class SecretsEndpoint:
    """
    Decides which client gets a secret, for which agent and how long, and audits every request. Thread: loop.

    Args:
        settings: clients and their limits.
        dialplan: gives the plan in force, whose agents they are.
        minter: open.
        audit: takes the fields of each request's entry; None leaves the log as the only place.
        buckets: how often each client may ask; by default as the settings say, counted in this process.
    """

    def __init__(
        self,
        *,
        settings: WebSettings,
        dialplan: Callable[[], Dialplan],
        minter: SecretMinter,
        audit: Audit | None,
        buckets: TokenBuckets | None = None,
    ) -> None:
        self._settings = settings
        self._dialplan = dialplan
        self._clients = Clients(settings.clients)
        self._minter = minter
        self._audit = audit
        self._buckets = TokenBuckets.per_minute(settings.mint_limit_per_minute) if buckets is None else buckets
        self._strangers = TokenBuckets.per_minute(STRANGERS_PER_MINUTE)
        self._untold = 0

    async def post(self, request: web.Request) -> web.Response:
        """Answer one request; its result is audited even when it is refused or fails."""
        story: dict[str, str | int | float] = {"source": request.remote or "", "result": "internal_error"}
        try:
            return await self._grant(request, story)
        except ApiError as error:
            story["result"] = error.code
            return error.response()
        except web.HTTPException as error:
            story["result"] = error.reason
            raise
        finally:
            self._write_down(story)

    async def _grant(self, request: web.Request, story: dict[str, str | int | float]) -> web.Response:
        client = self._clients.name_of(request)
        story["client"] = client
        check_rate(client, self._buckets)
        wanted = await _read(request)
        seconds = min(DEFAULT_S, self._settings.mint_seconds_max) if wanted.seconds is None else wanted.seconds
        story["profile"] = wanted.profile
        profile = self._profile(wanted.profile)
        longest_s = min(LONGEST_S, self._settings.mint_seconds_max)
        if not SHORTEST_S <= seconds <= longest_s:
            raise ApiError(400, "seconds_out_of_range", f"seconds must be from {SHORTEST_S} to {longest_s}")
        story["seconds"] = seconds
        try:
            secret = await self._minter.mint(direct_session(profile), model=profile.model, seconds=seconds)
        except AgentError as error:
            story["detail"] = error.detail
            raise _upstream_refusal(error) from None
        story |= {"result": MINTED, "expires_at": secret.expires_at}
        body = {"value": secret.value.get_secret_value(), "expires_at": int(secret.expires_at)}
        return web.json_response(body, headers=NO_STORE)

    def _profile(self, name: str) -> AgentProfile:
        dialplan = self._dialplan()
        if name not in dialplan.agents:
            raise ApiError(404, "unknown_profile", "there is no such profile")
        if self._settings.profiles is not None and name not in self._settings.profiles:
            raise ApiError(403, "profile_not_allowed", "no secrets are minted for this profile")
        try:
            return profile_without_call(dialplan, name, datetime.now(UTC))
        except TemplateFailed as problem:
            _log.error("profile_not_filled_in", profile=name, detail=str(problem))
            raise ApiError(409, "profile_needs_a_call", "this profile's texts need values of a call") from None

    def _write_down(self, story: Mapping[str, str | int | float]) -> None:
        # Who has no token must not be able to push the others' entries out of the stream, or to fill the log.
        if story["result"] == UNAUTHORIZED and not self._strangers.take("", time.monotonic()):
            self._untold += 1
            return
        _log.info("client_secret_asked", **story, **({"untold_before": self._untold} if self._untold else {}))
        self._untold = 0
        if self._audit is not None:
            self._audit(story)


async def _read(request: web.Request) -> _MintRequest:
    if request.content_type != "application/json":
        raise ApiError(415, "not_json", "send JSON with the content type application/json")
    try:
        async with asyncio.timeout(BODY_LIMIT_S):
            body = await request.read()
    except TimeoutError:
        raise ApiError(408, "too_slow", f"the body did not arrive within {BODY_LIMIT_S:g} s") from None
    except (web.RequestPayloadError, ConnectionError):
        raise ApiError(400, "unreadable_body", "the body does not match its Content-Encoding or length") from None
    try:
        return _MintRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(step) for step in first["loc"])[:128]
        message = f"{place}: {first['msg']}" if place else first["msg"]
        raise ApiError(400, "invalid_request", message) from None


def _upstream_refusal(error: AgentError) -> ApiError:
    """Return an error that says where to look; what the service said may be about our key, so it is left out."""
    if isinstance(error, AgentLost):
        after = {"Retry-After": str(RETRY_AFTER_S)}
        return ApiError(503, "upstream_lost", "the voice service is unavailable; try again later", headers=after)
    return ApiError(502, "upstream_refused", "the voice service refused; the gateway's log says why")
