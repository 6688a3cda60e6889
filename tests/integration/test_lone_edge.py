"""Edges on machines of their own: real Kamailios that follow a real Redis; the workers are bare SIP peers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from gateway.child_process import ChildProcess
from gateway.cli.edge import CONTROL
from gateway.condition import State, WorkerCondition
from gateway.free_port import free_port
from gateway.settings.sections import RedisSettings
from gateway.settings.sources import environment_for_child
from gateway.store.registry import RegistryWriter
from tests.rigs.edge_process import KEY, EdgeProcess
from tests.rigs.fleet import descendants, is_running
from tests.rigs.kamailio import KAMAILIO
from tests.rigs.redis_server import RedisServer
from tests.rigs.sip_peer import SDP, Dialog, SipPeer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


class Host:
    """A machine with one worker, a bare SIP peer, and the entry it writes."""

    def __init__(self, peer: SipPeer, writer: RegistryWriter, name: str) -> None:
        self.peer = peer
        self._writer = writer
        self._name = name

    def tell(self, state: State = "ready", calls: int = 0, capacity: int = 4) -> None:
        self._writer.set_workers([WorkerCondition(self._name, state, calls, capacity, self.peer.address)])

    def die(self) -> None:
        """Write no more, without a farewell."""
        assert self._writer._task is not None
        self._writer._task.cancel()
        self._writer._workers = {}


@asynccontextmanager
async def host(settings: RedisSettings, name: str) -> AsyncIterator[Host]:
    async with SipPeer.udp() as peer, RegistryWriter(settings) as writer:
        probes = asyncio.create_task(answer_probes(peer))
        made = Host(peer, writer, name)
        made.tell()
        try:
            yield made
        finally:
            probes.cancel()


async def answer_probes(peer: SipPeer) -> None:
    """Answer the OPTIONS of edges, as workers do."""
    while True:
        peer.answer(await peer.take("OPTIONS", limit_s=600), 200)


async def workers_of(edge: EdgeProcess, count: int, **states: int) -> None:
    """Wait until the edge has so many workers in these states, as it logs it."""
    wanted = "".join(f"(?=.* {state}={number})" for state, number in states.items())
    await edge.find(rf"edge_workers{wanted}.* total={count}", 40)


async def call(caller: SipPeer, edge: EdgeProcess, worker: SipPeer) -> tuple[Dialog, Dialog]:
    """Have a call answered; return the dialog as the caller has it, and as the worker has it."""
    invite = caller.invite(edge.public)
    far = worker.answer(await worker.take("INVITE"), 200, body=SDP)
    near = invite.dialog(await invite.answered())
    near.request("ACK", cseq=1)
    await worker.take("ACK")
    return near, far


async def refused(caller: SipPeer, edge: EdgeProcess) -> bool:
    invite = caller.invite(edge.public)
    answer = await invite.answered(503)
    invite.acknowledge_refusal(answer)
    return bool(answer.first("Retry-After"))


async def test_an_edge_learns_workers_as_they_join_drain_and_leave(redis: RedisServer) -> None:
    settings = redis.settings()
    async with EdgeProcess(settings) as edge, SipPeer.udp() as caller:
        await workers_of(edge, 0)
        assert await refused(caller, edge)
        async with host(settings, "w1") as one:
            await workers_of(edge, 1, ready=1)
            near, far = await call(caller, edge, one.peer)
            one.tell("draining", calls=1)
            await workers_of(edge, 1, draining=1)
            assert await refused(caller, edge)
            near.request("INFO", headers=[("X-Test", "1")])
            one.peer.answer(await one.peer.take("INFO"), 200)
            await caller.take("SIP/2.0 200", method="INFO")
            far.request("BYE")
            caller.answer(await caller.take("BYE"), 200)
            await one.peer.take("SIP/2.0 200", method="BYE")
        assert await refused(caller, edge)
    assert edge.exit_code == 0, edge.output
    assert "edge stopped" in edge.output


async def test_a_worker_whose_host_died_gets_no_new_call_and_the_rest_go_on(redis: RedisServer) -> None:
    settings = redis.settings()
    async with (
        EdgeProcess(settings) as edge,
        SipPeer.udp() as caller,
        host(settings, "w1") as dead,
        host(settings, "w2") as alive,
    ):
        await workers_of(edge, 2, ready=2)
        dead.die()
        await workers_of(edge, 2, ready=1, draining=1)
        for _ in range(2):
            await call(caller, edge, alive.peer)
        assert not dead.peer.seen("INVITE")


async def test_calls_are_taken_while_redis_is_away_and_after_a_new_one_came(redis: RedisServer) -> None:
    settings = redis.settings()
    async with EdgeProcess(settings) as edge, SipPeer.udp() as caller, host(settings, "w1") as one:
        await workers_of(edge, 1, ready=1)
        redis.stop()
        await edge.find("registry_away", 40)
        await call(caller, edge, one.peer)
        redis.start()  # it kept nothing
        await edge.find("registry_is_back", 40)
        await call(caller, edge, one.peer)
        one.tell("draining")
        await workers_of(edge, 1, draining=1)
        assert await refused(caller, edge)
        assert "total=0" not in edge.output.partition("ready=1")[2]


async def test_kamailio_killed_is_started_again_and_calls_go_on(redis: RedisServer) -> None:
    settings = redis.settings()
    async with EdgeProcess(settings) as edge, SipPeer.udp() as caller, host(settings, "w1") as one:
        await workers_of(edge, 1, ready=1)
        near, _ = await call(caller, edge, one.peer)
        (kamailio,) = [pid for pid in descendants(edge.pid) if parent_of(pid) == edge.pid]
        os.kill(kamailio, signal.SIGKILL)
        await edge.find("edge_is_back", 40)
        near.request("BYE")
        one.peer.answer(await one.peer.take("BYE"), 200)
        await caller.take("SIP/2.0 200", method="BYE")
        await call(caller, edge, one.peer)
        tree = descendants(edge.pid)
    assert not [pid for pid in tree if is_running(pid)]


async def test_two_edges_share_the_workers_and_the_second_takes_over_the_calls_of_the_first(redis: RedisServer) -> None:
    settings, port = redis.settings(), free_port()
    shared = {"GATEWAY_SIP__PUBLIC_ADDRESS": "127.0.0.9", "GATEWAY_EDGE__INNER_PORT": str(free_port())}
    one_edge = EdgeProcess(settings, host="127.0.0.2", port=port, GATEWAY_EDGE__INNER_HOST="127.0.0.4", **shared)
    other_edge = EdgeProcess(settings, host="127.0.0.3", port=port, GATEWAY_EDGE__INNER_HOST="127.0.0.5", **shared)
    async with SipPeer.udp() as caller, host(settings, "w1") as one, one_edge as first, other_edge as second:
        await workers_of(first, 1, ready=1)
        await workers_of(second, 1, ready=1)
        near, _ = await call(caller, first, one.peer)
        await call(caller, second, one.peer)
        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: first.exit_code is not None)
        assert "127.0.0.9" in near.target  # the address that both share, now the second one's
        near.to = second.public
        near.request("BYE")
        one.peer.answer(await one.peer.take("BYE"), 200)
        await caller.take("SIP/2.0 200", method="BYE")


async def test_a_kamailio_of_another_service_is_told_the_workers(redis: RedisServer, tmp_path: Path) -> None:
    settings, port, control = redis.settings(), free_port(), tmp_path / "rpc.sock"
    given = {"GATEWAY_SIP__HOST": "127.0.0.1", "GATEWAY_SIP__PORT": str(port), "GATEWAY_EDGE__KEY": KEY}
    given |= {"GATEWAY_EDGE__INNER_PORT": str(free_port())}
    config = tmp_path / "kamailio.cfg"
    async with ChildProcess(
        *(sys.executable, "-m", "gateway", "edge", "config"), environment=environment_for_child(given), kept_lines=None
    ) as printed:
        await until(lambda: printed.exit_code == 0)
        await printed.stop()
        config.write_text(printed.output.replace(str(CONTROL), str(control)), encoding="utf-8")
    kamailio = (KAMAILIO, "-f", str(config), "-DD", "-E", "-m", "64", "-M", "8", "-P", str(tmp_path / "pid"))
    async with (
        ChildProcess(*kamailio, stop_limit_s=40),
        EdgeProcess(settings, "--control", str(control), port=port) as edge,
        SipPeer.udp() as caller,
        host(settings, "w1") as one,
    ):
        await workers_of(edge, 1, ready=1)
        near, _ = await call(caller, edge, one.peer)
        near.request("BYE")
        one.peer.answer(await one.peer.take("BYE"), 200)
        await caller.take("SIP/2.0 200", method="BYE")
        one.tell("draining")
        await workers_of(edge, 1, draining=1)
        assert await refused(caller, edge)


async def test_two_edges_that_fill_the_same_workers_at_once_refuse_no_call(redis: RedisServer) -> None:
    settings = redis.settings()
    async with AsyncExitStack() as stack:
        edges = [await stack.enter_async_context(EdgeProcess(settings)) for _ in range(2)]
        caller = await stack.enter_async_context(SipPeer.udp())
        hosts = [await stack.enter_async_context(host(settings, f"w{number}")) for number in range(8)]
        for each in hosts:
            each.tell(capacity=1)
            task = asyncio.create_task(take_one_call(each.peer))
            stack.callback(task.cancel)
        for edge in edges:
            await workers_of(edge, 8, ready=8)
        invites = [caller.invite(edges[number % 2].public) for number in range(8)]
        await until(lambda: {each.call_id for each in invites} == answered(caller))


async def take_one_call(peer: SipPeer) -> None:
    """Answer one call and refuse every other one for want of room."""
    peer.answer(await peer.take("INVITE"), 200, body=SDP)
    while True:
        peer.answer(await peer.take("INVITE", limit_s=600), 503)


def answered(caller: SipPeer) -> set[str]:
    """Return the Call-IDs of all calls that were answered."""
    return {each.first("Call-ID") for each in caller.packets if each.code == 200 and each.cseq_method == "INVITE"}


def parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])
