from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateway.child_process import ChildProcess
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.lab.speech import agent_sentences
from tests.fakes.realtime import PCMU, RawClient, connected, read_wav
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

QUICK = SimulatorOptions(speed=1000.0, think_ms=0)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(QUICK) as running:
        yield running


async def test_nothing_but_a_full_session_created_comes_first(simulator: Simulator) -> None:
    async with connected(simulator, "?model=gpt-realtime-2.1", **{"OpenAI-Safety-Identifier": "hash"}) as client:
        session = client.events[0]["session"]
        assert session["audio"]["output"] == {
            "format": {"type": "audio/pcm", "rate": 24000},
            "voice": "marin",
            "speed": 1.0,
        }
        assert session["audio"]["input"]["transcription"] is None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.socket.recv()
        updated = await client.configure(audio={"input": {"format": PCMU}, "output": {"voice": "cedar"}})
        assert updated["session"]["id"] == session["id"]
        assert updated["session"]["audio"]["input"]["format"] == PCMU
        assert updated["session"]["audio"]["output"]["voice"] == "cedar"
    seen = await simulator.connection(1)
    await seen.wait_closed()
    assert (seen.model, seen.safety_identifier, seen.violations) == ("gpt-realtime-2.1", "hash", [])
    assert (seen.close_code, seen.closed_by) == (1000, "client")
    assert [event.type for event in seen.events] == ["session.update"]


@pytest.mark.parametrize(
    ("query", "headers", "code", "close"),
    [
        ("?model=gpt-realtime", {"Authorization": "Bearer wrong"}, "invalid_api_key", 3000),
        ("?model=gpt-realtime", {"Authorization": ""}, None, 3000),
        ("?model=gpt-9", {}, "invalid_model", 4000),
        ("?model=gpt-live-1", {}, "invalid_model", 4000),
        ("", {}, "missing_model", 4000),
        ("?model=gpt-realtime", {"OpenAI-Beta": "realtime=v1"}, "beta_api_shape_disabled", 4000),
        ("?model=gpt-realtime&fault=refuse=invalid_model", {}, "invalid_model", 4000),
    ],
)
async def test_refusals_come_after_the_upgrade(
    query: str, headers: dict[str, str], code: str | None, close: int
) -> None:
    async with Simulator(SimulatorOptions(key="sk-right")) as simulator:
        sent = {"Authorization": "Bearer sk-right"} | headers
        sent = {name: value for name, value in sent.items() if value}
        async with connect(simulator.url + query, additional_headers=sent) as socket:
            client = RawClient(socket)
            event = await client.next()
            assert event["type"] == "error"
            assert (event["error"]["code"], event["error"]["event_id"]) == (code, None)
            reason = "invalid_request_error" + (f".{code}" if code else "")
            assert await client.closed() == (close, reason)
        seen = await simulator.connection(1)
        await seen.wait_closed()
        assert seen.refused == (code or "no_authorization")
        assert seen.closed_by == "simulator"


@pytest.mark.parametrize(
    ("query", "status"),
    [("?model=gpt-realtime&fault=http=503", 503), ("?call_id=rtc_1", 404), ("?model=gpt-realtime&fault=explode", 400)],
)
async def test_some_refusals_are_http(simulator: Simulator, query: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as caught:
        await connect(simulator.url + query).__aenter__()
    assert caught.value.response.status_code == status
    assert json.loads(caught.value.response.body or b"")["error"]["type"] == "invalid_request_error"


async def test_frames_that_are_no_events_are_survived(simulator: Simulator) -> None:
    async with connected(simulator) as client:
        for frame, code in (("{", "invalid_json"), (b"{}", "invalid_event"), ("[]", "invalid_event")):
            await client.socket.send(frame)
            assert (await client.next())["error"]["code"] == code
        await client.configure()


async def test_early_audio_is_noted_and_read_as_24_khz_pcm(simulator: Simulator) -> None:
    async with connected(simulator) as client:
        await client.append(bytes(960))
        await client.append(bytes(960))
        await client.configure()
        await client.append(bytes(960))
    seen = await simulator.connection(1)
    await seen.wait_closed()
    assert seen.violations == ["audio before session.updated"]
    assert seen.heard == bytes(3 * 960)


@pytest.mark.parametrize(
    ("fault", "code", "reason", "error"),
    [
        ("close=0.05", 1000, "", None),
        ("close=0.05:1012", 1012, "", None),
        ("drop=0.05", 1006, "", None),
        ("server_error=0.05", 1011, "", "server_error"),
        ("expire=0.05", 1001, "session_expired", "session_expired"),
    ],
)
async def test_sessions_end_as_the_fault_says(
    simulator: Simulator, fault: str, code: int, reason: str, error: str | None
) -> None:
    async with connected(simulator, f"?model=gpt-realtime&fault={fault}") as client:
        assert await client.closed() == (code, reason)
        assert [event["error"]["code"] for event in client.events[1:]] == ([error] if error else [])
    seen = await simulator.connection(1)
    await seen.wait_closed()
    assert seen.closed_by == "simulator"
    assert seen.violations == []


async def test_session_updated_may_never_come_or_late(simulator: Simulator) -> None:
    async with connected(simulator, "?model=gpt-realtime&fault=silent") as client:
        await client.send("session.update", session={"type": "realtime"})
        assert (await client.refused("response.cancel"))["code"] == "response_cancel_not_active"
        assert "session.updated" not in client.types()
    async with connected(simulator, "?model=gpt-realtime&fault=slow=0.3") as client:
        began = time.monotonic()
        await client.configure()
        assert time.monotonic() - began >= 0.29


async def test_a_client_that_vanishes_is_told_from_one_that_closes(simulator: Simulator) -> None:
    for configured, violations in ((True, ["left without CLOSE"]), (False, [])):
        async with connected(simulator) as client:
            if configured:
                await client.configure()
            client.socket.transport.abort()
        seen = simulator.connections[-1]
        await seen.wait_closed()
        assert (seen.close_code, seen.closed_by, seen.violations) == (1006, "client", violations)


async def test_stopping_closes_open_clients_and_frees_the_port() -> None:
    began = asyncio.all_tasks()
    async with Simulator(SimulatorOptions(think_ms=60_000)) as simulator:
        port = simulator.port
        client_side = connected(simulator)
        client = await client_side.__aenter__()
        await client.configure()
        await client.send("response.create")
        await client.next("response.created")
    assert (await client.closed())[0] == 1001
    await client_side.__aexit__(None, None, None)
    assert not simulator.connections[0].open
    assert asyncio.all_tasks() == began
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


async def test_recordings_are_written_at_the_end(tmp_path: Path) -> None:
    told: list[str] = []

    def note(what: str) -> Callable[[Any], None]:
        return lambda connection: told.append(f"{what} {connection.number}")

    options = SimulatorOptions(speed=1000, think_ms=0, record_dir=tmp_path)
    async with Simulator(options, on_opened=note("opened"), on_closed=note("closed")) as simulator:
        async with connected(simulator) as client:
            await client.configure()
            await client.append(bytes(4800))
            await client.send("response.create")
            await client.next("response.done")
        await (await simulator.connection(1)).wait_closed()
    assert told == ["opened 1", "closed 1"]
    assert read_wav(tmp_path / "0001-heard.wav") == bytes(4800)
    assert read_wav(tmp_path / "0001-spoken.wav") == agent_sentences()[0].pcm24k


async def test_the_command_tells_each_session_and_stops_on_sigterm() -> None:
    command = ("-m", "gateway.cli.main", "simulator", "--port", "0", "--think-ms", "0", "--speed", "1000")
    async with ChildProcess(sys.executable, *command, stop_limit_s=40) as process:
        url = (await process.find(r"ws://\S+", 40))[0]
        sent = {"Authorization": "Bearer any"}
        async with connect(url + "?model=gpt-realtime", additional_headers=sent) as socket:
            client = RawClient(socket)
            await client.next("session.created")
            await client.configure()
            await client.refused("response.cancel")
        await process.find("closed by client with 1000", 40)
    assert process.exit_code == 0
    _, opened, closed, stopped = process.lines
    assert opened.startswith("session 1 opened: gpt-realtime, sess_")
    assert "violations: response.cancel: response_cancel_not_active" in closed
    assert stopped == "Realtime simulator stopped"


async def test_a_client_that_hangs_up_behind_its_request_leaves_nothing_open(simulator: Simulator) -> None:
    upgrade = (
        "GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    for _ in range(50):  # now and then its request is read after its end
        _, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        writer.write(upgrade.encode())
        writer.transport.abort()
    await until(lambda: all(not connection.open for connection in simulator.connections))
