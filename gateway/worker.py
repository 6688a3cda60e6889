"""One process that takes calls: builds every object once, runs until told to stop, and stops in order."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog

from gateway.audio.filler import load_filler
from gateway.audio.pcm import PHONE
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.uplink import Doorbell, UplinkTap
from gateway.call.events import IncomingInvite
from gateway.call.ports import TimerHandle
from gateway.costs import estimate
from gateway.dialplan.matcher import Route
from gateway.dialplan.model import Dialplan
from gateway.errors import ConfigError, StoreError
from gateway.realtime.client import RealtimeAgent
from gateway.realtime.secrets import SecretMinter
from gateway.sessions.embedded import EmbeddedRedis
from gateway.sessions.store import RedisSessionStore
from gateway.settings import RedisSettings, Settings
from gateway.sip.endpoint import SipInfo
from gateway.sip.thread import SipThread
from gateway.switchboard import CallParts, Switchboard
from gateway.threads import enter_role
from gateway.tools.check import check_tools
from gateway.tools.runner import OwnTools, own_definitions
from gateway.tools.webhook import WebhookClient

_log = structlog.get_logger(__name__)
UPLINK_CAPACITY_MS = 2000
_STORE_CLOSE_S = 2.0

NO_KEY = (
    "realtime.api_key: no key for the Realtime API: set OPENAI_API_KEY (or GATEWAY_REALTIME__API_KEY), "
    "or try the gateway without one: gateway serve --simulate"
)


class LoopClock:
    """Time as the running loop tells it."""

    def now(self) -> float:
        """Return Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return time.monotonic()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> TimerHandle:
        """Run ``callback`` on the loop after ``seconds``."""
        return asyncio.get_running_loop().call_later(seconds, callback)


class Worker:
    """
    The whole gateway in one process.

    Args:
        settings: all of them.
        dialplan: who answers which call.
        announce: takes the lines a person should see at start and stop.
    """

    def __init__(self, settings: Settings, dialplan: Dialplan, announce: Callable[[str], None]) -> None:
        if settings.realtime.api_key is None:
            raise ConfigError(NO_KEY)
        self._settings = settings
        self._dialplan = dialplan
        self._announce = announce
        check_tools(dialplan, settings.secrets)
        folder = settings.dialplan.parent
        self._fillers = {name: load_filler(agent.filler, folder) for name, agent in dialplan.agents.items()}
        self._plugins = {name: own_definitions(agent.tools) for name, agent in dialplan.agents.items()}
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self._stop_asked = asyncio.Event()
        self._stop_now = asyncio.Event()

    async def run(self) -> None:
        """
        Take calls until SIGTERM or SIGINT.

        The first signal drains: no new calls, live ones may finish within the limit and get a BYE then. A second one
        ends them at once.

        Raises:
            SipError: the SIP stack could not start, or failed later.
            StoreError: Redis could not be reached at start.
        """
        enter_role("loop")
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(self._store())
            webhooks = await stack.enter_async_context(WebhookClient())
            minter = await stack.enter_async_context(SecretMinter(self._settings.realtime))
            reaper = asyncio.create_task(self._reap(store), name="reaper")
            stack.push_async_callback(_cancelled, reaper)
            sip = SipThread(self._settings.sip, lambda event: switchboard.on_event(event))
            build = partial(self._build, sip, Doorbell(loop), webhooks, minter)
            switchboard = self._switchboard(sip, build, store)
            stack.push_async_callback(sip.stop)
            info = await sip.start()
            self._tell_ready(info)
            await self._until_stopped(sip, switchboard)

    def stop(self) -> None:
        """Ask for a drain; asked again, for the end."""
        (self._stop_now if self._stop_asked.is_set() else self._stop_asked).set()

    async def _until_stopped(self, sip: SipThread, switchboard: Switchboard) -> None:
        asked = asyncio.ensure_future(self._stop_asked.wait())
        await asyncio.wait((asked, sip.ended), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if self._stop_asked.is_set():
            limit_s = self._settings.call.drain_limit_s
            if switchboard.live_calls:
                self._announce(
                    f"stopping: no new calls; {switchboard.live_calls} may go on for {limit_s:g} s "
                    "(a second signal ends them at once)"
                )
            now = asyncio.ensure_future(self._stop_now.wait())
            drained = asyncio.ensure_future(switchboard.drain(limit_s))
            await asyncio.wait((now, drained), return_when=asyncio.FIRST_COMPLETED)
            for task in (now, drained):
                task.cancel()
        await switchboard.stop("the worker is shutting down")
        if sip.ended.done():
            sip.ended.result()

    async def _reap(self, store: RedisSessionStore) -> None:
        """Now and then end the records of calls whose worker died."""
        while True:
            try:
                for call_id in await store.reap_dead_calls():
                    _log.warning("call_orphaned", call_id=call_id, detail="its worker died")
            except StoreError as error:
                _log.debug("reaping_put_off", detail=str(error))
            await asyncio.sleep(self._settings.redis.expiry_s)

    @asynccontextmanager
    async def _store(self) -> AsyncIterator[RedisSessionStore]:
        settings = self._settings.redis
        async with AsyncExitStack() as stack:
            if settings.url is None:
                url = await stack.enter_async_context(EmbeddedRedis())
                settings = RedisSettings.model_validate({**settings.model_dump(), "url": url})
                self._announce(
                    f"no Redis is configured: sessions go to a private one that ends with the gateway ({url})"
                )
            store = RedisSessionStore(settings, self.name)
            await store.open()
            stack.push_async_callback(store.close, _STORE_CLOSE_S)
            yield store

    def _build(
        self,
        sip: SipThread,
        doorbell: Doorbell,
        webhooks: WebhookClient,
        minter: SecretMinter,
        invite: IncomingInvite,
        route: Route,
    ) -> CallParts:
        """Make everything one call needs."""
        settings, profile = self._settings, route.profile
        uplink = UplinkTap(capacity_frames=UPLINK_CAPACITY_MS // PHONE.ptime_ms)
        playout = PlayoutBuffer(PHONE, filler=self._fillers[route.agent_name])
        agent = RealtimeAgent(
            call_id=invite.call_id,
            settings=settings.realtime,
            profile=profile,
            uplink=uplink,
            playout=playout,
            caller=invite.from_uri,
            own_tools=self._plugins[route.agent_name],
            secrets=settings.secrets,
            minter=minter,
            doorbell=doorbell,
        )
        tools = OwnTools(
            call_id=invite.call_id,
            tool_set=profile.tools,
            secrets=settings.secrets,
            facts={"from": invite.from_uri, "to": invite.to_uri, "route": route.name},
            http=webhooks,
        )
        price = partial(estimate, prices=settings.prices.get(profile.model))
        return CallParts(sip.leg(invite.call_id, uplink, playout), agent, playout, tools, price)

    def _switchboard(
        self, sip: SipThread, build: Callable[[IncomingInvite, Route], CallParts], store: RedisSessionStore
    ) -> Switchboard:
        return Switchboard(
            dialplan=self._dialplan,
            limits=self._settings.call,
            build=build,
            refuse=sip.refuse,
            store=store,
            clock=LoopClock(),
            worker=self.name,
        )

    def _tell_ready(self, info: SipInfo) -> None:
        self._announce(f"pjsua2 {info.version}: this build holds {info.capacity} calls at once; more get 486 Busy Here")
        self._announce(
            f"ready: sip:{info.host}:{info.port} ({' and '.join(info.transports)}), worker {self.name}, "
            f"agents: {', '.join(self._dialplan.agents)}"
        )


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it is gone."""
    task.cancel()
    await asyncio.wait((task,))
