"""
The HTTP API of ``gateway web``: an application of FastAPI, made of a router for each subject.

How this folder works. ``gateway web`` is a process of its own. It takes no calls: it reads from Redis what workers
wrote there, and writes commands there that they carry out. ``server`` listens (uvicorn) and refuses to where it would
be open to all. ``guard`` stands in front: host names, sizes, times, security headers. ``auth`` finds out who asks (a
token, ``tokens``, or a log-in of the page, ``session``) and whether its scopes allow what the endpoint needs; ``rates``
and ``stream_slots`` say how often and how many. Endpoints get what they work with as ``Services``. A refusal is an
``errors.ApiError``; every error is answered with problem details (RFC 9457). What changes something is written down by
``audit``. Everything runs on the loop.

::

    calls       live calls, one call, its events, streams of them
    call_files  ladder, capture, recording, waveform, transcript, all in a zip
    listen      the sound of a live call, over a WebSocket
    control     commands to workers: hang up, transfer, dial, drain, ...
    workers     workers and trunks
    dialplans   states, files, explanations, reloads
    secrets     client secrets
    session     log-in of the page
    health      of this process, of all
    cdrs        records of ended calls, totals, export, erasing a caller
    webhooks    messages that were given up, sent again
    catalog     end reasons, audit, metrics
    page        the page's files
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from gateway.store.registry import own_version
from gateway.web import (
    call_files,
    calls,
    catalog,
    cdrs,
    control,
    dialplans,
    health,
    listen,
    models,
    secrets,
    session,
    webhooks,
    workers,
)
from gateway.web.errors import Problem, answer_errors, problem_responses
from gateway.web.page import add_page
from gateway.web.services import Services

SUBJECTS = (
    health,
    session,
    calls,
    call_files,
    listen,
    control,
    workers,
    models,
    dialplans,
    secrets,
    cdrs,
    webhooks,
    catalog,
)
ANYWHERE = (400, 401, 403, 408, 413, 421, 422, 429, 500, 503)
"""Errors that any endpoint may answer with."""


def make_app(services: Services) -> FastAPI:
    """Return the application."""
    app = routed_app()
    app.state.services = services
    return app


def routed_app() -> FastAPI:
    """Return the application without what it works with: enough to describe it."""
    app = FastAPI(
        title="SIP voice gateway",
        version=own_version() or "0",
        summary="Calls as they happen, and their control.",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        generate_unique_id_function=_operation_id,
        responses=problem_responses(*ANYWHERE),
    )
    answer_errors(app)
    for subject in SUBJECTS:
        app.include_router(subject.router)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    add_page(app)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name


def _described(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI description, with the schema of problems, which no endpoint returns by itself."""
    if app.openapi_schema is None:
        described = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        problem = Problem.model_json_schema()
        described.setdefault("components", {}).setdefault("schemas", {})["Problem"] = problem
        app.openapi_schema = described
    return app.openapi_schema
