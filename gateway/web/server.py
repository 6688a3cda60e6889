"""
The HTTP API of ``gateway web``: its server, its limits, and the boundary that keeps one request's fault to itself.

::

    POST /v1/client-secrets   secrets.SecretsEndpoint     an ephemeral key for a browser or an app
    GET  /dialplan            dialplans.DialplansEndpoint the state of every process's dialplan
    POST /dialplan/reload     dialplans.DialplansEndpoint have every process load its dialplan again
    GET  /health              here                        trunks, upstreams and dialplans of all workers
    GET  /healthz             here                        this process answers

The process is one of its own: it takes no calls and knows of workers what they write to Redis. ``auth`` tells clients
apart by their bearer tokens. A request that is refused raises ``errors.ApiError``, which the endpoint turns into its
answer; what any other fault raises, ``_boundary`` logs and answers with 500. Everything runs on the loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.errors import ConfigError, StoreError
from gateway.rate_limit import TokenBuckets
from gateway.settings.sections import WebSettings
from gateway.web.dialplans import PUBLIC, DialplansEndpoint
from gateway.web.errors import NO_STORE, ApiError
from gateway.web.secrets import SecretsEndpoint

MAX_BODY_BYTES = 4096
KEEPALIVE_S = 15.0
STOP_LIMIT_S = 5.0
SHOWN_OF_TRUNKS = ("trunk", "worker", "state", "code", "at")
"""What anyone who reaches the port may know of a trunk."""
SHOWN_OF_UPSTREAMS = ("upstream", "worker", "state", "at")
"""The same for a model's service."""
BAD_STATES = frozenset({"failed", "away", "refused"})
"""Of a trunk, an upstream, a dialplan."""

MALFORMED_PER_MINUTE = 30
"""Malformed requests that are logged."""

ReadStates = Callable[[], Awaitable[list[dict[str, str]]]]

_log = structlog.get_logger(__name__)


class _Malformed(logging.Filter):
    """Replaces aiohttp's traceback with one line of ours when a client breaks HTTP or goes away; limits how many."""

    def __init__(self) -> None:
        super().__init__()
        self._buckets = TokenBuckets.per_minute(MALFORMED_PER_MINUTE)
        self._untold = 0

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError | web.RequestPayloadError | ConnectionError):
            return True
        if not self._buckets.take("", time.monotonic()):
            self._untold += 1
        else:
            words = getattr(error, "message", "").partition("\n")[0][:100]
            _log.info("http_request_malformed", fault=type(error).__name__, detail=words, untold_before=self._untold)
            self._untold = 0
        return False


class WebServer:
    """
    Serves the HTTP API inside its ``async with`` block. Thread: loop.

    Args:
        settings: where to listen.
        mint: answers ``POST /v1/client-secrets``.
        plan: answers ``GET /dialplan`` and ``POST /dialplan/reload``.
        trunks: reads the state of every worker's trunks for ``GET /health``; None when no Redis is configured.
        upstreams: reads how every worker found the models' services, likewise.

    Attributes:
        port: the TCP port it listens on.
    """

    def __init__(
        self,
        settings: WebSettings,
        mint: SecretsEndpoint,
        plan: DialplansEndpoint,
        trunks: ReadStates | None = None,
        upstreams: ReadStates | None = None,
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._trunks = trunks
        self._upstreams = upstreams
        self._mint = mint
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        """
        Listen.

        Raises:
            ConfigError: the address or port is not available.
        """
        app = web.Application(middlewares=[_boundary], client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/v1/client-secrets", self._mint.post)
        app.router.add_get("/dialplan", self._plan.get)
        app.router.add_post("/dialplan/reload", self._plan.post)
        app.router.add_get("/healthz", _alive)
        app.router.add_get("/health", self._health)
        protocol_log = logging.Logger("gateway.web.protocol")
        protocol_log.parent = logging.getLogger()
        protocol_log.addFilter(_Malformed())
        self._runner = web.AppRunner(
            app,
            logger=protocol_log,
            access_log=None,  # what matters is audited
            handle_signals=False,
            keepalive_timeout=KEEPALIVE_S,
            shutdown_timeout=STOP_LIMIT_S,
        )
        await self._runner.setup()
        host, port = self._settings.host, self._settings.port
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(f"web.port: cannot listen on {host}:{port}: {error.strerror}; choose another") from None
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take no more requests, let those at work end within a few seconds, and close."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _health(self, request: web.Request) -> web.Response:
        """Answer 200 with all workers' trunks, upstreams and dialplans, or 503 when Redis does not answer."""
        try:
            trunks = await _shown_states(self._trunks, SHOWN_OF_TRUNKS)
            upstreams = await _shown_states(self._upstreams, SHOWN_OF_UPSTREAMS)
            plans = [{name: state.get(name) for name in PUBLIC} for state in await self._plan.states()]
        except StoreError:
            return web.json_response({"status": "unknown", "redis": "away"}, status=503, headers=NO_STORE)
        all_states: list[Mapping[str, object]] = [*trunks, *upstreams, *plans]
        told = {
            "status": "degraded" if any(state["state"] in BAD_STATES for state in all_states) else "ok",
            "redis": "none" if self._trunks is None else "ok",
        }
        told_of = {"trunks": trunks, "upstreams": upstreams, "dialplans": plans}
        return web.json_response({**told, **told_of}, headers=NO_STORE)

    @property
    def url(self) -> str:
        """The URL it is reached at."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"http://{host}:{self.port}"


async def _shown_states(read: ReadStates | None, names: tuple[str, ...]) -> list[dict[str, str]]:
    """Read states; return what of each may be shown. Raises ``StoreError``."""
    states = await read() if read is not None else []
    return [{name: state.get(name, "") for name in names} for state in states]


async def _alive(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"}, headers=NO_STORE)


@web.middleware
async def _boundary(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn what a request raises into an answer in JSON."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        code = error.reason.lower().replace(" ", "_")
        return ApiError(error.status, code, error.reason, headers=allow).response()
    except Exception:  # noqa: BLE001 - the boundary of a request: its fault must not touch another
        _log.exception("request_failed", method=request.method, path=request.path)
        return ApiError(500, "internal_error", "an internal error; the gateway's log says more").response()
