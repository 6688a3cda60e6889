"""
Sends spans to an OTLP receiver over HTTP, in the background and in bounded memory.

``send`` only remembers. A task gathers spans for ``GATHER_S``, sends what there is in batches, and ends; without spans
nothing runs. What the receiver cannot take now (429, 502, 503, 504, no connection: opentelemetry.io/docs/specs/otlp,
"Retryable response codes") is sent again after a delay that doubles; what it refuses is dropped. While it is away the
queue fills up to ``CAPACITY`` spans, then the oldest are dropped. The log says once that it is away and once that it is
back, with the number of spans that were lost. Everything runs on the loop: a call never waits, and closing waits for
``CLOSE_LIMIT_S`` at most.
"""

from __future__ import annotations

import asyncio
import gzip
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

import aiohttp
import structlog

from gateway.errors import ConfigError
from gateway.settings.tracing import TracingSettings
from gateway.threads import runs_on
from gateway.tracing.spans import Span, Value

CAPACITY = 4096
BATCH = 64
"""Spans per request: encoding them takes the loop about a millisecond."""
GATHER_S = 1.0
REQUEST_LIMIT_S = 5.0
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 30.0
CLOSE_LIMIT_S = 2.0
PATH = "/v1/traces"
AGAIN = frozenset({408, 429, 502, 503, 504})
NO_EXTRA = (
    "tracing.endpoint: OpenTelemetry's messages are not installed; install them with "
    "pip install 'sip-voice-gateway[otel]', or unset tracing.endpoint"
)

_log = structlog.get_logger(__name__)


def check_tracing(settings: TracingSettings) -> None:
    """
    Make sure that traces can be sent if they are asked for.

    Raises:
        ConfigError: the extra ``otel`` is not installed.
    """
    if settings.endpoint is not None:
        _encoder()


class SpanExporter:
    """
    Sends spans inside its ``async with`` block. Thread: loop.

    Args:
        settings: where to; ``endpoint`` must be set.
        resource: what every span is of: the service, this process of it.

    Raises:
        ConfigError: the extra ``otel`` is not installed.
    """

    def __init__(self, settings: TracingSettings, resource: Mapping[str, Value]) -> None:
        url = str(settings.endpoint).rstrip("/")
        self._url = url if url.endswith(PATH) else url + PATH
        self._headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
        self._encode, self._refused = _encoder()
        self._resource = resource
        self._queue: deque[Span] = deque(maxlen=CAPACITY)
        self._task: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._closing = asyncio.Event()
        self._away = False
        self._told_refusal = ""
        self.dropped = 0
        """Spans that were given up: the queue was full, or the receiver refused them."""

    async def __aenter__(self) -> Self:
        """Get ready; nothing is connected yet."""
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=REQUEST_LIMIT_S),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what is waiting, for at most ``CLOSE_LIMIT_S`` seconds, then let go of the receiver."""
        self._closing.set()
        if (task := self._task) is not None:
            await asyncio.wait({task}, timeout=CLOSE_LIMIT_S)
            task.cancel()
            await asyncio.wait({task})
        if self._queue:
            _log.warning("traces_not_sent", spans=len(self._queue), detail="the gateway stops")
        if self._session is not None:
            await self._session.close()

    @runs_on("loop")
    def send(self, spans: Iterable[Span]) -> None:
        """Remember spans that are to be sent; neither waits nor raises."""
        for span in spans:
            self.dropped += len(self._queue) == CAPACITY
            self._queue.append(span)
        if self._queue and self._task is None and not self._closing.is_set():
            self._task = asyncio.create_task(self._send_all(), name="span exporter")
            self._task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (fault := task.exception()) is not None:
            _log.error("traces_cannot_be_sent", fault=repr(fault))
            self.dropped += len(self._queue)
            self._queue.clear()

    async def _send_all(self) -> None:
        await self._pause(GATHER_S)
        delay_s = FIRST_RETRY_S
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            retry_after_s = await self._post(batch)
            if retry_after_s is None:
                delay_s = FIRST_RETRY_S
                continue
            self._put_back(batch)
            if self._closing.is_set():
                return
            await self._pause(max(retry_after_s, delay_s * random.uniform(0.5, 1)))
            delay_s = min(2 * delay_s, LAST_RETRY_S)

    async def _post(self, batch: list[Span]) -> float | None:
        """Send one request; return None when it is settled, else the least delay before the next attempt."""
        assert self._session is not None
        body = gzip.compress(self._encode(batch, self._resource), 1)
        headers = {**self._headers, "Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        try:
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                status, answer = response.status, await response.content.read(65536)
                after = response.headers.get("Retry-After", "")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return self._noticed_loss(type(error).__name__)
        if status in AGAIN:
            return max(
                self._noticed_loss(f"HTTP {status}"), min(float(after), LAST_RETRY_S) if after.isdecimal() else 0
            )
        if self._away:
            self._away = False
            _log.warning("traces_are_sent_again", dropped=self.dropped)
        count, why = (len(batch), f"HTTP {status}") if status >= 300 else self._refused(answer)
        if count:
            self.dropped += count
            if why != self._told_refusal:  # else a wrong token is told of each second
                _log.warning("traces_refused", spans=count, detail=why[:200], cure="check tracing.endpoint, .headers")
            self._told_refusal = why
        return None

    def _noticed_loss(self, detail: str) -> float:
        if not self._away:
            self._away = True
            _log.warning("trace_receiver_away", detail=detail, cure="start it, or fix tracing.endpoint; calls go on")
        return 0.0

    def _put_back(self, batch: list[Span]) -> None:
        room = CAPACITY - len(self._queue)
        self.dropped += max(0, len(batch) - room)
        self._queue.extendleft(reversed(batch[max(0, len(batch) - room) :]))

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()


def _encoder() -> tuple[Callable[[Iterable[Span], Mapping[str, Value]], bytes], Callable[[bytes], tuple[int, str]]]:
    try:
        from gateway.tracing.otlp import encoded, refused
    except ModuleNotFoundError:
        raise ConfigError(NO_EXTRA) from None
    return encoded, refused
