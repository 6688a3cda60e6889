"""``/v1/session``: the page logs in with a token and gets a cookie that scripts cannot read."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from gateway.settings.web import Scope
from gateway.store.web_sessions import WebSession
from gateway.web.audit import audited
from gateway.web.auth import COOKIE, SECURE_COOKIE, bearer_of, client_of, is_own_origin, is_secure, session_id_of
from gateway.web.errors import ApiError, problem_responses
from gateway.web.services import Served
from gateway.web.tokens import Client

router = APIRouter(tags=["session"], responses=problem_responses(401, 403))


class LogIn(BaseModel):
    """The token to log in with."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    token: SecretStr = Field(min_length=1, max_length=512)


class SessionView(BaseModel):
    """Who is logged in, and what that allows."""

    name: str
    scopes: list[Scope]


def _view(client: Client) -> SessionView:
    return SessionView(name=client.name, scopes=sorted(client.scopes))


@router.post("/v1/session")
async def log_in(services: Served, request: Request, response: Response, wanted: LogIn) -> SessionView:
    """Log in with a token; the answer sets a cookie."""
    if "Origin" in request.headers and not is_own_origin(request):
        raise ApiError(403, "foreign_origin", "log in on the page itself")
    async with audited(services, request, "log_in") as story:
        client = await bearer_of(request, services, wanted.token.get_secret_value())
        story["client"] = client.name
        session_id = await services.sessions.open(WebSession(client.name, client.mark))
    secure = is_secure(request)
    response.set_cookie(
        SECURE_COOKIE if secure else COOKIE,
        session_id,
        max_age=services.web.session_s,
        secure=secure,
        httponly=True,
        samesite="strict",
    )
    return _view(client)


@router.get("/v1/session")
async def session(client: Annotated[Client, Depends(client_of)]) -> SessionView:
    """Return who asks, and what it may do."""
    return _view(client)


@router.delete("/v1/session", status_code=204)
async def log_out(services: Served, request: Request, client: Annotated[Client, Depends(client_of)]) -> Response:
    """Log out: end the session, and take the cookie back."""
    session_id = session_id_of(request)
    if session_id is not None:
        await services.sessions.close(session_id)
    response = Response(status_code=204)
    secure = is_secure(request)
    name = SECURE_COOKIE if secure else COOKIE
    response.delete_cookie(name, secure=secure, httponly=True, samesite="strict")
    return response
