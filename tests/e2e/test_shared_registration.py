"""Two workers behind an edge, of which one registers: killed, cut off, drained."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.lab.callers.gateway_process import on_loopback
from gateway.store.trunk_leases import LEASE_S, RENEW_S
from tests.rigs.house import DIALPLAN
from tests.rigs.redis_server import RedisServer
from tests.rigs.registrar import Register, Registrar, registrar
from tests.rigs.waiting import until
from tests.rigs.warm import WarmGateway

pytestmark = pytest.mark.e2e

NOWHERE = "ws://127.0.0.1:9/v1/realtime"
CONTACT = "<sip:line1@192.0.2.1:5080>"


@dataclass
class Fleet:
    """Two workers, the registrar that is their edge too, and the Redis they share."""

    workers: list[WarmGateway]
    registrar: Registrar
    redis: RedisServer

    async def holder(self, *, after: float = 0.0) -> WarmGateway:
        """Return the worker that sent a REGISTER after a moment (monotonic seconds); waits for it."""
        await until(lambda: self._since(after), what="a REGISTER")
        return next(each for each in self.workers if each.port == self._since(after)[-1].port)

    def other(self, than: WarmGateway) -> WarmGateway:
        return next(each for each in self.workers if each is not than)

    def _since(self, moment: float) -> list[Register]:
        return [each for each in self.registrar.seen if each.at > moment]

    @property
    def removals(self) -> list[Register]:
        """Those that removed the binding."""
        return [each for each in self.registrar.seen if each.expires == 0]


@asynccontextmanager
async def fleet(folder: Path, granted_s: int = 60) -> AsyncIterator[Fleet]:
    plan = folder / "plan.yaml"
    plan.write_text(DIALPLAN.format(profile=""))
    redis = RedisServer(tcp=True)
    try:
        async with registrar(granted_s) as carrier, AsyncExitStack() as workers:
            at = f"127.0.0.1:{carrier.port}"
            trunk = {"host": at, "register": True, "username": "line1", "password_from": "carrier"}
            given = {
                "GATEWAY_TRUNKS": json.dumps({"carrier": trunk}),
                "GATEWAY_SECRETS__CARRIER": "a-plain-password",
                "GATEWAY_SIP__EDGES": "127.0.0.1",
                "GATEWAY_SIP__EDGE": at,
                "GATEWAY_SIP__EDGE_CONTACT": "192.0.2.1:5080",
                "GATEWAY_REDIS__URL": redis.url,
            }
            made = [WarmGateway(on_loopback(plan, NOWHERE) | given) for _ in range(2)]
            for each in made:
                await workers.enter_async_context(each)
            yield Fleet(made, carrier, redis)
    finally:
        redis.close()


def signal_to(worker: WarmGateway, number: int) -> float:
    """Send a signal and return the moment."""
    assert worker.pid
    os.kill(worker.pid, number)
    return time.monotonic()


async def test_one_registers_the_edge_and_the_other_follows_when_it_is_killed(tmp_path: Path) -> None:
    async with fleet(tmp_path) as here:
        holder = await here.holder()
        other = here.other(holder)
        first = here.registrar.seen[-1]
        assert (first.contact, first.expires) == (CONTACT, 300)
        assert first.message.uri == f"sip:127.0.0.1:{here.registrar.port}"
        assert f"<sip:127.0.0.1:{here.registrar.port};lr>" in first.message.first("route")
        await asyncio.sleep(RENEW_S)
        assert {each.port for each in here.registrar.seen} == {holder.port}  # the other keeps quiet
        killed_at = signal_to(holder, signal.SIGKILL)
        assert await here.holder(after=killed_at) is other
        second = here.registrar.seen[-1]
        print(f"taken over {second.at - killed_at:.1f} s after the holder was killed")
        assert second.contact == CONTACT
        assert second.message.call_id != first.message.call_id
        await asyncio.sleep(LEASE_S)  # until the one that was killed wants nothing any more
        signal_to(other, signal.SIGTERM)
        await other.wait(40)
        (last,) = here.removals
        assert (last.port, last.contact) == (other.port, CONTACT)


async def test_a_holder_that_drains_hands_over_at_once_and_leaves_the_binding_alone(tmp_path: Path) -> None:
    async with fleet(tmp_path) as here:
        holder = await here.holder()
        await asyncio.sleep(RENEW_S)
        drained_at = signal_to(holder, signal.SIGTERM)
        assert await here.holder(after=drained_at) is here.other(holder)
        print(f"handed over {here.registrar.seen[-1].at - drained_at:.1f} s after the holder began to drain")
        await holder.wait(40)
        assert here.removals == []


async def test_when_all_end_at_once_the_binding_is_removed(tmp_path: Path) -> None:
    async with fleet(tmp_path) as here:
        await here.holder()
        await asyncio.sleep(RENEW_S)
        for each in here.workers:
            signal_to(each, signal.SIGTERM)
        for each in here.workers:
            await each.wait(40)
        assert here.registrar.seen[-1].expires == 0
        assert len(here.removals) == 1


async def test_cut_off_from_redis_nobody_registers_and_afterwards_one_does(tmp_path: Path) -> None:
    async with fleet(tmp_path, granted_s=2) as here:  # renewed each second
        await here.holder()
        here.redis.pause()
        paused_at = time.monotonic()
        await asyncio.sleep(LEASE_S + 3)
        assert here.registrar.seen[-1].at < paused_at + LEASE_S
        here.redis.resume()
        resumed_at = time.monotonic()
        await here.holder(after=resumed_at)
        print(f"registered again {here.registrar.seen[-1].at - resumed_at:.1f} s after Redis was back")
        count = len(here.registrar.seen)
        await until(lambda: len(here.registrar.seen) > count + 3)
        assert len({each.port for each in here.registrar.seen[count:]}) == 1
        assert here.removals == []
