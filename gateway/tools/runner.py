"""
The own tools of one call: run in the background, each with its limit, each with exactly one answer.

Theory of operation. The model calls a function; the protocol's core puts the call together and hands it to
``call/builtin_tools.py``. A tool of the gateway becomes an event of its own (``HangUpAsked``), a tool of the
user becomes ``ToolAsked``. Call control answers that with ``RunTool``, which comes here: the arguments are checked
against the tool's schema (``arguments.py``), then a webhook is sent (``webhook.py``, signed by ``signing.py``) or a
plugin runs (``plugin.py``; a plain function on a thread of its own). Whatever happens, one ``ToolFinished`` follows,
with an output that is short, free of secrets (``output.py``, ``gateway/redact.py``) and fit for the model.

Thread: loop. Closing a call cancels its tools and drops their answers.
"""

from __future__ import annotations

import asyncio
import functools
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from pydantic import SecretStr

from gateway.call.builtin_tools import ToolDefinition
from gateway.call.events import ToolFinished
from gateway.call.ports import EmitEvent
from gateway.dialplan.model.agent import Plugin, ToolSet, Webhook
from gateway.ids import CallId
from gateway.redact import Redactor
from gateway.tools.arguments import Parameters
from gateway.tools.output import ToolAnswer, failed, succeeded
from gateway.tools.plugin import CallFacts, load_plugin
from gateway.tools.webhook import WebhookClient, headers_of, secrets_sent

MAX_RUNNING = 16
CLOSE_LIMIT_S = 1.0
SHORTEST_SENT = 4
"""A secret that a webhook is sent is taken out of its answer if it has as many characters."""

TraceHeaders = Callable[[CallId, str], Mapping[str, str]]
"""Returns the headers that say to which trace the request of a tool belongs, of a call and its use of the tool."""

_log = structlog.get_logger(__name__)


def no_headers(call_id: CallId, tool_call_id: str) -> Mapping[str, str]:
    """Return none, where there are no traces."""
    return {}


def own_definitions(tool_set: ToolSet) -> tuple[ToolDefinition, ...]:
    """
    Return how the profile's own tools are offered to the model, webhooks first.

    Raises:
        ConfigError: a plugin that is not installed or cannot be used.
    """
    webhooks = (ToolDefinition(tool.name, tool.description, tool.parameters) for tool in tool_set.webhooks)
    return (*webhooks, *(load_plugin(tool.name).definition for tool in tool_set.plugins))


@dataclass(frozen=True, slots=True)
class _Tool:
    parameters: Parameters
    timeout_s: float
    work: Callable[[dict[str, Any], Mapping[str, str]], Awaitable[ToolAnswer]]
    """Takes arguments that fit, and headers for a request."""


@dataclass(eq=False, slots=True)
class _Run:
    """One use of a tool. ``emit`` is None once the model was answered, or the answer is no longer wanted."""

    tool_call_id: str
    name: str
    emit: EmitEvent | None
    started_at: float = field(default_factory=time.monotonic)
    task: asyncio.Task[ToolAnswer] | None = None
    limit: asyncio.TimerHandle | None = None


class OwnTools:
    """
    The ``Tools`` of ``call/ports.py`` for one call. Thread: loop.

    Args:
        call_id: our id of the call.
        tool_set: the profile's tools; those built in are not run here.
        secrets: the secrets of the settings, names in lower case.
        facts: what tools get about the call besides its id, such as ``from`` and ``to``.
        http: the worker's client, open.
        redact: takes secrets out of what a tool answers, and of what is logged of it.
        trace_headers: what a request says of its trace.

    Raises:
        ConfigError: a secret or a plugin is not there; ``check_tools`` finds that at start.
    """

    def __init__(
        self,
        *,
        call_id: CallId,
        tool_set: ToolSet,
        secrets: Mapping[str, SecretStr],
        facts: Mapping[str, str],
        http: WebhookClient,
        redact: Redactor,
        trace_headers: TraceHeaders = no_headers,
    ) -> None:
        self._call_id = call_id
        self._facts = dict(facts)
        self._http = http
        self._redact = redact
        self._trace_headers = trace_headers
        self._tools = {
            **{tool.name: self._webhook(tool, secrets) for tool in tool_set.webhooks},
            **{tool.name: self._plugin(tool) for tool in tool_set.plugins},
        }
        self._runs: set[_Run] = set()
        self._closed = False

    def _webhook(self, webhook: Webhook, secrets: Mapping[str, SecretStr]) -> _Tool:
        ask = functools.partial(
            self._http.ask,
            webhook,
            call={**self._facts, "call_id": self._call_id},
            signing_secret=secrets[webhook.signed_with.lower()] if webhook.signed_with else None,
            redact=self._redact.plus(secrets_sent(webhook, secrets), shortest=SHORTEST_SENT),
        )
        own = headers_of(webhook, secrets)

        async def work(arguments: dict[str, Any], trace: Mapping[str, str]) -> ToolAnswer:
            return await ask(arguments, headers={**trace, **own})

        return _Tool(Parameters(webhook.parameters), webhook.timeout_s, work)

    def _plugin(self, plugin: Plugin) -> _Tool:
        loaded = load_plugin(plugin.name)

        async def work(arguments: dict[str, Any], trace: Mapping[str, str]) -> ToolAnswer:
            return succeeded(await loaded.run(arguments, CallFacts(self._call_id, self._facts)), self._redact)

        return _Tool(Parameters(loaded.definition.parameters), plugin.timeout_s, work)

    def run(self, tool_call_id: str, name: str, arguments: str, emit: EmitEvent) -> None:
        """
        Run a tool in the background.

        One ``ToolFinished`` follows through ``emit``, at the tool's limit at the latest and never before this returns;
        none once ``close`` was called.
        """
        if self._closed:
            return
        run = _Run(tool_call_id, name, emit)
        tool = self._tools.get(name)
        loop = asyncio.get_running_loop()
        busy = len(self._runs) >= MAX_RUNNING
        attempt = self._attempt(run, tool, arguments, busy=busy)
        run.task = asyncio.create_task(attempt, name=f"tool {name} {self._call_id}")
        run.task.add_done_callback(functools.partial(self._ended, run))
        if tool is not None:
            run.limit = loop.call_later(tool.timeout_s, self._timed_out, run, tool.timeout_s)
        self._runs.add(run)

    async def close(self) -> None:
        """
        Cancel what still runs; nothing is emitted once this was called.

        On return no task is left, save one that refuses to be cancelled, and no request. The thread of a plain
        function cannot be stopped.
        """
        self._closed = True
        tasks = {run.task for run in self._runs if run.task is not None}
        for run in self._runs:
            self._settle(run)
        for task in tasks:
            task.cancel()
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=CLOSE_LIMIT_S)
            for task in left:
                _log.error("tool_cannot_be_stopped", call_id=self._call_id, task=task.get_name())

    async def _attempt(self, run: _Run, tool: _Tool | None, arguments: str, *, busy: bool) -> ToolAnswer:
        if tool is None:
            there = ", ".join(self._tools) or "none"
            return failed(f"there is no tool {run.name[:64]!r}; there are: {there}")
        if busy:
            return failed("too many tools are running; wait for their answers")
        read = tool.parameters.read(arguments)
        if isinstance(read, ToolAnswer):
            return read
        return await tool.work(read, self._trace_headers(self._call_id, run.tool_call_id))

    def _timed_out(self, run: _Run, limit_s: float) -> None:
        self._tell(run, failed(f"the tool did not answer within {limit_s:g} s; go on without it or try again later"))
        if run.task is not None:
            run.task.cancel()

    def _ended(self, run: _Run, task: asyncio.Task[ToolAnswer]) -> None:
        self._runs.discard(run)
        if task.cancelled():
            self._tell(run, failed("the tool was stopped"))  # it cancelled itself, or the limit spoke already
        elif (error := task.exception()) is not None:
            trace = self._redact("".join(traceback.format_exception(error)))
            _log.error("tool_raised", call_id=self._call_id, tool=run.name, exception=trace)
            self._tell(run, failed(f"the tool failed with {type(error).__name__}; go on without it"))
        else:
            self._tell(run, task.result())

    def _tell(self, run: _Run, answer: ToolAnswer) -> None:
        emit = self._settle(run)
        if emit is None:
            return
        took_ms = round((time.monotonic() - run.started_at) * 1000)
        _log.info("tool_finished", call_id=self._call_id, tool=run.name, failed=answer.failed, took_ms=took_ms)
        emit(ToolFinished(self._call_id, run.tool_call_id, run.name, answer.output, answer.failed, took_ms))

    def _settle(self, run: _Run) -> EmitEvent | None:
        """Return whom to tell, once."""
        emit, run.emit = run.emit, None
        if run.limit is not None:
            run.limit.cancel()
        return emit
