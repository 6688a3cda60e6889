"""Steering over HTTP: each request is one command to the worker that has the call, and its answer is the worker's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.condition import State, WorkerCondition
from gateway.ids import CallId
from gateway.store.commands import Command, CommandAnswer, CommandInbox, done, refused
from gateway.store.registry import RegistryWriter
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until
from tests.rigs.web_api import WebApi, opened, problem, serving

pytestmark = pytest.mark.integration

CALL = CallId("0197c0ffee0a1b2c3d4e5f")
ORDERS: list[tuple[str, dict[str, Any] | None, str]] = [
    ("hang-up", None, "hang_up"),
    ("hang-up", {"goodbye": True}, "hang_up"),
    ("transfer", {"target": "+4930123"}, "transfer"),
    ("digits", {"digits": "12#,A"}, "send_digits"),
    ("say", {"text": "We close soon."}, "say"),
    ("whisper", {"text": "Be brief.\nPlease."}, "whisper"),
    ("take-over", {"target": "sip:a@example.com"}, "take_over"),
    ("give-back", None, "give_back"),
    ("trace", {}, "trace"),
]


class Worker:
    """
    A worker that obeys.

    Attributes:
        seen: the commands it got.
        refusing: why it refuses, if it does.
        is_deaf: takes commands and never answers.
    """

    def __init__(self) -> None:
        self.seen: list[Command] = []
        self.refusing = ""
        self.is_deaf = False

    async def carry_out(self, command: Command) -> CommandAnswer:
        self.seen.append(command)
        if self.is_deaf:
            await asyncio.sleep(3600)
        return refused(command, self.refusing) if self.refusing else done(command, "as asked")


@asynccontextmanager
async def working(redis: RedisServer, *names: str, state: State = "ready", calls: int = 0) -> AsyncIterator[Worker]:
    worker = Worker()
    async with RegistryWriter(redis.settings()) as registry:
        registry.set_workers([WorkerCondition(name, state, calls + number, 4, "") for number, name in enumerate(names)])
        inboxes = [CommandInbox(redis.settings(), name, worker.carry_out) for name in names]
        for inbox in inboxes:
            await inbox.__aenter__()
        with redis.client() as client:
            await until(lambda: len(client.keys("*commands:*:reader")) == len(names))
            await until(lambda: len(client.keys("{gateway}:worker:*")) == len(names))
        try:
            yield worker
        finally:
            for inbox in inboxes:
                await inbox.__aexit__(None, None, None)


@pytest.fixture
async def api(redis: RedisServer, tmp_path: Path) -> AsyncIterator[WebApi]:
    async with serving(redis, tmp_path) as api:
        yield api


@pytest.fixture
async def call(redis: RedisServer) -> AsyncIterator[CallId]:
    async with opened(redis, "w1") as store:
        store.note(CALL, "answered", state="talking")
        await until(lambda: redis.live())
        yield CALL


def audited(redis: RedisServer) -> list[dict[str, str]]:
    with redis.client() as client:
        return [fields for _, fields in client.xrange("{gateway}:audit")]


@pytest.mark.parametrize(("what", "body", "kind"), ORDERS, ids=[what for what, _, _ in ORDERS])
async def test_an_order_reaches_the_worker_of_the_call_and_is_audited(
    api: WebApi, redis: RedisServer, call: CallId, what: str, body: dict[str, Any] | None, kind: str
) -> None:
    async with working(redis, "w1", "w2") as worker:
        response = await api.ask("POST", f"/v1/calls/{call}/{what}", body, token="control")
        assert response.json() == {"state": "done", "detail": "as asked", "fields": {}}
        (command,) = worker.seen
        fields = {name: "true" if value is True else value for name, value in (body or {}).items()}
        assert (command.kind, command.call_id, command.fields, command.by) == (kind, call, fields, "control")
        worker.refusing = "not in this state"
        response = await api.ask("POST", f"/v1/calls/{call}/{what}", body, token="control")
        assert problem(response) == (409, "refused")
        assert response.json()["detail"] == "not in this state"
    await until(lambda: len(audited(redis)) == 2)
    for entry, result in zip(audited(redis), ("done", "refused"), strict=True):
        told = {name: entry[name] for name in ("client", "action", "call_id", "result", "source")}
        assert told == {
            **{"client": "control", "action": kind, "call_id": call, "result": result},
            "source": "127.0.0.1",
        }


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("transfer", None),
        ("transfer", {}),
        ("transfer", {"target": ""}),
        ("transfer", {"target": "1", "more": "x"}),
        ("transfer", {"target": 5}),
        ("transfer", {"target": "x" * 300}),
        ("digits", {"digits": "12 3"}),
        ("digits", {"digits": "1" * 65}),
        ("say", {"text": ""}),
        ("say", {"text": "x" * 4001}),
        ("whisper", {"text": ["x"]}),
        ("take-over", []),
    ],
)
async def test_a_wrong_order_reaches_no_worker(
    api: WebApi, redis: RedisServer, call: CallId, what: str, body: Any
) -> None:
    async with working(redis, "w1") as worker:
        response = await api.ask("POST", f"/v1/calls/{call}/{what}", body, token="control")
        assert problem(response) == (422, "invalid_request")
        assert worker.seen == []


async def test_a_call_that_ended_or_a_worker_that_is_gone_is_said(api: WebApi, redis: RedisServer) -> None:
    async with opened(redis, "w1") as store:
        store.note(CALL, "ended", state="ended")
        store.note(CallId("live"), "answered", state="talking")
        async with asyncio.timeout(40):
            while (await api.ask("GET", "/v1/calls/live", token="read")).status_code != 200:
                await asyncio.sleep(0.02)
        assert problem(await api.ask("POST", f"/v1/calls/{CALL}/hang-up", token="control")) == (409, "call_ended")
        assert problem(await api.ask("POST", "/v1/calls/none/hang-up", token="control")) == (404, "unknown_call")
        response = await api.ask("POST", "/v1/calls/live/hang-up", token="control")
        assert problem(response) == (409, "refused")
        assert "w1 is not there" in response.json()["detail"]


async def test_a_worker_that_does_not_answer_is_504_and_that_says_whether_it_may_still_be_done(
    api: WebApi, redis: RedisServer, call: CallId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.web.control.WAIT_S", 0.3)
    async with working(redis, "w1") as worker:
        worker.is_deaf = True
        response = await api.ask("POST", f"/v1/calls/{call}/hang-up", token="control")
    assert problem(response) == (504, "expired")
    assert "may still be done" in response.json()["detail"]


async def test_workers_are_drained_and_trunks_probed_by_name(api: WebApi, redis: RedisServer) -> None:
    async with working(redis, "w1", "w2") as worker, opened(redis, "w2") as store:
        for what in ("drain", "undrain"):
            assert (await api.ask("POST", f"/v1/workers/w2/{what}", token="control")).status_code == 200
            assert problem(await api.ask("POST", f"/v1/workers/w9/{what}", token="control")) == (404, "unknown_worker")
        store.note_trunk("main", state="registered")
        async with asyncio.timeout(40):
            while (await api.ask("POST", "/v1/trunks/main/probe", token="control")).status_code != 200:
                await asyncio.sleep(0.02)
        assert problem(await api.ask("POST", "/v1/trunks/other/probe", token="control")) == (404, "unknown_trunk")
        assert [each.kind for each in worker.seen] == ["drain", "undrain", "probe_trunk"]
        assert worker.seen[-1].fields == {"trunk": "main"}


async def test_a_call_is_placed_by_the_least_loaded_worker(api: WebApi, redis: RedisServer) -> None:
    body = {"target": "+4930123", "agent": "hello", "caller_id": "+4930999"}
    assert problem(await api.ask("POST", "/v1/calls", body, token="dial")) == (503, "no_worker")
    async with working(redis, "w2", "w1") as worker:
        response = await api.ask("POST", "/v1/calls", body, token="dial")
        assert response.status_code == 202
        (command,) = worker.seen
        assert (command.kind, command.call_id, command.by) == ("dial", response.json()["call_id"], "dial")
        assert command.fields == body
        worker.refusing = "no such agent"
        assert problem(await api.ask("POST", "/v1/calls", body, token="dial")) == (409, "refused")
    async with working(redis, "w3", state="draining"):
        async with asyncio.timeout(40):
            while problem(await api.ask("POST", "/v1/calls", body, token="dial")) != (503, "no_worker"):
                await asyncio.sleep(0.1)


async def test_a_call_that_is_asked_for_again_with_its_key_is_placed_once(api: WebApi, redis: RedisServer) -> None:
    body = {"target": "+4930123", "agent": "hello"}
    key = {"Idempotency-Key": "order-1"}
    async with working(redis, "w1", "w2") as worker:
        answers = await asyncio.gather(
            *(api.ask("POST", "/v1/calls", body, token="dial", headers=key) for _ in range(8))
        )
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["call_id"] for answer in answers}) == 1
        assert len(worker.seen) == 1
        other = await api.ask("POST", "/v1/calls", {**body, "agent": "b"}, token="dial", headers=key)
        assert problem(other) == (422, "key_used")
        foreign = await api.ask("POST", "/v1/calls", body, token="admin", headers=key)
        assert foreign.json()["call_id"] != answers[0].json()["call_id"]
        another = await api.ask("POST", "/v1/calls", body, token="dial", headers={"Idempotency-Key": "order-2"})
        assert another.json()["call_id"] != answers[0].json()["call_id"]
        assert len(worker.seen) == 3
        for wrong in ("", "a b", "x" * 256):
            response = await api.ask("POST", "/v1/calls", body, token="dial", headers={"Idempotency-Key": wrong})
            assert problem(response) == (422, "invalid_request")
    (expiry,) = {round(redis.ttl_s(name) / 3600) for name in sorted(redis.keys()) if ":web:dial:" in name}
    assert expiry == 24
    assert not [name for name in sorted(redis.keys()) if "order" in name]


async def test_the_audit_is_read_page_by_page_by_admins(api: WebApi, redis: RedisServer) -> None:
    for _ in range(3):
        assert (await api.ask("POST", "/v1/dialplan/reload", token="control")).status_code == 202
    await until(lambda: len(audited(redis)) == 3)
    first = (await api.ask("GET", "/v1/audit?limit=2", token="admin")).json()
    assert [entry["client"] for entry in first["entries"]] == ["control", "control"]
    assert all(isinstance(entry["at"], float) for entry in first["entries"])
    rest = (await api.ask("GET", "/v1/audit", token="admin", params={"limit": 2, "before": first["next"]})).json()
    assert (len(rest["entries"]), rest["next"]) == (1, None)
    assert len({entry["id"] for entry in (*first["entries"], *rest["entries"])}) == 3
    assert problem(await api.ask("GET", "/v1/audit?before=x", token="admin"))[0] == 422
