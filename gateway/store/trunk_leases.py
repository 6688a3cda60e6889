"""
Which worker of many registers a trunk: a lease for each, in Redis, with a fencing token.

A lease is a hash: who has it, a token that grows with each holder, and until when by Redis's own clock. One script
(``lua.HOLD``) renews what a worker has and takes what is free; every worker runs it every ``RENEW_S``, so a lease
whose holder died is another's ``LEASE_S`` after its last renewal, or the next worker's turn later. The holder counts
its own time from before it asked, on its own monotonic clock, and less ``MARGIN_S``: cut off from Redis, it stops
before anybody else can begin.

What the holder says of the trunk is written by the same script, which compares the token: a holder that was late writes
nothing. Workers that want a trunk are in a sorted set beside the lease, until they leave or their time is over. So
whoever leaves last learns that nobody is left (``lua.LEAVE``), keeps the lease and removes the trunk's binding; anybody
before frees it at once.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

import structlog

from gateway.errors import StoreError
from gateway.settings.sections import RedisSettings
from gateway.store.calls import RedisCallStore
from gateway.store.connection import whole_ms
from gateway.store.keys import key_of
from gateway.store.lua import HOLD, LEAVE, RELEASE
from gateway.store.record import as_text
from gateway.store.worker_states import index_key
from gateway.threads import runs_on

LEASE_S, RENEW_S, MARGIN_S = 4.5, 1.5, 1.0
ASK_LIMIT_S = 1.0
"""Redis is waited for as long; what it did all the same, the next turn finds."""
KEPT_S = 86400.0
"""How long a lease without a holder remembers its token."""

_log = structlog.stdlib.get_logger(__name__)


class TrunkLeases:
    """
    The leases of one worker; an asynchronous context, inside the store's. Thread: loop.

    Args:
        store: open; what reaches Redis.
        settings: the prefix, and how long a state is kept.
        worker: name of this worker.
        trunks: those that it would register.
        hold: told at each renewal that a trunk is this worker's, and until when by the monotonic clock.
        let_go: told that a trunk is not this worker's any more; nobody tells when time alone takes it.
        clock: monotonic seconds, the ones that ``hold`` is understood in.
        now: Unix seconds.
    """

    def __init__(
        self,
        store: RedisCallStore,
        settings: RedisSettings,
        worker: str,
        trunks: Collection[str],
        *,
        hold: Callable[[str, float], None],
        let_go: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._prefix = settings.prefix
        self._state_ms = whole_ms(max(settings.expiry_s, LEASE_S))
        self._worker = worker
        self._holder = f"{worker} {secrets.token_hex(8)}"
        self._trunks = tuple(trunks)
        self._hold, self._let_go = hold, let_go
        self._clock, self._now = clock, now
        self._tokens: dict[str, int] = {}
        self._states: dict[str, dict[str, str]] = {}
        self._wake = asyncio.Event()
        self._away = self._left = False
        self._task: asyncio.Task[None] | None = None

    @property
    def held(self) -> Mapping[str, int]:
        """The trunks that Redis gave this worker at last -> the token of each."""
        return self._tokens

    async def __aenter__(self) -> Self:
        """Begin to ask for leases, and to renew them."""
        self._task = asyncio.create_task(self._renew_all_the_time(), name="trunk leases")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free what is left, for at most a second."""
        await self._stop()
        await self.release()

    @runs_on("loop")
    def note(self, trunk: str, **fields: str | int | float) -> None:
        """Put a new state of a trunk in the place of the old one; it is written while the trunk is this worker's."""
        whole = {**fields, "trunk": trunk, "worker": self._worker, "at": self._now()}
        self._states[trunk] = {name: as_text(value) for name, value in whole.items()}
        self._wake.set()

    async def leave(self) -> dict[str, float]:
        """
        Ask for no lease any more, and free those there are, but for trunks that no other worker would register.

        Returns:
            These, and until when they are this worker's, by the monotonic clock; ``release`` frees them. None of
            them when Redis does not answer: perhaps others are there.
        """
        await self._stop()
        tokens = await self._run(LEAVE, (self._holder, whole_ms(LEASE_S), whole_ms(KEPT_S)))
        until = self._asked_at + LEASE_S - MARGIN_S
        self._tokens = {trunk: token for trunk, token in zip(self._trunks, tokens, strict=False) if token}
        return dict.fromkeys(self._tokens, until)

    async def release(self) -> None:
        """Free the leases there are."""
        if self._tokens:
            await self._run(RELEASE, (self._holder, index_key(self._prefix, "trunk")))
            self._tokens = {}

    async def _stop(self) -> None:
        self._left = True  # Python 3.11's wait_for, which redis-py sends with, may swallow the cancellation
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _renew_all_the_time(self) -> None:
        while not self._left:
            self._wake.clear()
            await self._renew()
            with suppress(TimeoutError):
                # Each worker has its turn at another moment: a lease that falls free soon finds one.
                async with asyncio.timeout(RENEW_S * random.uniform(0.7, 1)):
                    await self._wake.wait()

    async def _renew(self) -> None:
        words = [self._holder, whole_ms(LEASE_S), whole_ms(KEPT_S), self._state_ms, index_key(self._prefix, "trunk")]
        for trunk in self._trunks:
            state = [word for pair in self._states.get(trunk, {}).items() for word in pair]
            words += [str(self._tokens.get(trunk, 0)), str(len(state)), *state]
        tokens = await self._run(HOLD, words)
        if not tokens or self._left:
            return
        for trunk, token in zip(self._trunks, tokens, strict=True):
            if token:
                if self._tokens.get(trunk) != token:
                    _log.info("trunk_lease_taken", trunk=trunk, token=token)
                    self._states.pop(trunk, None)  # of before; what comes of it now is told soon
                self._tokens[trunk] = token
                self._hold(trunk, self._asked_at + LEASE_S - MARGIN_S)
            elif self._tokens.pop(trunk, None):
                _log.warning("trunk_lease_lost", trunk=trunk)
                self._let_go(trunk)

    async def _run(self, script: str, words: Collection[str]) -> list[int]:
        """Run a script on the keys of all trunks; nothing comes back while Redis is away."""
        keys = [key for trunk in self._trunks for key in self._keys(trunk)]
        self._asked_at = self._clock()
        try:
            async with asyncio.timeout(ASK_LIMIT_S):
                tokens = await self._store.run(script, keys, list(words))
        except (StoreError, TimeoutError) as error:
            if not self._away:
                self._away = True
                detail = "trunks are registered by nobody, or by another worker, until Redis is back"
                _log.error("trunk_leases_not_renewed", error=str(error) or "no answer in time", detail=detail)
            return []
        if self._away:
            self._away = False
            _log.warning("trunk_leases_renewed_again")
        return [int(token) for token in tokens]

    def _keys(self, trunk: str) -> tuple[str, str, str]:
        """Return the lease, the set of who wants it, and the trunk's state."""
        lease = key_of(self._prefix, "registrar", trunk)
        return lease, f"{lease}:wanted", key_of(self._prefix, "trunk", "registrar", trunk)
