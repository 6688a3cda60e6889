"""Who may do what over HTTP: every endpoint with every scope, log-ins, and what a token must never get into."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.errors import ConfigError
from gateway.settings.web import SCOPES
from gateway.store.web_sessions import SESSIONS_PER_TOKEN, WebSession
from gateway.web.app import make_app
from gateway.web.auth import COOKIE, SECURE_COOKIE
from gateway.web.server import WebServer
from tests.rigs.redis_server import RedisServer
from tests.rigs.web_api import TOKENS, WebApi, problem, serving

pytestmark = pytest.mark.integration

PUBLIC = {"/health/live", "/health/ready"}
ANYONE_KNOWN = {("GET", "/v1/session"), ("DELETE", "/v1/session")}
LOG_IN = ("POST", "/v1/session")
NEEDED = {
    **dict.fromkeys([("POST", "/v1/calls")], "dial"),
    **dict.fromkeys([("POST", "/v1/client-secrets")], "mint"),
    **dict.fromkeys([("POST", "/v1/dialplan/explain")], "read"),
    **dict.fromkeys([("GET", "/v1/audit"), ("DELETE", "/v1/callers/{number}")], "admin"),
    **dict.fromkeys([("POST", "/v1/webhooks/dead/{dead_id}/resend")], "admin"),
}
"""What differs from the rule: GET needs read, everything else control."""


@pytest.fixture
async def api(redis: RedisServer, tmp_path: Path) -> AsyncIterator[WebApi]:
    async with serving(redis, tmp_path, requests_per_minute=100_000, refusals_per_minute=100_000) as api:
        yield api


def endpoints(api: WebApi) -> list[tuple[str, str, dict[str, Any]]]:
    """Return method, path and description of every endpoint."""
    paths = make_app(api.services).openapi()["paths"]
    return [(method.upper(), path, told) for path, methods in paths.items() for method, told in methods.items()]


def filled_in(path: str) -> str:
    """Return a path with something in place of its parameters."""
    for name in ("call_id", "worker", "trunk", "number", "dead_id"):
        path = path.replace(f"{{{name}}}", "none")
    assert "{" not in path
    return path


def scope_of(method: str, path: str) -> str:
    """Return the scope that an endpoint needs."""
    return NEEDED.get((method, path), "read" if method == "GET" else "control")


async def test_each_endpoint_lets_in_its_scope_and_admin_and_refuses_every_other(api: WebApi) -> None:
    checked = 0
    for method, path, told in endpoints(api):
        if path in PUBLIC or (method, path) == LOG_IN:
            assert "security" not in told
            continue
        scopes: list[str] = []
        if (method, path) not in ANYONE_KNOWN:
            scopes = [scope_of(method, path)]
        assert told["security"] == [{"bearer": scopes}, {"session": scopes}], (method, path)
        for scope in SCOPES:
            async with api.http.stream(
                method, filled_in(path), headers={"Authorization": f"Bearer {TOKENS[scope]}"}
            ) as response:
                refused = response.status_code in (401, 403)
                assert refused == (scopes != [] and scope not in (*scopes, "admin")), (method, path, scope)
                if refused:
                    await response.aread()
                    assert problem(response) == (403, "insufficient_scope")
                    assert response.headers["WWW-Authenticate"].startswith('Bearer error="insufficient_scope"')
            checked += 1
    assert checked >= 100


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {TOKENS['admin']}x"},
        {"Authorization": f"Basic {TOKENS['admin']}"},
        {"Authorization": TOKENS["admin"]},
        {"Authorization": b"Bearer \xfc"},
        {"Cookie": f"{COOKIE}=wrong"},
        {"Cookie": f"{COOKIE}={TOKENS['admin']}"},
    ],
    ids=str,
)
async def test_no_endpoint_answers_a_stranger(api: WebApi, headers: dict[str, Any]) -> None:
    for method, path, _ in endpoints(api):
        if path in PUBLIC or (method, path) == LOG_IN:
            continue
        origin = {"Origin": api.url} if "Cookie" in headers else {}
        response = await api.http.request(method, filled_in(path), headers={**headers, **origin})
        assert problem(response) == (401, "unauthorized"), (method, path)
        assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_without_tokens_only_health_the_page_and_the_log_in_answer(redis: RedisServer, tmp_path: Path) -> None:
    async with serving(redis, tmp_path, tokens={}, refusals_per_minute=1000) as api:
        for method, path, _ in endpoints(api):
            response = await api.ask(method, filled_in(path), {"token": "x"}, token="any")
            assert (response.status_code == 401) != (path in PUBLIC), (method, path)
        assert (await api.ask("GET", "/")).status_code == 200


async def test_metrics_are_for_anyone_where_the_settings_say_so(redis: RedisServer, tmp_path: Path) -> None:
    async with serving(redis, tmp_path, public_metrics=True) as api:
        assert (await api.ask("GET", "/metrics")).status_code == 200
        assert (await api.ask("GET", "/v1/calls")).status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
async def test_where_others_reach_it_it_does_not_start_without_tokens(
    redis: RedisServer, tmp_path: Path, host: str
) -> None:
    with pytest.raises(ConfigError, match=r"web\.tokens: others reach"):
        async with serving(redis, tmp_path, tokens={}, host=host):
            pass
    async with serving(redis, tmp_path, host="0.0.0.0") as api:
        assert WebServer(api.services)


async def test_a_session_is_a_cookie_that_scripts_and_other_pages_cannot_use(api: WebApi) -> None:
    response = await api.ask("POST", "/v1/session", {"token": TOKENS["control"]}, headers={"Origin": api.url})
    assert response.json() == {"name": "control", "scopes": ["control"]}
    (cookie,) = SimpleCookie(response.headers["Set-Cookie"]).values()
    assert cookie.key == COOKIE
    assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["secure"]) == (True, "strict", "/", "")
    assert int(cookie["max-age"]) == api.services.web.session_s
    assert (await api.ask("GET", "/v1/session")).json()["name"] == "control"
    assert problem(await api.ask("GET", "/v1/calls")) == (403, "insufficient_scope")
    for origin in (None, "http://evil.example", "null", api.url.replace("127.0.0.1", "localhost")):
        headers = {"Origin": origin} if origin is not None else {}
        response = await api.ask("POST", "/v1/dialplan/reload", headers=headers)
        assert problem(response) == (403, "foreign_origin")
    assert (await api.ask("POST", "/v1/dialplan/reload", headers={"Origin": api.url})).status_code == 202
    assert (await api.ask("DELETE", "/v1/session", headers={"Origin": api.url})).status_code == 204
    again = {"Cookie": f"{COOKIE}={cookie.value}"}
    assert problem(await api.ask("GET", "/v1/session", headers=again)) == (401, "unauthorized")


async def test_another_page_cannot_log_a_browser_in(api: WebApi) -> None:
    body = {"token": TOKENS["read"]}
    response = await api.ask("POST", "/v1/session", body, headers={"Origin": "http://evil.example"})
    assert problem(response) == (403, "foreign_origin")
    form = await api.http.post("/v1/session", content=f'{{"token": "{TOKENS["read"]}"}}')
    assert form.status_code == 422
    assert "Set-Cookie" not in form.headers


async def test_behind_a_proxy_with_tls_the_cookie_is_secure_and_the_address_is_the_clients(
    redis: RedisServer, tmp_path: Path
) -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.7"}
    async with serving(redis, tmp_path, proxies="127.0.0.0/8") as api:
        with capture_logs() as logs:
            response = await api.ask("POST", "/v1/session", {"token": TOKENS["read"]}, headers=forwarded)
        (cookie,) = SimpleCookie(response.headers["Set-Cookie"]).values()
        assert (cookie.key, cookie["secure"], cookie["path"]) == (SECURE_COOKIE, True, "/")
        assert [log["source"] for log in logs if log["event"] == "asked_over_http"] == ["198.51.100.7"]
        with_it = {**forwarded, "Cookie": f"{SECURE_COOKIE}={cookie.value}"}
        assert (await api.ask("GET", "/v1/session", headers=with_it)).status_code == 200
    async with serving(redis, tmp_path) as api:  # no proxy is trusted
        response = await api.ask("POST", "/v1/session", {"token": TOKENS["read"]}, headers=forwarded)
        (cookie,) = SimpleCookie(response.headers["Set-Cookie"]).values()
        assert cookie.key == COOKIE


async def test_sessions_are_bounded_end_with_their_token_and_redis_has_no_id_of_them(api: WebApi) -> None:
    sessions = api.services.sessions
    ids = [await sessions.open(WebSession("read", str(number))) for number in range(SESSIONS_PER_TOKEN + 3)]
    found = [await sessions.find(session_id) for session_id in ids]
    assert sum(each is not None for each in found) == SESSIONS_PER_TOKEN
    assert found[-1] == WebSession("read", str(SESSIONS_PER_TOKEN + 2))
    other = await sessions.open(WebSession("mint", ""))
    assert await sessions.find(other) is not None
    response = await api.ask("GET", "/v1/session", headers={"Cookie": f"{COOKIE}={ids[-1]}"})
    assert problem(response) == (401, "unauthorized")  # of a token with another hash


async def test_a_session_ends_by_itself(redis: RedisServer, tmp_path: Path) -> None:
    async with serving(redis, tmp_path, session_s=60) as api:
        session_id = await api.services.sessions.open(WebSession("read", ""))
        (key,) = (key for key in sorted(redis.keys()) if key.endswith("web:sessions"))
        assert 50 < redis.ttl_s(key) <= 60
        with redis.client() as client:
            ((field, value),) = client.hgetall(key).items()
            client.hset(key, field, value.replace("[1", "[0.1", 1))
        assert await api.services.sessions.find(session_id) is None


async def test_wrong_tokens_from_an_address_are_limited_and_do_not_touch_the_right_ones_of_others(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with serving(redis, tmp_path, refusals_per_minute=3, proxies="127.0.0.1") as api:

        async def ask(address: str, token: str) -> int:
            headers = {"X-Forwarded-For": address}
            return (await api.ask("GET", "/v1/calls", token=token, headers=headers)).status_code

        assert [await ask("192.0.2.1", "wrong") for _ in range(4)] == [401, 401, 401, 429]
        assert await ask("192.0.2.1", "read") == 429
        assert await ask("192.0.2.2", "read") == 200
        body = {"token": "wrong"}
        response = await api.ask("POST", "/v1/session", body, headers={"X-Forwarded-For": "192.0.2.1"})
        assert problem(response) == (429, "too_many_requests")
        assert int(response.headers["Retry-After"]) >= 1


async def test_a_client_that_asks_too_often_gets_429_and_others_go_on(redis: RedisServer, tmp_path: Path) -> None:
    async with serving(redis, tmp_path, requests_per_minute=2) as api:
        statuses = [(await api.ask("GET", "/v1/calls", token="read")).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert (await api.ask("GET", "/v1/calls", token="admin")).status_code == 200


async def test_a_token_gets_into_no_answer_log_line_or_key(api: WebApi, redis: RedisServer) -> None:
    secrets = [*TOKENS.values(), "gw_wrong-0123456789"]
    with capture_logs() as logs:
        answers = []
        for token, (method, path, _) in itertools.product(secrets, endpoints(api)):
            headers = {"Authorization": f"Bearer {token}"}
            body = {"token": token, "target": 5}
            async with api.http.stream(method, filled_in(path), headers=headers, json=body) as response:
                streamed = response.headers.get("Content-Type", "").startswith("text/event-stream")
                answers.append(str(response.headers) + ("" if streamed else (await response.aread()).decode()))
            api.http.cookies.clear()
    await api.services.store.close()
    told = "\n".join((str(logs), *answers))
    with redis.client() as client:
        for key in client.scan_iter("*"):
            told += key + str(client.dump(key) if client.type(key) == "none" else _content(client, key))
    for secret in secrets:
        assert secret not in told


def _content(client: Any, key: str) -> str:
    match client.type(key):
        case "hash":
            return str(client.hgetall(key))
        case "stream":
            return str(client.xrange(key))
        case "set":
            return str(client.smembers(key))
        case "zset":
            return str(client.zrange(key, 0, -1))
        case _:
            return str(client.get(key))


async def test_every_action_is_audited_with_who_what_and_result(api: WebApi, redis: RedisServer) -> None:
    assert (await api.ask("POST", "/v1/dialplan/reload", token="control")).status_code == 202
    assert (await api.ask("POST", "/v1/session", {"token": "x"})).status_code == 401
    assert (await api.ask("POST", "/v1/session", {"token": TOKENS["read"]})).status_code == 200
    await api.services.store.close()
    with redis.client() as client:
        (key,) = (key for key in sorted(redis.keys()) if key.endswith(":audit"))
        entries = [fields for _, fields in client.xrange(key)]
    told = [(entry.get("client"), entry["action"], entry["result"]) for entry in entries]
    assert told == [("control", "reload", "reload_asked"), (None, "log_in", "unauthorized"), ("read", "log_in", "done")]
    assert {entry["source"] for entry in entries} == {"127.0.0.1"}
