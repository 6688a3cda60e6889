"""Before the answer: what is tried again, how often, how soon, and what is not."""

from __future__ import annotations

import http
import json
import time

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from gateway.call.events import AgentReady
from gateway.errors import AgentError, AgentLost, AgentRefused
from gateway.upstream.core.backoff import Backoff
from tests.fakes.realtime_service import (
    CALL,
    Script,
    calling,
    in_turn,
    make_ready,
    receive,
    send,
    serving,
    until_closed,
)

pytestmark = pytest.mark.integration


async def serve_well(socket: ServerConnection) -> None:
    await make_ready(socket)
    await until_closed(socket)


def closing(code: int, *, after_update: bool = True) -> Script:
    async def script(socket: ServerConnection) -> None:
        await send(socket, "session.created", session={"id": "sess_0"})
        if after_update:
            await receive(socket, "session.update")
        await socket.close(code)

    return script


async def cut(socket: ServerConnection) -> None:
    """End without a CLOSE: 1006."""
    await receive(socket, "session.update")
    socket.transport.abort()


async def close_without_status(socket: ServerConnection) -> None:
    """End with a CLOSE that has no code: 1005."""
    await receive(socket, "session.update")
    socket.protocol.send_close()
    socket.send_data()
    await until_closed(socket)


@pytest.mark.parametrize("code", [1001, 1011, 1012, 1013])
async def test_a_loss_is_tried_again_until_the_service_is_there(code: int) -> None:
    scripts = (closing(code), closing(code, after_update=False), closing(code), serve_well)
    async with serving(in_turn(*scripts)) as url, calling(url) as call:
        assert await call.event() == AgentReady(CALL, "sess_1")
        retries = call.noted("agent_retry")

        assert [retry["attempt"] for retry in retries] == [1, 2, 3]
        assert {retry["close_code"] for retry in retries} == {code}
        assert (await call.note("session"))["attempt"] == 4


async def test_a_connection_that_breaks_is_tried_again() -> None:
    async with serving(in_turn(cut, cut, cut, serve_well)) as url, calling(url) as call:
        assert isinstance(await call.event(), AgentReady)
        assert len(call.noted("agent_retry")) == 3


@pytest.mark.parametrize("script", [closing(1000), close_without_status], ids=["1000", "1005"])
async def test_what_may_be_tried_again_once_is(script: Script) -> None:
    async with serving(in_turn(script, serve_well)) as url, calling(url) as call:
        assert isinstance(await call.event(), AgentReady)

    async with serving(script) as url, calling(url) as call:
        assert isinstance(await call.error(), AgentLost)
        assert len(call.noted("agent_retry")) == 1


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 3000, 4000])
async def test_what_is_refused_is_never_tried_again(code: int) -> None:
    async with serving(closing(code)) as url, calling(url) as call:
        error = await call.error()

        assert isinstance(error, AgentRefused)
        assert error.close_code == code
        assert call.noted("agent_retry") == []


@pytest.mark.parametrize("status", [408, 409, 423, 425, 429, 500, 502, 503, 504])
async def test_a_status_that_passes_is_tried_again(status: int) -> None:
    left = [status, status]

    def refuse(connection: ServerConnection, _request: Request) -> Response | None:
        return connection.respond(http.HTTPStatus(left.pop()), "") if left else None

    async with serving(serve_well, process_request=refuse) as url, calling(url) as call:
        assert isinstance(await call.event(), AgentReady)
        assert [retry["http_status"] for retry in call.noted("agent_retry")] == [status, status]


async def test_the_wait_a_service_asks_for_is_kept() -> None:
    left = [1]

    def refuse(connection: ServerConnection, _request: Request) -> Response | None:
        if not left:
            return None
        response = connection.respond(http.HTTPStatus.TOO_MANY_REQUESTS, "")
        response.headers["Retry-After"] = str(left.pop())
        return response

    began = time.monotonic()
    async with serving(serve_well, process_request=refuse) as url, calling(url) as call:
        assert isinstance(await call.event(), AgentReady)
        assert call.noted("agent_retry")[0]["delay_ms"] == 1000
    assert time.monotonic() - began >= 1


async def test_a_quota_that_is_used_up_is_not_tried_again_though_its_status_is_429() -> None:
    def refuse(connection: ServerConnection, _request: Request) -> Response:
        body = json.dumps({"error": {"code": "insufficient_quota", "message": "No credit."}})
        return connection.respond(http.HTTPStatus.TOO_MANY_REQUESTS, body)

    async with serving(serve_well, process_request=refuse) as url, calling(url) as call:
        error = await call.error()
        assert "No credit." in error.detail
        assert call.noted("agent_retry") == []


async def test_a_service_that_is_down_is_tried_until_the_call_gives_up() -> None:
    async with serving(until_closed) as url:
        pass
    async with calling(url) as call:
        note = await call.note("agent_retry", 4)
        assert "cannot reach the service" in note["detail"]
        assert call.events == []


async def test_delays_grow_though_sessions_are_created_and_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    ceilings: list[float] = []
    next_s = Backoff.next_s

    def note_ceiling(self: Backoff, floor_s: float = 0.0) -> float:
        ceilings.append(self._ceiling_s)
        return next_s(self, floor_s)

    monkeypatch.setattr(Backoff, "next_s", note_ceiling)
    scripts = (cut, closing(1011), closing(1011), closing(1011), cut, closing(1011), serve_well)
    quick = {"retry_first_s": 0.01, "retry_last_s": 0.16, "breaker_losses": 0}
    async with serving(in_turn(*scripts)) as url, calling(url, **quick) as call:
        assert isinstance(await call.event(), AgentReady)

    assert ceilings == [0.01, 0.02, 0.04, 0.08, 0.16, 0.16]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "invalid_request_error", "code": "invalid_api_key"}, AgentRefused),
        ({"type": "invalid_request_error", "code": None, "message": "Missing bearer"}, AgentRefused),
    ],
    ids=["wrong key", "no key"],
)
async def test_a_wrong_key_is_never_tried_again(error: dict[str, str], kind: type[AgentError]) -> None:
    connections = 0

    async def script(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await send(socket, "error", error=error)
        await socket.close(3000, "invalid_request_error")

    async with serving(script) as url, calling(url) as call:
        assert type(await call.error()) is kind

    assert connections == 1


async def test_closing_ends_the_attempts() -> None:
    async with serving(cut) as url:
        async with calling(url, retry_first_s=30, retry_last_s=30) as call:
            await call.note("agent_retry")
            began = time.monotonic()
        assert time.monotonic() - began < 20, "30 s until the next attempt"
    assert call.events == []
