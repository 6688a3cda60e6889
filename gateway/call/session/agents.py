"""The agents of one call, one after the other: each is opened, spoken to and closed, tools and all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from gateway.call.actions import (
    AnnounceRecording,
    AnswerTool,
    CallAction,
    CancelResponse,
    CloseAgent,
    Greet,
    MuteCaller,
    OpenAgent,
    RunTool,
    SayGoodbye,
    TellAgent,
    Truncate,
    UnmuteCaller,
)
from gateway.call.events import CallEvent, ToolFinished
from gateway.call.ports import Agent, AgentSetup, EmitEvent
from gateway.errors import GatewayError
from gateway.ids import CallId


class _Gate:
    """Lets an agent's events through until it is told to close: what comes later is not for its successor."""

    def __init__(self, emit: EmitEvent) -> None:
        self._emit = emit
        self._shut = False

    def __call__(self, event: CallEvent) -> None:
        if not self._shut:
            self._emit(event)

    def shut(self) -> None:
        self._shut = True


class Agents:
    """
    Whoever speaks for the gateway in one call. Thread: loop.

    Args:
        call_id: our id of the call.
        post: the call's inbox.
    """

    def __init__(self, call_id: CallId, post: EmitEvent) -> None:
        self._call_id = call_id
        self._post = post
        self._setup: AgentSetup | None = None
        self._gate = _Gate(post)
        self._closings: list[asyncio.Task[None]] = []

    @property
    def responding(self) -> bool:
        """Whether the agent that is there now generates, or is about to."""
        return self._setup is not None and self._setup.agent.responding

    def orders(self) -> Mapping[type[CallAction], Callable[[Any], None]]:
        """Return how each order to an agent is carried out."""
        return {
            OpenAgent: lambda _: self._agent.open(self._gate),
            CloseAgent: lambda _: self._start_closing(),
            Greet: lambda order: self._agent.greet(order.text),
            AnnounceRecording: lambda _: self._agent.announce(),
            Truncate: lambda order: self._agent.truncate(order.item_id, order.played_ms),
            CancelResponse: lambda _: self._agent.cancel(),
            SayGoodbye: lambda order: self._agent.say_goodbye(order.detail),
            AnswerTool: lambda order: self._agent.answer_tool(order.tool_call_id, order.output, respond=order.respond),
            TellAgent: lambda order: self._agent.tell(order.text, respond=order.respond),
            MuteCaller: lambda _: self._agent.mute_caller(),
            UnmuteCaller: lambda _: self._agent.unmute_caller(),
            RunTool: self._run_tool,
        }

    def use_agent(self, setup: AgentSetup) -> None:
        """Take the next agent; the one before it, if any, was told to close."""
        self._setup = setup
        self._gate = _Gate(self._post)

    async def closed(self) -> None:
        """Wait until all that were told to close have closed."""
        await close_all(self._call_id, *self._closings)

    @property
    def _agent(self) -> Agent:
        if self._setup is None:
            raise GatewayError("there is no agent to carry out an order")
        return self._setup.agent

    def _start_closing(self) -> None:
        setup, self._setup = self._setup, None
        if setup is None:
            return
        self._gate.shut()
        closes = [setup.agent.close(), *([setup.tools.close()] if setup.tools is not None else [])]
        closing = close_all(self._call_id, *closes)  # both at once
        self._closings.append(asyncio.create_task(closing, name=f"close agent {self._call_id}"))

    def _run_tool(self, order: RunTool) -> None:
        tools = self._setup.tools if self._setup is not None else None
        if tools is not None:
            tools.run(order.tool_call_id, order.name, order.arguments, self._gate)
        else:
            words = f"Error: there is no tool named {order.name}."
            self._post(ToolFinished(self._call_id, order.tool_call_id, order.name, words, failed=True, took_ms=0))


async def close_all(call_id: CallId, *closes: Awaitable[None]) -> None:
    """Wait for them all; their faults are logged and end here."""
    for fault in await asyncio.gather(*closes, return_exceptions=True):
        if fault is not None:
            structlog.get_logger().error("close_failed", call_id=call_id, exc_info=fault)
