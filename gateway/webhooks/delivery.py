"""
Tells servers of the operator what happens to calls, by HTTP: webhooks, as Standard Webhooks describes them.

Theory of operation. ``gateway web`` runs this beside the HTTP API; a call and its worker know nothing of it.

- One task collects. It reads the stream of all calls' events (``store/webhook_queue.py``), turns those that an endpoint
  wants into messages (``messages.py``), and puts them into the queue in Redis, one delivery per endpoint.
- One task per endpoint sends, so that a slow one delays no other. It claims deliveries whose turn has come, at most
  ``AT_ONCE`` of them under way, and makes an attempt with each: signed (``tools/signing.py``), within ``timeout_s``, to
  an address that is allowed (``addresses.py``), no redirect followed. ``retries.py`` says what becomes of it.

Several processes may do this for the same calls; each message is sent by one. What one had under way when it died is
sent again by another: a receiver may get a message twice, with the same ``webhook-id``. While Redis is away nothing is
sent. Thread: loop.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import aiohttp
import structlog
from yarl import URL

from gateway.errors import ConfigError, StoreError
from gateway.redact import Redactor, secrets_in
from gateway.settings.sections import Settings
from gateway.settings.webhooks import WebhookEndpoint, WebhookEvent
from gateway.store.connection import FIRST_RETRY_S, LAST_RETRY_S, end_task
from gateway.store.reader import CallReader
from gateway.store.transcript import TranscriptEntry, transcript_of
from gateway.store.webhook_queue import Delivery, EventEntry, WebhookQueue
from gateway.tools.signing import sign, signing_key
from gateway.tools.webhook import http_session
from gateway.webhooks.addresses import AddressGuard
from gateway.webhooks.messages import Message, message_of, types_of
from gateway.webhooks.retries import Attempt, next_delay_s

AT_ONCE = 8
"""Attempts of one endpoint that are under way."""
LOOK_EVERY_S = 5.0
"""How often an endpoint's queue is looked into without a reason: another process may have put something there."""
LEASE_MORE_S = 30.0
"""How much longer than an attempt may take its delivery is nobody else's."""
MOST_DETAIL = 300

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def delivering(settings: Settings, name: str, reader: CallReader) -> AsyncIterator[None]:
    """
    Send webhooks inside this block; without an endpoint, or without a Redis of the operator's, nothing is done.

    Args:
        settings: all of them.
        name: of this process, unique among those that share the Redis.
        reader: gives records and events; open.

    Raises:
        ConfigError: a secret that can sign nothing.
    """
    endpoints = settings.webhooks.endpoints
    if not endpoints:
        yield
        return
    if settings.redis.url is None:
        _log.warning("webhooks_not_sent", detail="no Redis is configured (redis.url), so there are no events to tell")
        yield
        return
    _check(settings)
    async with AsyncExitStack() as stack:
        queue = await stack.enter_async_context(WebhookQueue(settings.redis, settings.webhooks))
        senders = [EndpointSender(each, settings, queue) for each in endpoints]
        for sender in senders:
            await stack.enter_async_context(sender)
        collecting = asyncio.create_task(Collector(name, queue, reader, senders).run(), name="webhooks")
        stack.push_async_callback(end_task, collecting)
        yield


def _check(settings: Settings) -> None:
    problems = []
    for name, endpoint in settings.webhooks.endpoints.items():
        try:
            signing_key(settings.secrets[endpoint.secret])
        except ValueError as error:
            problems.append(f"secrets.{endpoint.secret}: of webhooks.endpoints.{name}: {error}")
    if problems:
        raise ConfigError(*problems)


class EndpointSender:
    """
    Sends what waits for one endpoint, inside its ``async with`` block. Thread: loop.

    Args:
        name: of the endpoint.
        settings: all of them.
        queue: what waits.
    """

    def __init__(self, name: str, settings: Settings, queue: WebhookQueue) -> None:
        self.name = name
        self.endpoint: WebhookEndpoint = settings.webhooks.endpoints[name]
        self._settings = settings.webhooks
        self._secret = settings.secrets[self.endpoint.secret]
        self._redact = Redactor(secrets_in(settings))
        self._queue = queue
        self._wake = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> EndpointSender:
        """Begin to send."""
        guard = AddressGuard(self._settings.allow_private, encrypted=self.endpoint.url.scheme == "https")
        self._session = http_session(aiohttp.TCPConnector(limit=AT_ONCE, socket_factory=guard))
        self._task = asyncio.create_task(self._send_all(), name=f"webhooks to {self.name}")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop: what is under way is sent again later."""
        if self._task is not None:
            await end_task(self._task)  # first: it begins attempts
        for task in tuple(self._under_way):
            await end_task(task)
        if self._session is not None:
            await self._session.close()

    def look(self) -> None:
        """Look into the queue now: something was put there."""
        self._wake.set()

    async def _send_all(self) -> None:
        outage = _Outage(self.name)
        while True:
            self._wake.clear()
            try:
                wait_s = await self._send_due() if len(self._under_way) < AT_ONCE else LOOK_EVERY_S
            except StoreError as error:
                await outage.wait(error)
                continue
            outage.over()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    async def _send_due(self) -> float:
        """Begin an attempt with each delivery whose turn has come; return the seconds until the next one's."""
        lease_s = self.endpoint.timeout_s + LEASE_MORE_S
        due, next_s = await self._queue.claim(self.name, AT_ONCE - len(self._under_way), lease_s)
        for delivery in due:
            task = asyncio.create_task(self._deliver(delivery), name=f"webhook {delivery.id}")
            self._under_way.add(task)
            task.add_done_callback(self._attempted)
        return LOOK_EVERY_S if next_s is None else min(next_s, LOOK_EVERY_S)

    def _attempted(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._wake.set()

    async def _deliver(self, delivery: Delivery) -> None:
        """Make one attempt, and say what becomes of the delivery."""
        attempt = await self._attempt(delivery)
        told = {"endpoint": self.name, "message": delivery.message_id, "call_id": delivery.call_id}
        try:
            if attempt.arrived:
                await self._queue.done(delivery)
                _log.debug("webhook_delivered", **told, attempts=delivery.attempts)
                return
            problem = self._redact(attempt.problem)[:MOST_DETAIL]
            delay_s = next_delay_s(attempt, delivery.attempts, self._settings, now=time.time(), chance=random.random)
            if delay_s is None:
                await self._queue.bury(delivery, problem)
                _log.error("webhook_given_up", **told, attempts=delivery.attempts, detail=problem)
            else:
                await self._queue.again(delivery, problem, delay_s)
                _log.warning(
                    "webhook_failed", **told, attempts=delivery.attempts, detail=problem, again_s=round(delay_s)
                )
        except StoreError as error:
            _log.warning("webhook_unsettled", **told, detail=f"{error}; it is sent again later")

    async def _attempt(self, delivery: Delivery) -> Attempt:
        if self._session is None:
            raise RuntimeError("the sender is not open")
        body = delivery.body.encode()
        headers = {"Content-Type": "application/json", **self._signature(delivery, body)}
        if delivery.traceparent:
            headers["traceparent"] = delivery.traceparent
        url = URL(str(self.endpoint.url), encoded=True)
        try:
            async with (
                asyncio.timeout(self.endpoint.timeout_s),
                self._session.post(url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                return Attempt(response.status, retry_after=response.headers.get("Retry-After", ""))
        except TimeoutError:
            return Attempt(0, f"no answer within {self.endpoint.timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Attempt(0, f"{type(error).__name__}: {error}")

    def _signature(self, delivery: Delivery, body: bytes) -> dict[str, str]:
        return sign(self._secret, body, message_id=delivery.message_id, at=time.time())


class Collector:
    """
    Puts a delivery into the queue for each message that an endpoint wants. Thread: loop.

    Args:
        name: of this process.
        queue: gives the events and takes the deliveries.
        reader: gives records and transcripts.
        senders: of all endpoints.
    """

    def __init__(self, name: str, queue: WebhookQueue, reader: CallReader, senders: Sequence[EndpointSender]) -> None:
        self._name = name
        self._queue = queue
        self._reader = reader
        self._senders = senders
        self._wanted = frozenset(kind for sender in senders for kind in sender.endpoint.events)

    async def run(self) -> None:
        """Collect for ever."""
        outage = _Outage("events")
        while True:
            try:
                await self._take(await self._queue.entries(self._name))
                outage.over()
            except StoreError as error:
                await outage.wait(error)

    async def _take(self, entries: Sequence[EventEntry]) -> None:
        unwanted = []
        for entry in entries:
            kinds = [kind for kind in types_of(entry.fields) if kind in self._wanted]
            messages = await self._messages(entry, kinds)
            if not messages:
                unwanted.append(entry)
                continue
            deliveries = [
                Delivery(f"{each.id}.{sender.name}", sender.name, each.id, *_told(each))
                for each in messages
                for sender in self._senders
                if each.type in sender.endpoint.events
            ]
            if await self._queue.put(entry, deliveries):
                for sender in self._senders:
                    sender.look()
        await self._queue.skip(unwanted)

    async def _messages(self, entry: EventEntry, kinds: Sequence[WebhookEvent]) -> list[Message]:
        if not kinds:
            return []
        call_id = entry.fields.get("call_id", "")
        record = await self._reader.call(call_id)
        known = record.to_hash() if record is not None else {}
        try:
            said = await self._transcript(call_id) if "call.transcript" in kinds else ()
            made = [message_of(kind, entry.id, entry.fields, known, said) for kind in kinds]
        except (ValueError, KeyError) as error:  # an entry that something else wrote must not stop the others
            _log.warning("webhook_event_unreadable", entry=entry.id, call_id=call_id, detail=str(error)[:MOST_DETAIL])
            return []
        return [message for message in made if message is not None]

    async def _transcript(self, call_id: str) -> tuple[TranscriptEntry, ...]:
        events: list[dict[str, str]] = []
        after = "0"
        while entries := await self._reader.events_of(call_id, after):
            events += [entry.fields for entry in entries]
            after = entries[-1].id
        return transcript_of(events)


class _Outage:
    """Redis is away: told once, waited for with growing delays."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._delay_s = 0.0

    async def wait(self, error: StoreError) -> None:
        """Wait until the next attempt."""
        if not self._delay_s:
            _log.warning("webhooks_wait_for_redis", where=self._where, detail=str(error))
        self._delay_s = min(max(FIRST_RETRY_S, 2 * self._delay_s), LAST_RETRY_S)
        await asyncio.sleep(self._delay_s)

    def over(self) -> None:
        """Begin anew at the next one."""
        self._delay_s = 0.0


def _told(message: Message) -> tuple[str, str, str, str]:
    return message.type, message.call_id, message.body, message.traceparent
