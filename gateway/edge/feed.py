"""Keeps a running Kamailio told of its workers: our own, or one that another service starts on this machine."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from gateway.edge.rpc import EdgeError, Rpc
from gateway.edge.workers import EdgeWorker, Place, orders, tables

_ALL_AGAIN_S = 10.0


class WorkerFeed:
    """
    Tells one Kamailio its workers.

    Args:
        control: its socket for JSON-RPC.
        key: as in its configuration.
        told: what its tables hold already, if they have the mark.
        mark: of an earlier feed that this one takes over from.

    Attributes:
        mark: tells a Kamailio that was told by us from one that was started anew.
        rpc: for other orders.

    Thread: loop.
    """

    def __init__(self, control: Path, key: str, told: dict[Place, str | int] | None = None, mark: str = "") -> None:
        self.rpc = Rpc(control)
        self._key = key
        self.mark = mark or secrets.token_hex(8)
        self._told = dict(told or {})
        self._all_again_at = 0.0
        self._turn = asyncio.Lock()

    @property
    def held(self) -> dict[Place, str | int]:
        """What a Kamailio that is about to start should hold from its first moment."""
        return {**self._told, ("edge", "mark"): self.mark}

    async def set_workers(self, workers: Sequence[EdgeWorker], *, growing: bool = False) -> None:
        """
        Replace the list of workers; in force when this returns. Calls of those that are still in it go on.

        A Kamailio that was started anew meanwhile is told everything. Where nothing has changed, the orders are few.

        Args:
            workers: all of them.
            growing: more are about to come: an INVITE that finds no room waits for them, up to a second.

        Raises:
            EdgeError: Kamailio does not answer.
        """
        async with self._turn:
            if not await self._is_the_same():
                await self.rpc.call("htable.sets", "edge", "mark", self.mark)
                self._told = {}
            told, now = self._told, asyncio.get_running_loop().time()
            if now > self._all_again_at:  # its own counts may have drifted from what workers report
                told = {place: value for place, value in told.items() if place[0] != "load"}
                self._all_again_at = now + _ALL_AGAIN_S
            wanted = tables(self._key, workers, growing=growing)
            await self.rpc.calls(orders(told, wanted, int(time.time())))
            self._told = wanted

    async def allow(self, addresses: Iterable[str], for_s: int) -> None:
        """Let trunks call from these addresses, which their names have now; raises as ``set_workers`` does."""
        await self.rpc.calls([("htable.setxi", "source", address, 1, for_s) for address in addresses])

    async def _is_the_same(self) -> bool:
        with suppress(EdgeError):
            found = await self.rpc.call("htable.get", "edge", "mark")
            return self.mark in str(found)
        return False
