"""The agents of one call, one after the other, each with its own tools."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import structlog

from gateway.call.actions import RunTool
from gateway.call.events import CallEvent, ToolFinished
from gateway.call.ports import Agent, AgentSetup, EmitEvent
from gateway.errors import GatewayError
from gateway.ids import CallId


class _Gate:
    """Lets the events of an agent through until it is closed: later ones would be taken for its successor's."""

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
    The agents that speak for the gateway in one call, at most one at a time. Thread: loop.

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
    def current(self) -> Agent:
        """
        The agent in use.

        Raises:
            GatewayError: there is none. An order to it is a fault of the machine.
        """
        if self._setup is None:
            raise GatewayError("there is no agent to carry out an order")
        return self._setup.agent

    @property
    def responding(self) -> bool:
        """Whether there is an agent that generates a response, or is about to."""
        return self._setup is not None and self._setup.agent.responding

    def use_agent(self, setup: AgentSetup) -> None:
        """Take the next agent. The one before it, if there was one, is closed already, or closing."""
        self._setup = setup
        self._gate = _Gate(self._post)

    def open(self) -> None:
        """Connect the agent in use; its events go to the call's inbox until it is closed."""
        self.current.open(self._gate)

    def close(self) -> None:
        """Begin to close the agent in use and its tools; ``closed`` waits for both."""
        setup, self._setup = self._setup, None
        if setup is None:
            return
        self._gate.shut()
        closes = [setup.agent.close(), *([setup.tools.close()] if setup.tools is not None else [])]
        closing = close_all(self._call_id, *closes)  # both at once
        self._closings.append(asyncio.create_task(closing, name=f"close agent {self._call_id}"))

    def run_tool(self, order: RunTool) -> None:
        """Run a tool of the current profile; ``ToolFinished`` follows, also when there is no such tool."""
        tools = self._setup.tools if self._setup is not None else None
        if tools is not None:
            tools.run(order.tool_call_id, order.name, order.arguments, self._gate)
        else:
            words = f"Error: there is no tool named {order.name}."
            self._post(ToolFinished(self._call_id, order.tool_call_id, order.name, words, failed=True, took_ms=0))

    async def closed(self) -> None:
        """Wait until every agent that began to close has closed."""
        await close_all(self._call_id, *self._closings)


async def close_all(call_id: CallId, *closes: Awaitable[None]) -> None:
    """Wait for all of them; an exception is logged and goes no further."""
    for fault in await asyncio.gather(*closes, return_exceptions=True):
        if fault is not None:
            structlog.get_logger().error("close_failed", call_id=call_id, exc_info=fault)
