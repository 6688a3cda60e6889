"""The HTTP API on loopback: the server, its audit in a real Redis, and the command."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from gateway.dialplan.model.plan import Dialplan
from gateway.errors import ConfigError
from gateway.settings.sections import RealtimeSettings, WebSettings
from gateway.settings.sources import environment_for_child
from gateway.store.calls import RedisCallStore
from gateway.upstream.realtime.access.secrets import SecretMinter
from gateway.web.auth import Clients
from gateway.web.dialplans import DialplansEndpoint
from gateway.web.secrets import STRANGERS_PER_MINUTE, SecretsEndpoint
from gateway.web.server import MALFORMED_PER_MINUTE, ReadStates, WebServer
from tests.fakes.minting import MintingService
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

KEY = "sk-very-secret-1234567890"
TOKEN = "0123456789abcdef-shop"
PLAN = Dialplan.model_validate(
    {
        "agents": {
            "hello": {"instructions": "Be brief.", "voice": "cedar"},
            "night": {"instructions": "Be quiet."},
            "clerk": {"instructions": "It is {{ time.year }}. You speak with {{ caller or 'a guest' }}."},
            "local": {"instructions": "You know {{ groups.area }}."},
        },
        "routes": [{"name": "all", "agent": "hello"}],
    }
)


class Shop:
    """A trusted client, and what the gateway wrote down about it."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self.url = url
        self.audited: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}

    async def ask(self, body: Any, *, token: str | None = TOKEN, **given: Any) -> tuple[int, Any]:
        """Ask for a secret; return status and JSON, keep the headers."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers |= {"Content-Type": "application/json", **given.pop("headers", {})}
        async with self._http.post(f"{self.url}/v1/client-secrets", data=data, headers=headers, **given) as response:
            self.headers = dict(response.headers)
            assert response.headers["Cache-Control"] == "no-store"
            return response.status, await response.json()


@pytest.fixture
async def service() -> AsyncIterator[MintingService]:
    service = MintingService()
    await service.server.start_server()
    yield service
    await service.server.close()


@asynccontextmanager
async def serving(
    service: MintingService, trunks: ReadStates | None = None, upstreams: ReadStates | None = None, **given: Any
) -> AsyncIterator[Shop]:
    settings = WebSettings.model_validate({"port": 0, "clients": {"shop": TOKEN, "portal": TOKEN[::-1]}, **given})
    realtime = RealtimeSettings.model_validate(
        {"url": f"ws://127.0.0.1:{service.server.port}/v1/realtime", "api_key": KEY, "connect_timeout_s": 0.3}
    )
    async with SecretMinter(realtime) as minter, aiohttp.ClientSession() as http:
        shop = Shop(http, "")
        mint = SecretsEndpoint(
            settings=settings,
            dialplan=lambda: PLAN,
            minter=minter,
            audit=lambda fields: shop.audited.append(dict(fields)),
        )

        async def no_plans() -> list[dict[str, str]]:
            return []

        plan = DialplansEndpoint(clients=Clients(settings.clients), plans=no_plans, reload=None)
        async with WebServer(settings, mint, plan, trunks, upstreams) as server:
            shop.url = server.url
            yield shop


async def test_a_known_client_gets_a_secret_for_a_profile_and_that_is_audited(service: MintingService) -> None:
    with capture_logs() as logs:
        async with serving(service) as shop:
            status, body = await shop.ask({"profile": "hello", "seconds": 60})
    assert status == 200
    assert body == {"value": "ek_1", "expires_at": body["expires_at"]}
    assert isinstance(body["expires_at"], int)
    (asked,) = service.bodies
    assert asked["expires_after"]["seconds"] == 60
    assert asked["session"]["model"] == PLAN.agents["hello"].model
    assert asked["session"]["audio"]["output"]["voice"] == "cedar"
    assert asked["session"]["tools"] == []
    (entry,) = shop.audited
    assert entry == {
        "client": "shop",
        "profile": "hello",
        "seconds": 60,
        "expires_at": body["expires_at"],
        "source": "127.0.0.1",
        "result": "minted",
    }
    assert [{**log, "event": ""} for log in logs if log["event"] == "client_secret_asked"] == [
        {**entry, "event": "", "log_level": "info"}
    ]
    assert "ek_1" not in str((logs, shop.audited))


async def test_without_seconds_a_secret_lives_for_ten_minutes_or_less_if_the_limit_is_lower(
    service: MintingService,
) -> None:
    async with serving(service) as shop:
        assert (await shop.ask({"profile": "hello"}))[0] == 200
    async with serving(service, mint_seconds_max=30) as shop:
        assert (await shop.ask({"profile": "hello", "seconds": None}))[0] == 200
    assert [body["expires_after"]["seconds"] for body in service.bodies] == [600, 30]


@pytest.mark.parametrize(
    "given",
    [
        {"token": None},
        {"token": "wrong"},
        {"token": ""},
        {"token": TOKEN + "x"},
        {"token": None, "headers": {"Authorization": f"Basic {TOKEN}"}},
        {"token": None, "headers": {"Authorization": TOKEN}},
        {"token": None, "headers": {"Authorization": "Bearer \u00fc"}},
    ],
)
async def test_nobody_without_a_known_token_gets_anything(service: MintingService, given: dict[str, Any]) -> None:
    async with serving(service) as shop:
        status, body = await shop.ask({"profile": "hello"}, **given)
        assert (status, body["error"]["code"]) == (401, "unauthorized")
        assert shop.headers["WWW-Authenticate"] == "Bearer"
        assert shop.audited == [{"source": "127.0.0.1", "result": "unauthorized"}]
    assert service.bodies == []


async def test_without_clients_nobody_is_known(service: MintingService) -> None:
    async with serving(service, clients={}) as shop:
        assert (await shop.ask({"profile": "hello"}, token=""))[0] == 401


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"profile": "other"}, 404, "unknown_profile"),
        ({"profile": "night"}, 403, "profile_not_allowed"),
        ({"profile": "hello", "seconds": 9}, 400, "seconds_out_of_range"),
        ({"profile": "hello", "seconds": 601}, 400, "seconds_out_of_range"),
        ({"profile": "hello", "seconds": 10**30}, 400, "seconds_out_of_range"),
        ({"profile": "hello", "seconds": "60"}, 400, "invalid_request"),
        ({"profile": "hello", "seconds": 60.5}, 400, "invalid_request"),
        ({"profile": "hello", "instructions": "x"}, 400, "invalid_request"),
        ({"profile": 1}, 400, "invalid_request"),
        ({"profile": "x" * 129}, 400, "invalid_request"),
        ({}, 400, "invalid_request"),
        ([], 400, "invalid_request"),
        (b"", 400, "invalid_request"),
        (b"{", 400, "invalid_request"),
        (b"\xff", 400, "invalid_request"),
        (b'{"profile": "\\ud800"}', 400, "invalid_request"),
        (b"[" * 4000, 400, "invalid_request"),
        (b'{"profile": "' + b"x" * 5000 + b'"}', 413, "request_entity_too_large"),
    ],
)
async def test_a_wrong_request_is_refused_in_words_and_audited(
    service: MintingService, body: Any, status: int, code: str
) -> None:
    async with serving(service, profiles="hello") as shop:
        answered = await shop.ask(body)
        assert (answered[0], answered[1]["error"]["code"]) == (status, code)
        assert answered[1]["error"]["message"]
        assert [entry["client"] for entry in shop.audited] == ["shop"]
        assert shop.audited[0]["result"] != "minted"
    assert service.bodies == []


async def test_places_in_an_agents_texts_are_filled_in_as_far_as_that_goes_without_a_call(
    service: MintingService,
) -> None:
    async with serving(service) as shop:
        assert (await shop.ask({"profile": "clerk"}))[0] == 200
        status, body = await shop.ask({"profile": "local"})
    assert (status, body["error"]["code"]) == (409, "profile_needs_a_call")
    (asked,) = service.bodies
    assert re.fullmatch(r"It is \d{4}\. You speak with a guest\.", asked["session"]["instructions"])


async def test_only_json_is_taken(service: MintingService) -> None:
    async with serving(service) as shop:
        status, body = await shop.ask({"profile": "hello"}, headers={"Content-Type": "text/plain"})
        assert (status, body["error"]["code"]) == (415, "not_json")


async def test_seconds_may_be_as_long_as_the_limit_and_the_service_allow(service: MintingService) -> None:
    async with serving(service, mint_seconds_max=7200) as shop:
        assert (await shop.ask({"profile": "hello", "seconds": 7200}))[0] == 200
        assert (await shop.ask({"profile": "hello", "seconds": 7201}))[0] == 400


async def test_a_client_that_asks_too_often_is_told_when_to_come_back_and_others_are_not_held_up(
    service: MintingService,
) -> None:
    async with serving(service, mint_limit_per_minute=2) as shop:
        statuses = [(await shop.ask({"profile": "hello"}))[0] for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert 1 <= int(shop.headers["Retry-After"]) <= 30
        assert shop.audited[-1] == {"client": "shop", "source": "127.0.0.1", "result": "too_many_requests"}
        assert (await shop.ask({"profile": "hello"}, token=TOKEN[::-1]))[0] == 200


async def test_strangers_cannot_push_the_clients_out_of_the_audit(service: MintingService) -> None:
    async with serving(service) as shop:
        for _ in range(STRANGERS_PER_MINUTE + 5):
            assert (await shop.ask({}, token="x"))[0] == 401
        assert len(shop.audited) <= STRANGERS_PER_MINUTE + 1
        await shop.ask({"profile": "hello"})
        assert shop.audited[-1]["result"] == "minted"


def raw(body: bytes, *headers: str, length: int | None = None) -> bytes:
    """Return a request for a secret as it goes over the wire."""
    head = ["POST /v1/client-secrets HTTP/1.1", "Host: x", f"Authorization: Bearer {TOKEN}"]
    head += ["Content-Type: application/json", *headers]
    if not any("chunked" in header for header in headers):
        head.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*head, "", ""]).encode() + body


MALFORMED = {
    "plain marked gzip": raw(b'{"profile": "hello"}', "Content-Encoding: gzip"),
    "plain marked deflate": raw(b'{"profile": "hello"}', "Content-Encoding: deflate"),
    "gzip and more": raw(gzip.compress(b"{}") + b"more", "Content-Encoding: gzip"),
    "a coding we have not": raw(b"{}", "Content-Encoding: br"),
    "a chunk without a length": raw(b"zz\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
    "a later chunk without one": raw(b"5\r\nhello\r\nqq\r\n", "Transfer-Encoding: chunked"),
    "a length and chunks": raw(b"0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"),
    "no number for a length": raw(b"{}", "Content-Length: many"),
    "a length beyond all": raw(b"{}", length=10**30),
    "nested": raw(b"[" * 2000),
    "no UTF-8": raw(b'{"profile": "\xff"}'),
    "a long header": raw(b"{}", "X: " + "x" * 100_000),
    "very many headers": raw(b"{}", *["X: x"] * 50_000),
    "no header at all": raw(b"{}", "nonsense"),
    "no version of HTTP": b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n",
    "SIP": b"OPTIONS sip:a@b SIP/2.0\r\nVia: x\r\n\r\n",
    "TLS": bytes.fromhex("1603010200010001fc0303") + bytes(500),
    "a URL that is none": b"GET http://[::1/x HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_request_is_400_and_writes_no_traceback(
    service: MintingService, caplog: pytest.LogCaptureFixture, request_bytes: bytes
) -> None:
    with capture_logs() as logs:
        async with serving(service) as shop:
            assert (await wire(shop.url, request_bytes)).startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
            assert (await shop.ask({"profile": "hello"}))[0] == 200
    assert not [record.getMessage() for record in caplog.records if record.exc_info]
    assert not [entry for entry in logs if "exc_info" in entry or entry["log_level"] == "error"]
    assert service.bodies[1:] == []


async def test_a_body_that_breaks_off_writes_no_traceback_and_many_write_few_lines(
    service: MintingService, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as logs:
        async with serving(service) as shop:
            for _ in range(MALFORMED_PER_MINUTE + 20):
                assert await wire(shop.url, b"GET / HTTP/9.9\r\n\r\n")
            for broken in (raw(b"{", length=50), raw(b"5\r\nhe", "Transfer-Encoding: chunked")):
                await wire(shop.url, broken, goes_away=True)
            assert (await shop.ask({"profile": "hello"}))[0] == 200
            async with asyncio.timeout(40):
                while [entry["result"] for entry in shop.audited].count("unreadable_body") < 2:
                    await asyncio.sleep(0.01)
    assert not [record.getMessage() for record in caplog.records if record.exc_info]
    assert sum(entry["event"] == "http_request_malformed" for entry in logs) <= MALFORMED_PER_MINUTE + 2


async def wire(url: str, request_bytes: bytes, *, goes_away: bool = False) -> bytes:
    """Send bytes over a connection of their own; return the head of the answer."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request_bytes)
        if goes_away:
            await writer.drain()
            return b""
        async with asyncio.timeout(40):
            return await reader.readuntil(b"\r\n")
    finally:
        writer.close()


async def test_a_service_that_refuses_or_is_lost_is_told_without_its_words(service: MintingService) -> None:
    service.answer = {"error": {"code": "invalid_api_key", "message": f"Incorrect API key provided: {KEY}"}}
    async with serving(service) as shop:
        service.status = 401
        status, body = await shop.ask({"profile": "hello"})
        assert (status, body["error"]["code"]) == (502, "upstream_refused")
        assert "key" not in body["error"]["message"]
        assert "Incorrect API key provided: ***" in shop.audited[-1]["detail"]
        service.status = 500
        status, body = await shop.ask({"profile": "hello"})
        assert (status, body["error"]["code"], shop.headers["Retry-After"]) == (503, "upstream_lost", "5")
        service.status, service.answer = 200, {"nothing": 1}
        assert (await shop.ask({"profile": "hello"}))[0] == 502
        service.answer, service.delay_s = None, 1
        assert (await shop.ask({"profile": "hello"}))[0] == 503
        assert [entry["result"] for entry in shop.audited] == [
            *("upstream_refused", "upstream_lost", "upstream_refused", "upstream_lost")
        ]


async def test_a_fault_of_ours_is_told_once_and_the_server_goes_on(
    service: MintingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(service) as shop:
        with monkeypatch.context() as broken, capture_logs() as logs:
            broken.setattr("gateway.web.secrets.direct_session", lambda profile: 1 / 0)
            status, body = await shop.ask({"profile": "hello"})
        assert (status, body["error"]["code"]) == (500, "internal_error")
        assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["request_failed"]
        assert shop.audited[-1]["result"] == "internal_error"
        assert (await shop.ask({"profile": "hello"}))[0] == 200


async def test_health_and_what_is_not_there(service: MintingService) -> None:
    async with serving(service) as shop, aiohttp.ClientSession() as http:
        async with http.get(f"{shop.url}/healthz") as response:
            assert (response.status, await response.json()) == (200, {"status": "ok"})
        async with http.get(f"{shop.url}/v1/client-secrets") as response:
            assert (response.status, response.headers["Allow"]) == (405, "POST")
            assert (await response.json())["error"]["code"] == "method_not_allowed"
        async with http.get(f"{shop.url}/nothing") as response:
            assert (response.status, (await response.json())["error"]["code"]) == (404, "not_found")
        assert shop.audited == []


async def test_health_tells_trunks_and_upstreams_of_all_workers(service: MintingService, redis: RedisServer) -> None:
    store = RedisCallStore(redis.settings(), "w1")
    await store.open()
    async with serving(service, store.trunks, store.upstreams) as shop, aiohttp.ClientSession() as http:

        async def health() -> tuple[int, Any]:
            async with http.get(f"{shop.url}/health") as response:
                assert response.headers["Cache-Control"] == "no-store"
                return response.status, await response.json()

        nothing: dict[str, Any] = {"trunks": [], "upstreams": [], "dialplans": []}
        assert await health() == (200, {"status": "ok", "redis": "ok", **nothing})
        store.note_upstream("m", state="away", losses=5, detail="HTTP 503")
        await until(lambda: redis.keys() & {"{gateway}:upstream:w1:m"})
        status, told = await health()
        assert (status, told["status"]) == (200, "degraded")
        (upstream,) = told["upstreams"]
        assert {**upstream, "at": ""} == {"upstream": "m", "worker": "w1", "state": "away", "at": ""}
        store.note_upstream("m", state="back", lasted_s=3.5)
        async with asyncio.timeout(40):
            while (await health())[1]["status"] != "ok":
                await asyncio.sleep(0.02)
        store.note_trunk("main", state="failed", code=403, reason="Forbidden", retry_s=300)
        await until(lambda: redis.keys() & {"{gateway}:trunk:w1:main"})
        status, told = await health()
        assert (status, told["status"]) == (200, "degraded")
        (trunk,) = told["trunks"]
        assert {**trunk, "at": ""} == {"trunk": "main", "worker": "w1", "state": "failed", "code": "403", "at": ""}
        redis.stop()
        assert await health() == (503, {"status": "unknown", "redis": "away"})
    await store.close(limit_s=0.1)


async def test_health_without_redis_knows_no_trunks(service: MintingService) -> None:
    async with (
        serving(service) as shop,
        aiohttp.ClientSession() as http,
        http.get(f"{shop.url}/health") as response,
    ):
        told = {"status": "ok", "redis": "none", "trunks": [], "upstreams": [], "dialplans": []}
        assert (response.status, await response.json()) == (200, told)


async def test_a_port_that_is_taken_is_told(service: MintingService) -> None:
    async with serving(service) as shop:
        port = int(shop.url.rpartition(":")[2])
        with pytest.raises(ConfigError, match=rf"web.port: cannot listen on 127.0.0.1:{port}"):
            async with serving(service, port=port):
                pass


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


def audited(redis: RedisServer) -> list[dict[str, str]]:
    with redis.client() as client:
        return [fields for _, fields in client.xrange("{gateway}:audit")]


async def test_the_audit_stands_in_a_stream_of_its_own_and_survives_a_loss_of_redis(redis: RedisServer) -> None:
    store = RedisCallStore(redis.settings(), "web-1", now=lambda: 1_700_000_000.5)
    await store.open()
    store.audit(client="shop", result="minted", seconds=60)
    await until(lambda: audited(redis))
    redis.pause()
    store.audit(client="shop", result="unknown_profile")
    await until(lambda: store.away)
    redis.resume()
    await until(lambda: len(audited(redis)) == 2)
    await store.close()
    store.audit(client="late")
    first, second = audited(redis)
    assert first == {
        "client": "shop",
        "result": "minted",
        "seconds": "60",
        "at": "1700000000.5",
        "worker": "web-1",
    }
    assert second["result"] == "unknown_profile"
    assert redis.events() == []
    assert redis.keys() == {"{gateway}:audit"}


async def test_the_command_serves_until_it_is_told_to_stop(
    redis: RedisServer, service: MintingService, tmp_path: Path
) -> None:
    plan = Path(__file__).parents[2] / "dialplans" / "hello.yaml"
    environment = environment_for_child(
        {
            "GATEWAY_DIALPLAN": str(plan),
            "GATEWAY_REALTIME__URL": f"ws://127.0.0.1:{service.server.port}/v1/realtime",
            "GATEWAY_REALTIME__API_KEY": KEY,
            "GATEWAY_REDIS__URL": redis.url,
            "GATEWAY_WEB__CLIENTS__SHOP": TOKEN,
            "GATEWAY_LOG__FORMAT": "json",
        }
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "web", "--port", "0"),
        env=environment,
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(40):
            ready = (await process.stdout.readline()).decode()
        found = re.fullmatch(r"ready: (http://127\.0\.0\.1:\d+), clients: shop\n", ready)
        assert found, ready
        async with aiohttp.ClientSession() as http:
            shop = Shop(http, found[1])
            status, body = await shop.ask({"profile": "hello"})
        assert (status, body["value"]) == (200, "ek_1")
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = await asyncio.wait_for(process.communicate(), 40)
    assert (process.returncode, out.decode()) == (0, "gateway web stopped\n")
    assert [json.loads(line)["result"] for line in err.splitlines() if b"client_secret_asked" in line] == ["minted"]
    assert not any(secret in out + err for secret in (KEY.encode(), TOKEN.encode(), b"ek_1"))
    (entry,) = audited(redis)
    assert {name: entry[name] for name in ("client", "profile", "result", "source")} == {
        "client": "shop",
        "profile": "hello",
        "result": "minted",
        "source": "127.0.0.1",
    }
    assert "ek_1" not in str(entry)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, "realtime.api_key: no API key to mint secrets with"),
        ({"GATEWAY_REALTIME__API_KEY": KEY, "GATEWAY_WEB__PROFILES": "nobody"}, "has no agent nobody; it has hello"),
    ],
)
async def test_the_command_does_not_start_with_settings_that_cannot_work(
    variables: dict[str, str], told: str, tmp_path: Path
) -> None:
    plan = Path(__file__).parents[2] / "dialplans" / "hello.yaml"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "web"),
        env=environment_for_child({"GATEWAY_DIALPLAN": str(plan), **variables}),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await asyncio.wait_for(process.communicate(), 40)
    assert process.returncode == 1
    assert told in err.decode()
