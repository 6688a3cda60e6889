"""Own tools of a call against real HTTP servers on loopback and a package with entry points."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from standardwebhooks import Webhook as Signed
from standardwebhooks import WebhookVerificationError
from structlog.testing import capture_logs

from gateway.call.builtin_tools import ToolDefinition
from gateway.call.events import CallEvent, ToolFinished
from gateway.call.ports import Tools
from gateway.dialplan.model.agent import ToolSet
from gateway.ids import CallId
from gateway.redact import Redactor
from gateway.tools.output import CUT, MAX_BYTES
from gateway.tools.plugin import CallFacts, LoadedPlugin
from gateway.tools.runner import MAX_RUNNING, OwnTools
from gateway.tools.webhook import WebhookClient
from tests.fakes.plugins import MODULE, install_plugins

pytestmark = pytest.mark.integration

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]

CALL = CallId("call-1")
SECRETS = {"crm": SecretStr("very-secret"), "pin": SecretStr("p1n4")}
OTHER = SecretStr("sk-another/ secret")
FACTS = {"from": "sip:ann@example.com", "to": "sip:1000@example.com"}
SCHEMA = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}
LIMIT_S = 30.0


class Service:
    """What a tool's owner runs: answers as told, and remembers what it was sent."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.answer: Answering = self._ok
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        self.server = TestServer(app)

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        self.requests.append(request)
        return await self.answer(request)

    async def _ok(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"state": "sent"})

    def will(self, **response: Any) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            return web.Response(**response)

        self.answer = answer


class Bench:
    """One call's tools, and what they told."""

    def __init__(self, tools: OwnTools) -> None:
        self.tools = tools
        self.told: list[CallEvent] = []

    async def use(self, name: str, arguments: Any = None) -> ToolFinished:
        """Run a tool to its end."""
        before = len(self.told)
        text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
        self.tools.run("tc-1", name, text, self.told.append)
        await self.until(before + 1)
        event = self.told[-1]
        assert isinstance(event, ToolFinished)
        assert (event.call_id, event.tool_call_id, event.name) == (CALL, "tc-1", name)
        return event

    async def until(self, count: int) -> None:
        end = time.monotonic() + LIMIT_S
        while len(self.told) < count:
            assert time.monotonic() < end, "the tool told nothing in time"
            await asyncio.sleep(0.005)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    await service.server.start_server()
    yield service
    await service.server.close()


@pytest.fixture
async def http() -> AsyncIterator[WebhookClient]:
    async with WebhookClient() as client:
        yield client


def bench(http: WebhookClient, **tool_set: Any) -> Bench:
    tools = OwnTools(
        call_id=CALL,
        tool_set=ToolSet.model_validate(tool_set),
        secrets=SECRETS,
        facts=FACTS,
        http=http,
        redact=Redactor([OTHER]),
    )
    wanted: Tools = tools
    assert wanted is tools
    return Bench(tools)


def webhook(service: Service, **given: Any) -> dict[str, Any]:
    url = f"http://127.0.0.1:{service.server.port}/order?v=2"
    return {"name": "order", "description": "d", "parameters": SCHEMA, "url": url, **given}


def error_in(event: ToolFinished) -> str:
    assert event.failed
    return str(json.loads(event.output)["error"])


async def test_a_webhook_is_sent_the_arguments_and_the_call_signed_and_its_answer_is_the_output(
    service: Service, http: WebhookClient
) -> None:
    tool = webhook(service, headers={"Authorization": "Bearer ${CRM}"}, signed_with="CRM")
    event = await bench(http, webhooks=[tool]).use("order", {"number": 7})
    assert (event.output, event.failed) == ('{"state": "sent"}', False)
    assert event.took_ms >= 0
    (request,), (body,) = service.requests, service.bodies
    assert (request.method, request.path_qs) == ("POST", "/order?v=2")
    assert json.loads(body) == {"tool": "order", "arguments": {"number": 7}, "call": {"call_id": CALL, **FACTS}}
    assert request.headers["Authorization"] == "Bearer very-secret"
    assert request.headers["Gateway-Call-Id"] == CALL
    assert request.headers["Gateway-Tool"] == "order"
    assert request.content_type == "application/json"
    receiver = Signed(SECRETS["crm"].get_secret_value().encode())
    receiver.verify(body, dict(request.headers))
    with pytest.raises(WebhookVerificationError):
        receiver.verify(body + b" ", dict(request.headers))


async def test_a_get_has_its_arguments_in_the_query_and_that_is_signed(service: Service, http: WebhookClient) -> None:
    tool = webhook(service, method="GET", signed_with="crm", parameters={"type": "object"})
    event = await bench(http, webhooks=[tool]).use("order", {"who": "Zoë & Ed", "n": 1, "all": True, "x": ["a"]})
    assert not event.failed
    (request,), (body,) = service.requests, service.bodies
    assert body == b""
    assert dict(request.query) == {"v": "2", "who": "Zoë & Ed", "n": "1", "all": "true", "x": '["a"]'}
    receiver = Signed(SECRETS["crm"].get_secret_value().encode())
    receiver.verify(request.raw_path, dict(request.headers), json_parse=False)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_half_a_character_from_the_model_does_no_harm(service: Service, http: WebhookClient, method: str) -> None:
    tool = webhook(service, method=method, parameters={"type": "object"})
    event = await bench(http, webhooks=[tool]).use("order", '{"a": "\\ud800", "\\ud800": 1}')
    assert not event.failed


async def test_wrong_arguments_and_unknown_tools_are_answered_without_a_request(
    service: Service, http: WebhookClient
) -> None:
    tools = bench(http, webhooks=[webhook(service)])
    assert "number: 'x' is not of type 'integer'" in error_in(await tools.use("order", {"number": "x"}))
    assert "not valid JSON" in error_in(await tools.use("order", "{"))
    assert error_in(await tools.use("ordr")) == "there is no tool 'ordr'; there are: order"
    assert error_in(await bench(http).use("order")) == "there is no tool 'order'; there are: none"
    assert service.requests == []


@pytest.mark.parametrize(
    ("response", "told"),
    [
        ({"status": 503, "text": "Traceback: very private"}, "failed (503)"),
        ({"status": 404, "text": "no such order"}, "refused (404)"),
        ({"status": 302, "headers": {"Location": "http://127.0.0.1:1/"}}, "redirect (302), which is not followed"),
        ({"body": b"\x89PNG", "content_type": "image/png"}, "answered with image/png, which is not text"),
        ({"body": b"\xff\xfe", "content_type": "text/plain"}, "answered with text/plain, which is not text"),
    ],
)
async def test_an_answer_that_is_no_use_is_told_to_the_model(
    service: Service, http: WebhookClient, response: dict[str, Any], told: str
) -> None:
    service.will(**response)
    event = await bench(http, webhooks=[webhook(service)]).use("order", {"number": 1})
    assert told in error_in(event)
    assert "very private" not in event.output
    assert ("no such order" in event.output) == (response.get("status") == 404)
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("response", "output"),
    [
        ({"text": "It is on its way."}, "It is on its way."),
        ({"status": 204}, '{"ok":true}'),
        ({"body": "größer".encode("latin-1"), "headers": {"Content-Type": "text/plain; charset=iso-8859-1"}}, "größer"),
        ({"text": "{}", "content_type": "application/problem+json"}, "{}"),
        ({"text": "x" * (MAX_BYTES + 1)}, "x" * MAX_BYTES + CUT),
        ({"text": "x" * MAX_BYTES}, "x" * MAX_BYTES),
        ({"text": "x" * (MAX_BYTES - 1) + "ü" * 500_000}, "x" * (MAX_BYTES - 1) + CUT),
    ],
)
async def test_any_text_is_passed_on_but_not_more_than_the_model_can_use(
    service: Service, http: WebhookClient, response: dict[str, Any], output: str
) -> None:
    service.will(**response)
    event = await bench(http, webhooks=[webhook(service)]).use("order", {"number": 1})
    assert (event.output, event.failed) == (output, False)


async def test_a_service_that_is_not_there_or_hangs_up_is_told_to_the_model(
    service: Service, http: WebhookClient
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}/"
        tools = bench(http, webhooks=[webhook(service, url=nobody)])
        assert "cannot be reached" in error_in(await tools.use("order", {"number": 1}))

    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    service.answer = hang_up
    tools = bench(http, webhooks=[webhook(service)])
    assert "cannot be reached" in error_in(await tools.use("order", {"number": 1}))


async def test_a_service_that_does_not_answer_in_time_is_given_up(service: Service, http: WebhookClient) -> None:
    over = asyncio.Event()

    async def never(request: web.Request) -> web.StreamResponse:
        await over.wait()
        return web.Response()

    service.answer = never
    event = await bench(http, webhooks=[webhook(service, timeout_s=0.2)]).use("order", {"number": 1})
    assert error_in(event) == "the tool did not answer within 0.2 s; go on without it or try again later"
    assert event.took_ms >= 200
    over.set()


async def test_a_call_that_ends_cancels_its_tools_and_hears_no_more(service: Service, http: WebhookClient) -> None:
    over = asyncio.Event()

    async def never(request: web.Request) -> web.StreamResponse:
        await over.wait()
        return web.Response()

    service.answer = never
    tools = bench(http, webhooks=[webhook(service)])
    before = asyncio.all_tasks()
    for number in range(3):
        tools.tools.run(f"tc-{number}", "order", '{"number": 1}', tools.told.append)
    while len(service.requests) < 3:
        await asyncio.sleep(0.005)
    await tools.tools.close()
    assert [task for task in asyncio.all_tasks() - before if task.get_name().startswith("tool ")] == []
    tools.tools.run("late", "order", '{"number": 1}', tools.told.append)
    await tools.tools.close()
    over.set()
    await asyncio.sleep(0.02)
    assert tools.told == []


async def test_tools_that_run_at_once_are_bounded(service: Service, http: WebhookClient) -> None:
    over = asyncio.Event()

    async def wait(request: web.Request) -> web.StreamResponse:
        await over.wait()
        return web.Response(text="done")

    service.answer = wait
    tools = bench(http, webhooks=[webhook(service)])
    for number in range(MAX_RUNNING + 4):
        tools.tools.run(f"tc-{number}", "order", '{"number": 1}', tools.told.append)
    await tools.until(4)
    over.set()
    await tools.until(MAX_RUNNING + 4)
    outputs = [event.output for event in tools.told if isinstance(event, ToolFinished)]
    assert outputs.count("done") == MAX_RUNNING
    assert len({event.tool_call_id for event in tools.told if isinstance(event, ToolFinished)}) == MAX_RUNNING + 4


async def test_environment_proxies_do_not_see_the_requests(
    service: Service, http: WebhookClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert not (await bench(http, webhooks=[webhook(service)]).use("order", {"number": 1})).failed


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugins(tmp_path, monkeypatch)


@pytest.mark.usefixtures("plugins")
async def test_plugins_run_on_the_loop_or_in_a_thread_of_their_own(http: WebhookClient) -> None:
    tools = bench(http, plugins=[{"name": "order"}, {"name": "thread"}])
    done = await tools.use("order", {"number": 3})
    assert json.loads(done.output) == {"number": 3, "call": CALL, "from": "sip:ann@example.com"}
    assert (await tools.use("thread")).output == "plugin thread"
    assert "'number' is a required property" in error_in(await tools.use("order"))


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("broken", "KeyError"),
        ("broken_thread", "RuntimeError"),
        ("leave", "RuntimeError"),
        ("leave_thread", "RuntimeError"),
        ("odd", "TypeError"),
    ],
)
async def test_what_a_plugin_raises_is_named_to_the_model_and_told_in_full_to_the_log(
    http: WebhookClient, name: str, kind: str
) -> None:
    with capture_logs() as logs:
        event = await bench(http, plugins=[{"name": name}]).use(name)
    assert error_in(event) == f"the tool failed with {kind}; go on without it"
    (entry,) = [entry for entry in logs if entry["event"] == "tool_raised"]
    assert entry["tool"] == name
    assert entry["exception"].splitlines()[-1].startswith(kind)


@pytest.mark.usefixtures("plugins")
async def test_a_plugin_that_takes_too_long_is_stopped_or_forgotten(http: WebhookClient) -> None:
    tools = bench(http, plugins=[{"name": "endless", "timeout_s": 0.05}, {"name": "stuck", "timeout_s": 0.05}])
    assert "within 0.05 s" in error_in(await tools.use("endless"))
    assert "within 0.05 s" in error_in(await tools.use("stuck"))
    module = sys.modules[MODULE]
    assert module.stopped == [CALL]
    module.released.set()
    while any(thread.name == "plugin stuck" for thread in threading.enumerate()):
        await asyncio.sleep(0.005)
    await tools.tools.close()
    assert len(tools.told) == 2


@pytest.mark.usefixtures("plugins")
async def test_a_call_that_ends_stops_a_plugin(http: WebhookClient) -> None:
    tools = bench(http, plugins=[{"name": "endless"}])
    tools.tools.run("tc", "endless", "{}", tools.told.append)
    await asyncio.sleep(0)
    await tools.tools.close()
    assert sys.modules[MODULE].stopped == [CALL]
    assert tools.told == []


# Secrets


@pytest.mark.parametrize("status", [200, 403])
async def test_a_service_that_repeats_what_it_was_sent_gives_no_secret_away(
    service: Service, http: WebhookClient, status: int
) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        headers = {name: request.headers[name] for name in ("Authorization", "X-Pin", "X-Api-Key")}
        told = {"headers": headers, "other": OTHER.get_secret_value(), "url": request.path_qs}
        return web.json_response(told, status=status)

    service.answer = echo
    sent = {"Authorization": "Bearer ${CRM}", "X-Pin": "${PIN}", "X-Api-Key": "Token written-out"}
    url = str(service.server.make_url("/order?shop=1&token=a%2Fb-c"))
    hook = webhook(service, headers=sent, url=url)
    output = json.loads((await bench(http, webhooks=[hook]).use("order", {"number": 1})).output)

    told = output if status == 200 else json.loads(output["answer"])
    assert told == {
        "headers": {"Authorization": "Bearer ***", "X-Pin": "***", "X-Api-Key": "Token ***"},
        "other": "***",
        "url": "/order?shop=1&token=***",
    }


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("before", [0, MAX_BYTES - 60, MAX_BYTES - 5, MAX_BYTES + 4090])
async def test_no_part_of_a_secret_is_left_where_an_answer_is_cut(
    service: Service, http: WebhookClient, before: int, status: int
) -> None:
    crm = SECRETS["crm"].get_secret_value()
    basic = base64.b64encode(f"user:{crm}".encode()).decode()
    for form, part in ((crm, "very"), (basic, basic[8:14]), (quote(OTHER.get_secret_value(), safe=""), "sk-a")):
        service.will(status=status, text="." * before + f"{form} " * 2000)
        event = await bench(http, webhooks=[webhook(service, headers={"X-Key": "${CRM}"})]).use("order", {"number": 1})

        assert part in form
        assert part not in event.output
        assert "***" in event.output or before > 1000


async def test_what_a_plugin_returns_or_raises_gives_no_secret_away(
    service: Service, http: WebhookClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = OTHER.get_secret_value()

    def leaky(arguments: dict[str, Any], call: CallFacts) -> dict[str, Any]:
        if arguments.get("raise"):
            raise ValueError(secret)
        return {"key": secret}

    plugin = LoadedPlugin(ToolDefinition("leaky", "", {"type": "object"}), leaky)
    monkeypatch.setattr("gateway.tools.runner.load_plugin", lambda name: plugin)
    tools = bench(http, plugins=[{"name": "leaky"}])
    assert json.loads((await tools.use("leaky")).output) == {"key": "***"}

    with capture_logs() as logs:
        await tools.use("leaky", {"raise": True})

    [raised] = [entry for entry in logs if entry["event"] == "tool_raised"]
    assert "ValueError: ***" in raised["exception"]
    assert secret not in str(logs)
