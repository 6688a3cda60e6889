"""Half-open connections: they stand, and nothing moves on them. And what must not be taken for one."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import socket
import ssl
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.client import ClientProtocol
from websockets.frames import Opcode

from gateway.call.events import AgentAway, AgentBack, AgentReady
from gateway.child_process import ChildProcess
from gateway.dialplan.model.agent import AgentProfile
from gateway.errors import AgentLost
from gateway.settings.sections import RealtimeSettings
from gateway.upstream import link as realtime_socket
from tests.fakes.raw_peer import RawPeer, clogged, tunnelling
from tests.fakes.realtime_service import Call, Json, calling, make_ready, serving, until_closed
from tests.rigs.tls import self_signed
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

QUICK: Json = {"ping_interval_s": 0.05, "ping_timeout_s": 0.3}
COMING_BACK = AgentProfile.model_validate(
    {"instructions": "Be brief.", "on_loss": {"action": "reconnect", "give_up_after_s": 60}}
)
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT and socket filters are Linux's")


def test_a_half_open_connection_is_known_within_ten_seconds() -> None:
    settings = RealtimeSettings()
    looks = settings.ping_timeout_s / realtime_socket.LOOKS  # before the pause between two PINGs begins

    assert looks + settings.ping_interval_s + settings.ping_timeout_s < 9
    assert realtime_socket.STALL_LIMIT_S < 9


@asynccontextmanager
async def reached(way: str, peer: RawPeer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Call]:
    """Have a ready agent in a call with a peer, over TLS or through a proxy if the way says so."""
    async with AsyncExitStack() as stack:
        tls, settings = None, dict(QUICK)
        if "TLS" in way:
            own = self_signed(folder)
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(own.certificate, own.key)
            trust = ssl.create_default_context(cafile=own.certificate)
            monkeypatch.setattr(realtime_socket, "_tls_context", lambda: trust)
        if "proxy" in way:
            settings["proxy"] = await stack.enter_async_context(tunnelling([]))
        url = await stack.enter_async_context(peer.serving(tls))
        call = await stack.enter_async_context(calling(url, **settings))
        await peer.make_ready()
        assert isinstance(await call.event(), AgentReady)
        yield call


def connection_of(call: Call) -> ClientConnection:
    session = call.agent._sessions.current
    assert session is not None
    assert session._connection is not None
    return session._connection


@pytest.mark.parametrize("way", ["plain", "TLS", "proxy", "TLS and proxy"])
async def test_a_peer_that_reads_but_answers_no_ping_is_lost(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = RawPeer()
    async with reached(way, peer, tmp_path, monkeypatch) as call:
        connected = connection_of(call).transport.get_extra_info("socket")
        if sys.platform == "linux":
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 300
        error = await call.error(1)

    assert isinstance(error, AgentLost)
    assert error.detail == "the service sent nothing for 0.3 s, not even an answer to a PING"
    assert [frame for frame in peer.frames if frame.opcode is Opcode.PING]


async def test_a_peer_that_never_answers_a_ping_but_goes_on_to_talk_is_there() -> None:
    peer = RawPeer()
    async with peer.serving() as url, calling(url, **QUICK) as call:
        await peer.make_ready()
        await call.event()
        for _ in range(40):  # three times the time-out
            peer.write(Opcode.TEXT, b'{"type": "rate_limits.updated", "rate_limits": []}')
            await asyncio.sleep(0.025)
        pings = [frame for frame in peer.frames if frame.opcode is Opcode.PING]

        assert len(pings) > 3
        assert len(call.events) == 1


async def test_without_an_interval_no_ping_is_sent() -> None:
    peer = RawPeer()
    async with peer.serving() as url, calling(url, **QUICK | {"ping_interval_s": 0}) as call:
        await peer.make_ready()
        await call.event()
        await asyncio.sleep(0.5)

        assert [frame for frame in peer.frames if frame.opcode is Opcode.PING] == []
        assert len(call.events) == 1


@asynccontextmanager
async def service_of_its_own() -> AsyncIterator[tuple[str, ChildProcess]]:
    """Run the simulator in a process of its own; gives its URL, too."""
    command = (sys.executable, "-m", "gateway", "simulator", "--port", "0")
    async with ChildProcess(*command, stop_signal=signal.SIGKILL) as process:
        yield (await process.find(r"ws://\S+", 40))[0], process


async def test_a_service_that_stopped_is_left_and_come_back_to() -> None:
    async with service_of_its_own() as (url, process):
        limits: Json = {"ping_interval_s": 0.5, "ping_timeout_s": 2, "connect_timeout_s": 1}
        async with calling(url, profile=COMING_BACK, **limits) as call:
            await call.first(AgentReady)
            process.send_signal(signal.SIGSTOP)
            away = await call.first(AgentAway)
            await call.note("agent_retry", 1)
            process.send_signal(signal.SIGCONT)
            await call.first(AgentBack)

    assert "sent nothing" in away.detail
    assert "cannot reach the service" in call.noted("agent_retry")[1]["detail"]


def drop_what_comes(connected: Any) -> None:
    """Let the kernel drop every packet that comes for a socket, unacknowledged, as if the network were gone."""
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET, no byte of it
    program = struct.pack("HP", 1, ctypes.addressof(drop_all))
    connected.setsockopt(socket.SOL_SOCKET, 26, program)  # SO_ATTACH_FILTER, socket(7)


@needs_linux
@pytest.mark.parametrize(("interval_s", "words"), [(0, "broke off"), (0.05, "sent nothing")], ids=["audio", "silence"])
async def test_a_network_that_drops_everything_is_noticed(interval_s: float, words: str) -> None:
    async def script(connection: ServerConnection) -> None:
        await make_ready(connection)
        drop_what_comes(connection.transport.get_extra_info("socket"))
        await until_closed(connection)

    limits = QUICK | {"ping_interval_s": interval_s}
    async with serving(script, ping_interval=None, close_timeout=0.1) as url, calling(url, **limits) as call:
        await call.event()
        await call.speak(5 if interval_s == 0 else 0)
        error = await call.error(1)

    assert isinstance(error, AgentLost)
    assert words in error.detail


async def test_a_loop_that_was_blocked_is_not_taken_for_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service lives on the same loop: while that is blocked no PONG can come."""
    limits: Json = {"ping_interval_s": 0.05, "ping_timeout_s": 0.5}
    send_ping, pings = ClientProtocol.send_ping, []

    def block(self: ClientProtocol, data: bytes) -> None:
        send_ping(self, data)
        pings.append(data)
        asyncio.get_running_loop().call_soon(time.sleep, 1)  # the PONG comes when the time-out is long over

    async def script(connection: ServerConnection) -> None:
        await make_ready(connection)
        await until_closed(connection)

    async with serving(script) as url, calling(url, **limits) as call:
        await call.event()
        monkeypatch.setattr(ClientProtocol, "send_ping", block)
        await until(lambda: len(pings) > 1)
        monkeypatch.undo()
        await asyncio.sleep(0.6)

        assert len(call.events) == 1


async def test_a_loop_that_is_blocked_when_there_is_room_again_is_not_taken_for_a_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(realtime_socket, "STALL_LIMIT_S", 0.5)
    peer = RawPeer()
    async with peer.serving() as url, calling(url) as call:
        await peer.make_ready()
        await call.event()
        session = await clogged(peer, call)
        peer.reading.set()
        time.sleep(1)  # noqa: ASYNC251 - that is the test
        await until(lambda: session.has_room)

        assert len(call.events) == 1


@needs_linux
@pytest.mark.parametrize("interval_s", [0, 0.05])
def test_a_network_that_is_gone_is_noticed_on_the_workers_event_loop(interval_s: float) -> None:
    words = "sent nothing" if interval_s else "broke off"
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test_a_network_that_drops_everything_is_noticed(interval_s, words))


@pytest.mark.parametrize("way", ["plain", "TLS and proxy"])
def test_each_way_is_the_same_on_the_workers_event_loop(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test_a_peer_that_reads_but_answers_no_ping_is_lost(way, tmp_path, monkeypatch))


def test_the_workers_event_loop_takes_its_own_delay_for_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test_a_loop_that_was_blocked_is_not_taken_for_a_loss(monkeypatch))
