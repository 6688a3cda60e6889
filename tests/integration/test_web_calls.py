"""Calls over HTTP: lists, records, events as they happen, files, and their sound."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.audio.wav import write_wav
from gateway.ids import CallId
from gateway.store.audio import AudioBlock, AudioPublisher
from gateway.store.calls import RedisCallStore
from gateway.store.commands import Command, CommandAnswer, CommandInbox, done, refused
from gateway.web.call_files import SHORTEST_BUCKET_MS
from gateway.web.stream_slots import STREAMS_PER_CLIENT
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until
from tests.rigs.web_api import TOKENS, WebApi, opened, problem, serving

pytestmark = pytest.mark.integration

CALL = CallId("0197c0ffee0a1b2c3d4e5f")
READ = {"Authorization": f"Bearer {TOKENS['read']}"}
CONTROL = {"Authorization": f"Bearer {TOKENS['control']}"}


@pytest.fixture
async def api(redis: RedisServer, tmp_path: Path) -> AsyncIterator[WebApi]:
    async with serving(redis, tmp_path) as api:
        yield api


@pytest.fixture
async def worker(redis: RedisServer) -> AsyncIterator[RedisCallStore]:
    async with opened(redis, "w1") as store:
        yield store


async def written(api: WebApi, call_id: str, **fields: Any) -> dict[str, Any]:
    """Return a call when its record has these fields."""
    async with asyncio.timeout(40):
        while True:
            response = await api.ask("GET", f"/v1/calls/{call_id}", token="read")
            call = dict(response.json()) if response.status_code == 200 else {}
            if fields.items() <= call.items():
                return call
            await asyncio.sleep(0.02)


async def server_events(response: httpx.Response) -> AsyncIterator[tuple[str, str, Any]]:
    """Yield id, name and data of server-sent events."""
    found: dict[str, str] = {}
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if name:
            found[name] = value
        elif "data" in found:
            yield found.get("id", ""), found.get("event", ""), json.loads(found["data"])
            found = {}


async def test_live_calls_have_the_fields_of_their_records_typed(api: WebApi, worker: RedisCallStore) -> None:
    assert (await api.ask("GET", "/v1/calls", token="read")).json() == {"calls": []}
    worker.note(CALL, "invited", state="ringing", caller="+4930", setup_ms=7, cost_usd=0.25)
    await written(api, CALL, state="ringing")
    (call,) = (await api.ask("GET", "/v1/calls", token="read")).json()["calls"]
    told = {name: call[name] for name in ("call_id", "worker", "state", "caller", "setup_ms", "cost_usd")}
    assert told == {
        **{"call_id": CALL, "worker": "w1", "state": "ringing", "caller": "+4930"},
        **{"setup_ms": 7, "cost_usd": 0.25},
    }
    assert "end" not in call
    assert "called" not in call


async def test_an_ended_call_says_whose_fault_it_was(api: WebApi, worker: RedisCallStore) -> None:
    worker.note(CALL, "invited", state="ringing")
    worker.note(CALL, "ended", state="ended", end_reason="no_rtp")
    call = await written(api, CALL, state="ended")
    assert (await api.ask("GET", "/v1/calls", token="read")).json() == {"calls": []}
    assert set(call["end"]) == {"fault", "meaning", "cure"}
    reasons = (await api.ask("GET", "/v1/end-reasons", token="read")).json()["end_reasons"]
    (reason,) = (each for each in reasons if each["end_reason"] == "no_rtp")
    assert {**reason, **call["end"]} == reason


@pytest.mark.parametrize("call_id", ["none", "%2e%2e", "a/b", "x" * 65, "%00", "*"])
async def test_a_call_that_there_is_not_is_404_or_no_id_at_all(api: WebApi, call_id: str) -> None:
    for what in ("", "/events", "/events/stream", "/ladder", "/recording", "/bundle"):
        response = await api.ask("GET", f"/v1/calls/{call_id}{what}", token="read")
        assert problem(response)[0] in (404, 422)


async def test_events_come_from_the_beginning_and_after_any_of_them(api: WebApi, worker: RedisCallStore) -> None:
    for number in range(3):
        worker.note(CALL, "turn", turn_latency_ms=number, text="hé\nllo")
    worker.note(CallId("other"), "turn", turn_latency_ms=9)
    path = f"/v1/calls/{CALL}/events"
    async with asyncio.timeout(40):
        while len((await written(api, CALL)) and (await api.ask("GET", path, token="read")).json()["events"]) < 3:
            await asyncio.sleep(0.02)
    told = (await api.ask("GET", path, token="read")).json()
    assert [event["turn_latency_ms"] for event in told["events"]] == [0, 1, 2]
    assert {(event["event"], event["call_id"], event["text"]) for event in told["events"]} == {
        ("turn", CALL, "hé\nllo")
    }
    assert told["next"] == told["events"][-1]["id"]
    first = told["events"][0]["id"]
    later = (await api.ask("GET", path, token="read", params={"after": first})).json()["events"]
    assert [event["turn_latency_ms"] for event in later] == [1, 2]
    nothing = (await api.ask("GET", path, token="read", params={"after": told["next"]})).json()
    assert nothing == {"events": [], "next": told["next"]}
    for wrong in ("x", "$", "-1", "1-", "9" * 20, "\u0661"):
        assert problem(await api.ask("GET", path, token="read", params={"after": wrong}))[0] == 422


async def test_a_stream_of_a_call_begins_with_its_beginning_and_ends_with_it(
    api: WebApi, worker: RedisCallStore
) -> None:
    worker.note(CALL, "invited", state="ringing")
    await written(api, CALL)
    path = f"/v1/calls/{CALL}/events/stream"
    async with api.http.stream("GET", path, headers=READ) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        events = server_events(response)
        first = await anext(events)
        assert (first[1], first[2]["event"]) == ("event", "invited")
        worker.note(CALL, "turn", turn_latency_ms=5)
        assert (await anext(events))[2]["turn_latency_ms"] == 5
        worker.note(CALL, "ended", state="ended", end_reason="caller_hung_up")
        assert [event[2]["event"] async for event in events] == ["ended"]
    async with api.http.stream("GET", path, headers={**READ, "Last-Event-ID": first[0]}) as response:
        assert [event[2]["event"] async for event in server_events(response)] == ["turn", "ended"]


async def test_the_stream_of_all_calls_has_each_change_and_resumes(api: WebApi, worker: RedisCallStore) -> None:
    worker.note(CALL, "invited", state="ringing")
    await written(api, CALL)
    async with api.http.stream("GET", "/v1/calls/stream", headers=READ) as response:
        events = server_events(response)
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.5)
        worker.note(CALL, "answered", state="talking", setup_ms=7)
        event_id, name, change = await waiting
        assert (name, change["call_id"], change["state"], change["setup_ms"]) == ("call", CALL, "talking", 7)
        await events.aclose()  # type: ignore[attr-defined]
    worker.note(CALL, "held")
    async with api.http.stream("GET", "/v1/calls/stream", headers={**READ, "Last-Event-ID": event_id}) as response:
        async for _, _, change in server_events(response):
            assert change["event"] == "held"
            break


async def test_levels_come_with_the_stream_of_all_calls(api: WebApi, redis: RedisServer) -> None:
    heard: list[int] = []
    async with (
        AudioPublisher(redis.settings()) as publisher,
        api.http.stream("GET", "/v1/calls/stream", headers=READ) as response,
    ):
        async with asyncio.timeout(40):
            while not heard or not heard[-1]:
                publisher.offer_levels("w1", {CALL: (-20.5, -60.0)}, heard.append)
                await asyncio.sleep(0.05)
        async for _, name, levels in server_events(response):
            assert (name, levels) == ("levels", {CALL: [-20.5, -60.0]})
            break


async def test_open_streams_are_bounded_and_free_again_when_their_clients_go(
    api: WebApi, worker: RedisCallStore
) -> None:
    open_ones = [api.http.stream("GET", "/v1/calls/stream", headers=READ) for _ in range(STREAMS_PER_CLIENT)]
    for stream in open_ones:
        assert (await stream.__aenter__()).status_code == 200
    assert problem(await api.ask("GET", "/v1/calls/stream", token="read")) == (429, "too_many_requests")
    async with api.http.stream("GET", "/v1/calls/stream", headers={"Authorization": f"Bearer {TOKENS['admin']}"}) as r:
        assert r.status_code == 200
    for stream in open_ones:
        await stream.__aexit__(None, None, None)
    await until(lambda: api.services.streams.open_now == 0)


@asynccontextmanager
async def obeying(redis: RedisServer, **answers: str) -> AsyncIterator[list[Command]]:
    """A worker that carries out commands, or refuses the kinds that are given with why."""
    seen: list[Command] = []

    async def carry_out(command: Command) -> CommandAnswer:
        seen.append(command)
        return refused(command, answers[command.kind]) if command.kind in answers else done(command)

    async with CommandInbox(redis.settings(), "w1", carry_out):
        with redis.client() as client:
            await until(lambda: client.keys("*commands:w1:reader"))
        yield seen


def listening(api: WebApi, call_id: str, headers: Mapping[str, str]) -> connect:
    url = api.url.replace("http", "ws", 1) + f"/v1/calls/{call_id}/listen"
    return connect(url, additional_headers=headers, proxy=None)


async def blocks_of(socket: ClientConnection) -> AsyncIterator[bytes]:
    async for message in socket:
        assert isinstance(message, bytes)
        yield message


async def test_a_listener_hears_what_the_worker_publishes_until_the_call_ends(
    api: WebApi, redis: RedisServer, worker: RedisCallStore
) -> None:
    worker.note(CALL, "answered", state="talking")
    await written(api, CALL)
    heard: list[int] = []
    blocks = [AudioBlock(number, 40 * number, bytes([number]) * 1280) for number in range(10)]
    async with obeying(redis) as commands, AudioPublisher(redis.settings()) as publisher:
        async with listening(api, CALL, CONTROL) as socket:
            assert [(each.kind, each.call_id, each.by) for each in commands] == [("listen", CALL, "control")]
            for block in (*blocks, AudioBlock(10, 400, b"")):
                publisher.offer_block(CALL, block, heard.append)
            assert [block async for block in blocks_of(socket)] == [
                each.packed() for each in (*blocks, AudioBlock(10, 400, b""))
            ]
            assert socket.close_code == 1000
        await until(lambda: len(heard) == 11)
        assert set(heard) == {1}
    assert api.services.streams.open_now == 0


async def test_who_may_not_listen_or_hears_nothing_is_told_before_the_handshake(
    api: WebApi, redis: RedisServer, worker: RedisCallStore
) -> None:
    worker.note(CALL, "answered", state="talking")
    worker.note(CallId("over"), "ended", state="ended", end_reason="caller_hung_up")
    await written(api, CALL)
    await written(api, "over")
    cookie = (
        (await api.ask("POST", "/v1/session", {"token": TOKENS["control"]})).headers["Set-Cookie"].partition(";")[0]
    )
    async with obeying(redis, listen="nothing is heard yet"):
        for call_id, headers, expected in (
            (CALL, {}, (401, "unauthorized")),
            (CALL, READ, (403, "insufficient_scope")),
            (CALL, {"Cookie": cookie}, (403, "foreign_origin")),
            (CALL, {"Cookie": cookie, "Origin": "http://evil.example"}, (403, "foreign_origin")),
            (CALL, {"Cookie": cookie, "Origin": api.url}, (409, "refused")),
            ("none", CONTROL, (404, "unknown_call")),
            ("over", CONTROL, (409, "call_ended")),
            (CALL, CONTROL, (409, "refused")),
        ):
            with pytest.raises(InvalidStatus) as caught:
                async with listening(api, call_id, headers):
                    pass
            told = caught.value.response
            assert told.headers["Content-Type"] == "application/problem+json"
            assert (told.status_code, json.loads(told.body or b"")["code"]) == expected
    assert api.services.streams.open_now == 0


async def test_a_listener_that_goes_or_a_server_that_stops_leaves_nothing(
    redis: RedisServer, tmp_path: Path, worker: RedisCallStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.web.server.HEAD_LIMIT_S", 0.3)  # which a socket that was accepted must outlast
    worker.note(CALL, "answered", state="talking")
    async with obeying(redis), serving(redis, tmp_path) as api:
        await written(api, CALL)
        async with listening(api, CALL, CONTROL):
            assert api.services.streams.open_now == 1
        await until(lambda: api.services.streams.open_now == 0)
        socket = await listening(api, CALL, CONTROL)
        await asyncio.sleep(1)
        api.services.stopping.set()
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1001


async def test_what_a_call_left_is_served_and_zipped(api: WebApi, worker: RedisCallStore, tmp_path: Path) -> None:
    for name in ("recordings", "traces"):
        (tmp_path / name).mkdir()
    tone = (8000 * np.sin(np.arange(8000) / 5)).astype("<i2").tobytes()
    wav, trace = tmp_path / "recordings" / "a.wav", tmp_path / "traces" / "a.txt"
    write_wav(wav, 8000, tone, bytes(16000))
    trace.write_text("ladder")
    trace.with_suffix(".pcap").write_bytes(b"\xd4\xc3\xb2\xa1")
    worker.note(CALL, "answered", state="talking", answered_at=10.0)
    worker.note(CALL, "agent_heard", text="Hello.", played_ms=500, item_id="i1", agent="hello")
    worker.note(CALL, "caller_spoke", text="Hi.", item_id="i2")
    worker.note(CALL, "ended", state="ended", recording=str(wav), sip_trace=str(trace))
    await written(api, CALL, state="ended")
    path = f"/v1/calls/{CALL}"

    response = await api.ask("GET", f"{path}/ladder", token="read")
    assert (response.text, response.headers["Content-Type"]) == ("ladder", "text/plain; charset=utf-8")
    assert (await api.ask("GET", f"{path}/pcap", token="read")).content == b"\xd4\xc3\xb2\xa1"
    response = await api.ask("GET", f"{path}/recording", token="read")
    assert (response.content, response.headers["Content-Type"]) == (wav.read_bytes(), "audio/wav")
    part = await api.ask("GET", f"{path}/recording", token="read", headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, wav.read_bytes()[4:8])
    beyond = await api.ask("GET", f"{path}/recording", token="read", headers={"Range": "bytes=999999-"})
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{len(wav.read_bytes())}")
    wave = (await api.ask("GET", f"{path}/waveform", token="read")).json()
    assert wave["bucket_ms"] == SHORTEST_BUCKET_MS
    assert len(wave["caller"]) == len(wave["agent"]) == 50
    assert wave["caller"] == [pytest.approx(8000 / 32768, abs=0.01)] * 50
    assert wave["agent"] == [0] * 50
    said = (await api.ask("GET", f"{path}/transcript", token="read")).json()["entries"]
    assert [(each["speaker"], each["text"]) for each in said] == [("agent", "Hello."), ("caller", "Hi.")]
    text = (await api.ask("GET", f"{path}/transcript?format=text", token="read")).text
    assert "agent hello: Hello." in text
    zipped = await api.ask("GET", f"{path}/bundle", token="read")
    with zipfile.ZipFile(io.BytesIO(zipped.content)) as archive:
        assert set(archive.namelist()) == {
            *("call.json", "events.jsonl", "transcript.json", "transcript.txt"),
            *("sip.txt", "sip.pcap", "recording.wav"),
        }
        assert archive.read("recording.wav") == wav.read_bytes()
        assert json.loads(archive.read("call.json"))["call_id"] == CALL
        assert len(archive.read("events.jsonl").splitlines()) == 4


async def test_files_elsewhere_are_named_and_none_outside_their_folders_is_served(
    api: WebApi, worker: RedisCallStore, tmp_path: Path
) -> None:
    for name in ("recordings", "traces"):
        (tmp_path / name).mkdir()
    secret = tmp_path / "secret.wav"
    write_wav(secret, 8000, b"", b"")
    (tmp_path / "recordings" / "link.wav").symlink_to(secret)
    for number, told in enumerate(
        (
            str(tmp_path / "recordings" / "gone.wav"),
            str(secret),
            f"{tmp_path}/recordings/../secret.wav",
            str(tmp_path / "recordings" / "link.wav"),
            str(tmp_path / "recordings"),
            "/etc/passwd",
            "a\0b",
            "x" * 5000,
        )
    ):
        call_id = CallId(f"call{number}")
        worker.note(call_id, "ended", state="ended", recording=told, sip_trace=told)
        await written(api, call_id, state="ended")
        for what in ("recording", "waveform", "ladder", "pcap"):
            response = await api.ask("GET", f"/v1/calls/{call_id}/{what}", token="read")
            kind = "trace" if what in ("ladder", "pcap") else "recording"
            assert problem(response) == (404, f"{kind}_elsewhere"), (what, told)
            assert "worker w1" in response.json()["detail"]
        zipped = await api.ask("GET", f"/v1/calls/{call_id}/bundle", token="read")
        with zipfile.ZipFile(io.BytesIO(zipped.content)) as archive:
            assert len(archive.namelist()) == 4


async def test_a_call_without_files_says_so_and_a_broken_recording_is_no_waveform(
    api: WebApi, worker: RedisCallStore, tmp_path: Path
) -> None:
    (tmp_path / "recordings").mkdir()
    worker.note(CALL, "ended", state="ended")
    await written(api, CALL, state="ended")
    assert problem(await api.ask("GET", f"/v1/calls/{CALL}/recording", token="read")) == (404, "no_recording")
    assert problem(await api.ask("GET", f"/v1/calls/{CALL}/ladder", token="read")) == (404, "no_trace")
    broken = tmp_path / "recordings" / "b.wav"
    for number, data in enumerate((b"", b"RIFF", b"no wave at all" * 10)):
        broken.write_bytes(data)
        worker.note(CallId(f"b{number}"), "ended", state="ended", recording=str(broken))
        await written(api, f"b{number}", state="ended")
        response = await api.ask("GET", f"/v1/calls/b{number}/waveform", token="read")
        assert problem(response) == (404, "unreadable_recording")


async def test_metrics_are_for_prometheus(api: WebApi) -> None:
    response = await api.ask("GET", "/metrics", token="read")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    assert "gateway_redis_up 1.0" in response.text
