"""Registers trunks behind an edge, while this worker is the one of all that does."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import Self

import structlog

from gateway.settings.sections import Settings
from gateway.sip.calls.accounts import TrunkChanged
from gateway.sip.thread import SipThread
from gateway.store.calls import RedisCallStore
from gateway.store.trunk_leases import TrunkLeases
from gateway.threads import runs_on

TAKE_OFF_S = 2.0
"""How long the answer to the last REGISTER is waited for."""

_log = structlog.get_logger(__name__)


class Registrar:
    """
    Passes leases to the SIP thread and the states of trunks to Redis; an asynchronous context. Thread: loop.

    Args:
        settings: all of them.
        store: open.
        sip: started before the context is entered, and stopped after it.
        worker: name of this worker.
    """

    def __init__(self, settings: Settings, store: RedisCallStore, sip: SipThread, worker: str) -> None:
        self._sip = sip
        self._trunks = [name for name, trunk in settings.trunks.items() if trunk.register_here]
        self._leases = TrunkLeases(
            store, settings.redis, worker, self._trunks, hold=sip.hold_trunk, let_go=sip.let_go_trunk
        )
        self._taking_off: set[str] = set()
        self._taken_off = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Begin to ask for leases."""
        await self._leases.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give leases back, without a word to the registrars."""
        await self._leases.__aexit__(kind, error, trace)

    @runs_on("loop")
    def note(self, change: TrunkChanged) -> bool:
        """Take a trunk's new state; False of one that every worker has for itself."""
        if change.trunk not in self._trunks:
            return False
        fields = asdict(change)
        self._leases.note(fields.pop("trunk"), **fields)
        if change.state in ("unregistered", "failed"):
            self._taking_off.discard(change.trunk)
            if not self._taking_off:
                self._taken_off.set()
        return True

    async def leave(self) -> None:
        """Hand the trunks over to other workers; where there is none, take their bindings off."""
        for trunk in self._trunks:
            self._sip.let_go_trunk(trunk)
        last = await self._leases.leave()
        self._taking_off = set(last)
        self._taken_off.clear()
        for trunk, until in last.items():
            _log.info("trunk_left", trunk=trunk, detail="no other worker registers it, so its binding is removed")
            self._sip.take_off_trunk(trunk, until)
        if last:
            with suppress(TimeoutError):
                async with asyncio.timeout(TAKE_OFF_S):
                    await self._taken_off.wait()
        await self._leases.release()
