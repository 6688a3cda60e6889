"""Listens for the HTTP API: uvicorn, with limits for clients that are slow, silent or malformed."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, cast

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.errors import ConfigError
from gateway.rate_limit import TokenBuckets
from gateway.settings.web import WebSettings
from gateway.web.app import make_app
from gateway.web.guard import Guard
from gateway.web.services import Services

KEEPALIVE_S = 15
HEAD_LIMIT_S = 10.0
"""A connection that has not sent a whole request head in this time is closed."""
STOP_LIMIT_S = 5
CONNECTIONS = 512
HEAD_BYTES = 32_768
WS_BYTES = 1024
"""Of a message that a client sends over a WebSocket, where it has nothing to say."""
PING_S = 20.0
MALFORMED_PER_MINUTE = 30
"""Malformed requests that are logged."""

_log = structlog.get_logger(__name__)


class WebServer:
    """
    Serves the HTTP API inside its ``async with`` block. Thread: loop.

    Args:
        services: what the endpoints work with; where to listen.

    Raises:
        ConfigError: it would listen where others reach it, without a token to tell them apart.

    Attributes:
        port: the TCP port it listens on.
    """

    def __init__(self, services: Services) -> None:
        _check_reach(services.web)
        self._services = services
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        """
        Listen.

        Raises:
            ConfigError: the address or port is not available.
        """
        listening = _listen(self._services.web)
        self.port = listening.getsockname()[1]
        self._server = _Server(_config(self._services))
        self._task = asyncio.create_task(self._server.serve([listening]), name="web server")
        await self._server.listening.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take no more requests, end streams, let what is at work end within a few seconds, and close."""
        self._services.stopping.set()
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task

    @property
    def url(self) -> str:
        """The URL it is reached at."""
        host = self._services.web.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


class _Server(uvicorn.Server):
    """Leaves signals to the command, and tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class _ImpatientProtocol(H11Protocol):
    """HTTP/1.1 of uvicorn, which waits for ever for the first request of a connection, and for the rest of a head."""

    _head_due: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)  # stops the timer
        is_upgraded = self.transport.get_protocol() is not self  # a WebSocket has taken the connection over
        if is_upgraded or (self.cycle is not None and not self.cycle.response_complete):
            self._head_due = None
        elif self.timeout_keep_alive_task is None:  # a part of a head; more of it earns no more time
            self._await_head()

    def _await_head(self) -> None:
        if self._head_due is None:
            self._head_due = self.loop.time() + HEAD_LIMIT_S
        self.timeout_keep_alive_task = self.loop.call_at(self._head_due, self.timeout_keep_alive_handler)


class _Malformed(logging.Filter):
    """Limits how many lines broken requests write."""

    def __init__(self) -> None:
        super().__init__()
        self._buckets = TokenBuckets.per_minute(MALFORMED_PER_MINUTE)
        self._untold = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info is not None or record.levelno >= logging.ERROR:
            return True
        if record.levelno >= logging.WARNING:
            if not self._buckets.take("", time.monotonic()):
                self._untold += 1
            else:
                _log.info("http_request_malformed", detail=record.getMessage()[:100], untold_before=self._untold)
                self._untold = 0
        return False


def _check_reach(web: WebSettings) -> None:
    if not web.is_loopback and not web.tokens:
        raise ConfigError(
            f"web.tokens: others reach {web.host} (web.host), and there is no token to tell them apart; make one with "
            "`gateway token NAME --scopes read` or listen on 127.0.0.1"
        )


def _listen(web: WebSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in web.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((web.host, web.port))
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        told = f"web.port: cannot listen on {web.host}:{web.port}: {error.strerror}; choose another"
        raise ConfigError(told) from None
    return listening


def _config(services: Services) -> uvicorn.Config:
    web = services.web
    log = logging.getLogger("uvicorn.error")
    if not any(isinstance(each, _Malformed) for each in log.filters):
        log.addFilter(_Malformed())
    return uvicorn.Config(
        cast("ASGIApp", Guard(make_app(services), web.hosts)),
        http=_ImpatientProtocol,
        ws="websockets-sansio",
        ws_max_size=WS_BYTES,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        lifespan="off",
        log_config=None,
        access_log=False,  # what matters is audited, and a path may hold a telephone number
        server_header=False,
        proxy_headers=bool(web.proxies),
        forwarded_allow_ips=list(web.proxies),
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEEPALIVE_S,
        timeout_graceful_shutdown=STOP_LIMIT_S,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )
