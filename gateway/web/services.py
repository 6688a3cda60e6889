"""What the endpoints work with: made once for the process, given to each of them by ``services_of``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Protocol

from fastapi import Depends
from starlette.requests import HTTPConnection

from gateway.settings.sections import RedisSettings
from gateway.settings.web import WebSettings
from gateway.settings.webhooks import WebhooksSettings
from gateway.store.calls import RedisCallStore
from gateway.store.commands import CommandSender
from gateway.store.dial_keys import DialKeys
from gateway.store.reader import CallReader
from gateway.store.reload_requests import ReloadRequests
from gateway.store.web_sessions import WebSessions
from gateway.upstream.realtime.access.secrets import SecretMinter
from gateway.web.rates import Rates
from gateway.web.shown_plan import ShownPlan
from gateway.web.strangers import Strangers
from gateway.web.stream_slots import StreamSlots
from gateway.web.tokens import Tokens


class PlanInForce(Protocol):
    """The dialplan that this process follows."""

    @property
    def plan(self) -> ShownPlan:
        """The plan in force."""


@dataclass(frozen=True, slots=True)
class Services:
    """
    What the endpoints work with. Thread: loop.

    Attributes:
        web: where the API listens, and its limits.
        redis: where Redis is, for streams, which have connections of their own.
        store: what writes to Redis; open.
        reader: reads calls, and how workers and trunks are.
        tokens: who may ask.
        sessions: who logged in on the page.
        commands: has workers do things; open.
        dial_keys: idempotency keys of calls that were asked for.
        rates: how often they may ask.
        strangers: how many refusals are written down.
        streams: how many streams are open.
        reloads: has dialplans loaded.
        dialplan: the plan in force, and the path it is loaded from.
        minter: open; None when there is no API key.
        sessions_max: model -> the most sessions at once.
        webhooks: who is told what happens to calls.
        recordings, traces: folders that files of calls may be served from.
        stopping: set when the server is about to stop, so that streams end.
    """

    web: WebSettings
    redis: RedisSettings
    store: RedisCallStore
    reader: CallReader
    tokens: Tokens
    sessions: WebSessions
    commands: CommandSender
    dial_keys: DialKeys
    rates: Rates
    reloads: ReloadRequests
    dialplan: PlanInForce
    dialplan_path: Path
    minter: SecretMinter | None
    recordings: Path
    traces: Path
    sessions_max: Mapping[str, int] = field(default_factory=dict)
    webhooks: WebhooksSettings = field(default_factory=WebhooksSettings)
    strangers: Strangers = field(default_factory=Strangers)
    streams: StreamSlots = field(default_factory=StreamSlots)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


def services_of(connection: HTTPConnection) -> Services:
    """Return the services of the application that a request came to."""
    services: Services = connection.app.state.services
    return services


Served = Annotated[Services, Depends(services_of)]
