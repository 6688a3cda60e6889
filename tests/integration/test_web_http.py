"""HTTP itself: what is malformed, slow, too large, from a foreign name, or not there; headers; Redis away."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.errors import ConfigError
from gateway.web.guard import MAX_BODY_BYTES
from gateway.web.server import HEAD_BYTES, MALFORMED_PER_MINUTE
from tests.rigs.redis_server import RedisServer
from tests.rigs.web_api import TOKENS, WebApi, opened, problem, serving

pytestmark = pytest.mark.integration

PATH = "/v1/dialplan/explain"


@pytest.fixture
async def api(redis: RedisServer, tmp_path: Path) -> AsyncIterator[WebApi]:
    async with serving(redis, tmp_path) as api:
        yield api


def raw(body: bytes, *headers: str, length: int | None = None) -> bytes:
    """Return a request as it goes over the wire."""
    head = [f"POST {PATH} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {TOKENS['read']}"]
    head += ["Content-Type: application/json", "Connection: close", *headers]
    if not any("chunked" in header for header in headers):
        head.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*head, "", ""]).encode() + body


async def wire(url: str, request: bytes, *, goes_away: bool = False) -> bytes:
    """Send bytes over a connection of their own; return the whole answer."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        if goes_away:
            await writer.drain()
            return b""
        async with asyncio.timeout(40):
            return await reader.read()
    finally:
        writer.close()


MALFORMED = {
    "plain marked gzip": (raw(b'{"number": "1"}', "Content-Encoding: gzip"), (200, 415, 422)),
    "gzip": (raw(gzip.compress(b"{}"), "Content-Encoding: gzip"), (400,)),
    "a chunk without a length": (raw(b"zz\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), (400,)),
    "a later chunk without one": (raw(b"5\r\nhello\r\nqq\r\n", "Transfer-Encoding: chunked"), (400,)),
    "a length and chunks": (raw(b"0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"), (400, 422)),
    "no number for a length": (raw(b"{}", "Content-Length: many"), (400,)),
    "a length beyond all": (raw(b"{}", length=10**19), (413,)),
    "too long": (raw(b"[" * (MAX_BODY_BYTES + 1)), (413,)),
    "too long in chunks": (
        raw(b"10001\r\n" + b"x" * 0x10001 + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
        (413,),
    ),
    "nested": (raw(b"[" * 60_000), (400,)),
    "no UTF-8": (raw(b'{"number": "\xff"}'), (422, 400)),
    "half a surrogate": (raw(b'{"number": "\\ud800"}'), (422,)),
    "no header at all": (raw(b"{}", "nonsense"), (400,)),
    "no version of HTTP": (b"GET /health/live HTTP\r\nHost: 127.0.0.1\r\n\r\n", (400,)),
    "no host": (b"GET /health/live HTTP/1.1\r\n\r\n", (400,)),
    "SIP": (b"OPTIONS sip:a@b SIP/2.0\r\nVia: x\r\n\r\n", (400,)),
    "TLS": (bytes.fromhex("1603010200010001fc0303") + bytes(500) + b"\r\n\r\n", (400,)),
}


@pytest.mark.parametrize(("request_bytes", "statuses"), MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_request_is_refused_and_writes_no_traceback(
    api: WebApi, caplog: pytest.LogCaptureFixture, request_bytes: bytes, statuses: tuple[int, ...]
) -> None:
    with capture_logs() as logs:
        answer = await wire(api.url, request_bytes)
        assert int(answer[9:12]) in statuses, answer[:500]
        assert (await api.ask("POST", PATH, {}, token="read")).status_code == 200
    assert not [record.getMessage() for record in caplog.records if record.exc_info]
    assert not [entry for entry in logs if "exc_info" in entry or entry["log_level"] == "error"]


async def test_a_head_that_never_ends_is_refused(api: WebApi) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    sent = 0
    try:
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n")
        while sent < 100 * HEAD_BYTES:
            writer.write(b"X: " + b"x" * 1000 + b"\r\n")
            sent += 1000
            await asyncio.sleep(0)
            await writer.drain()
        assert await reader.read() == b""
    except ConnectionError:
        pass
    finally:
        writer.close()
    assert sent < 100 * HEAD_BYTES


async def test_clients_that_break_off_and_many_malformed_requests_write_few_lines(
    api: WebApi, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as logs:
        for _ in range(MALFORMED_PER_MINUTE + 20):
            assert await wire(api.url, b"GET / HTTP\r\n\r\n")
        for broken in (raw(b"{", length=50), raw(b"5\r\nhe", "Transfer-Encoding: chunked")):
            await wire(api.url, broken, goes_away=True)
        assert (await api.ask("POST", PATH, {}, token="read")).status_code == 200
    assert not [record.getMessage() for record in caplog.records if record.exc_info]
    assert sum(entry["event"] == "http_request_malformed" for entry in logs) <= MALFORMED_PER_MINUTE + 2


async def test_slow_and_silent_clients_are_given_up(api: WebApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.web.guard.BODY_LIMIT_S", 0.2)
    monkeypatch.setattr("gateway.web.server.HEAD_LIMIT_S", 0.2)
    answer = await wire(api.url, raw(b"{", length=50))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"too_slow"' in answer
    assert await wire(api.url, b"") == b""
    assert await wire(api.url, b"GET /health/live HTTP/1.1\r\nHost: ") == b""
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for sent in range(100):  # a little more of a head now and then earns no more time
            if reader.at_eof():
                break
            writer.write(b"GET /" if sent == 0 else b"x")
            await asyncio.sleep(0.1)
        assert reader.at_eof()
    except ConnectionError:
        pass
    finally:
        writer.close()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "127.0.0.1.evil.example", "localhost.evil"])
async def test_a_name_that_does_not_lead_here_is_refused(api: WebApi, host: str) -> None:
    for path in ("/health/live", "/", "/v1/calls"):
        response = await api.ask("GET", path, token="read", headers={"Host": host})
        assert problem(response) == (421, "unknown_host")


async def test_addresses_localhost_and_the_names_of_the_settings_lead_here(redis: RedisServer, tmp_path: Path) -> None:
    async with serving(redis, tmp_path, hosts="Calls.example.com") as api:
        for host in ("127.0.0.1:80", "[::1]:8088", "[::1]", "192.0.2.7", "localhost:1", "calls.example.com:8088"):
            assert (await api.ask("GET", "/health/live", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/nothing", (404, "not_found")),
        ("GET", "/v1/nothing", (404, "not_found")),
        ("GET", "/../pyproject.toml", (404, "not_found")),
        ("GET", "/%2e%2e/%2e%2e/pyproject.toml", (404, "not_found")),
        ("DELETE", "/v1/calls", (405, "method_not_allowed")),
        ("POST", "/", (405, "method_not_allowed")),
        ("POST", "/v1/session", (422, "invalid_request")),
    ],
)
async def test_every_error_is_problem_details(api: WebApi, method: str, path: str, expected: tuple[int, str]) -> None:
    response = await api.ask(method, path)
    assert problem(response) == expected
    assert response.headers["Cache-Control"] in ("no-store", "no-cache")


async def test_every_answer_carries_the_security_headers(api: WebApi) -> None:
    for path in ("/", "/health/live", "/v1/calls", "/nothing", "/openapi.json"):
        headers = (await api.ask("GET", path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "server" not in headers


async def test_a_mistake_in_a_request_names_its_place_and_not_its_value(api: WebApi) -> None:
    response = await api.ask("POST", PATH, {"number": ["my secret"]}, token="read")
    assert problem(response) == (422, "invalid_request")
    assert response.json()["detail"].startswith("body.number: ")
    assert "my secret" not in response.text


async def test_a_fault_of_ours_is_told_once_and_the_server_goes_on(
    api: WebApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as broken, capture_logs() as logs:
        broken.setattr("gateway.web.dialplans.explain_call", lambda index, call: 1 / 0)
        assert problem(await api.ask("POST", PATH, {}, token="read")) == (500, "internal_error")
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["request_failed"]
    assert not [record for record in caplog.records if record.exc_info]
    assert (await api.ask("POST", PATH, {}, token="read")).status_code == 200


async def test_while_redis_is_away_that_is_said_and_what_needs_no_redis_goes_on(
    api: WebApi, redis: RedisServer
) -> None:
    redis.stop()
    for method, path in (
        ("GET", "/v1/calls"),
        ("GET", "/v1/calls/c1"),
        ("GET", "/v1/workers"),
        ("GET", "/v1/health"),
        ("GET", "/v1/dialplan"),
        ("POST", "/v1/dialplan/reload"),
        ("POST", "/v1/calls/c1/hang-up"),
    ):
        response = await api.ask(method, path, token="admin")
        assert problem(response) == (503, "redis_away"), path
        assert int(response.headers["Retry-After"]) > 0
    assert problem(await api.ask("GET", "/health/ready")) == (503, "redis_away")
    assert (await api.ask("GET", "/health/live")).json() == {"status": "ok"}
    assert (await api.ask("POST", PATH, {}, token="read")).status_code == 200
    assert (await api.ask("GET", "/")).status_code == 200


async def test_it_is_ready_while_a_worker_is(api: WebApi, redis: RedisServer) -> None:
    from gateway.condition import WorkerCondition
    from gateway.store.registry import RegistryWriter

    assert problem(await api.ask("GET", "/health/ready")) == (503, "no_worker")
    async with RegistryWriter(redis.settings()) as registry:
        registry.set_workers([WorkerCondition("w1", "ready", 1, 4, "")])
        async with asyncio.timeout(40):
            while (await api.ask("GET", "/health/ready")).status_code != 200:
                await asyncio.sleep(0.02)
        (worker,) = (await api.ask("GET", "/v1/workers", token="read")).json()["workers"]
        assert (worker["worker"], worker["state"], worker["live_calls"], worker["capacity"]) == ("w1", "ready", 1, 4)
        registry.set_workers([WorkerCondition("w1", "draining", 1, 4, "")])
        async with asyncio.timeout(40):
            while (await api.ask("GET", "/health/ready")).status_code != 503:
                await asyncio.sleep(0.02)


async def test_health_in_detail_tells_trunks_upstreams_and_plans(api: WebApi, redis: RedisServer) -> None:
    async def told() -> dict[str, object]:
        response = await api.ask("GET", "/v1/health", token="read")
        assert response.status_code == 200
        return dict(response.json())

    assert await told() == {
        **{"status": "ok", "redis": "ok", "workers": [], "trunks": [], "upstreams": [], "dialplans": []}
    }
    async with opened(redis, "w1") as store:
        store.note_upstream("m", state="away", losses=5, detail="HTTP 503")
        store.note_trunk("main", state="registered", code=200, expires_s=60)
        async with asyncio.timeout(40):
            while (await told())["status"] != "degraded" or not (await told())["trunks"]:
                await asyncio.sleep(0.02)
        health = await told()
        assert health["upstreams"] == [
            {"upstream": "m", "worker": "w1", "state": "away", "at": pytest.approx(0, abs=1e11)}
        ]
        (trunk,) = (await api.ask("GET", "/v1/trunks", token="read")).json()["trunks"]
        assert (trunk["trunk"], trunk["state"], trunk["code"], trunk["expires_s"]) == ("main", "registered", 200, 60)


async def test_a_port_that_is_taken_is_told(api: WebApi, redis: RedisServer, tmp_path: Path) -> None:
    port = int(api.url.rpartition(":")[2])
    with pytest.raises(ConfigError, match=rf"web.port: cannot listen on 127.0.0.1:{port}"):
        async with serving(redis, tmp_path, port=port):
            pass
