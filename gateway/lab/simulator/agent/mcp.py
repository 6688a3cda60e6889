"""Tools of MCP servers, which the service calls by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.lab.simulator.agent.output import Output, new_id
from gateway.lab.simulator.answer import ScriptedMcpCall
from gateway.lab.simulator.conversation.items import Item, SimulatedConversation
from gateway.lab.simulator.transport.link import Link
from gateway.lab.simulator.wire.schema import ClientMistake
from gateway.lab.simulator.wire.usage import Tokens, text_tokens

FOUND = '{"found": 42}'
_FAILURE = {"type": "http_error", "code": 500, "message": "The MCP server answered with 500."}


def _call_wire(part: ScriptedMcpCall, approval_request_id: str | None) -> dict[str, Any]:
    return {
        "id": new_id("mcp"),
        "type": "mcp_call",
        "server_label": part.server,
        "name": part.mcp,
        "arguments": part.text,
        "approval_request_id": approval_request_id,
        "output": None,
        "error": None,
    }


class McpOutput(Output):
    """
    A call of such a tool, or a request to approve one.

    Its end is the tool's, which may come behind the response's; a request is done when it is made.

    Args:
        part: what is called.
    """

    def __init__(
        self,
        part: ScriptedMcpCall,
        *,
        response_id: str,
        index: int,
        conversation: SimulatedConversation | None,
        link: Link,
    ) -> None:
        self.part = part
        wire = _call_wire(part, None)
        if part.approval:
            kept = ("server_label", "name", "arguments")
            wire = {"id": new_id("mcpr"), "type": "mcp_approval_request"} | {key: wire[key] for key in kept}
        super().__init__(wire, response_id=response_id, index=index, conversation=conversation, link=link)
        if part.approval:
            super().close("completed")
            return
        self._emit("mcp_call_arguments.done", response_id=response_id, arguments=part.text)
        self._emit("mcp_call.in_progress")

    def close(self, status: str) -> None:
        """Nothing: the tool goes on when the response has ended."""

    def end(self) -> None:
        """End the call as the part says."""
        failed = self.part.ends == "failed"
        self.item.wire["error" if failed else "output"] = _FAILURE if failed else FOUND
        self._emit(f"mcp_call.{self.part.ends}")
        super().close("completed")

    def tokens(self) -> Tokens:
        """Return what it counts as output."""
        return Tokens(text_tokens(self.part.mcp) + text_tokens(self.part.text))

    def _close_content(self) -> None:
        pass

    def _emit(self, name: str, **fields: Any) -> None:
        self._link.emit({"type": f"response.{name}", "item_id": self.item.id, "output_index": self.index, **fields})


class McpTools:
    """
    What a session does with MCP servers: imports their tools, and calls what the client approves.

    Args:
        conversation: receives the items.
        link: where events go.
        spawn: runs a coroutine beside the session.
        go_on: begins a response by the service itself.
    """

    def __init__(
        self,
        conversation: SimulatedConversation,
        link: Link,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        go_on: Callable[[], None],
    ) -> None:
        self._conversation = conversation
        self._link = link
        self._spawn = spawn
        self._go_on = go_on
        self._imported: set[str] = set()
        self._requests: dict[str, ScriptedMcpCall] = {}

    def import_from(self, tools: list[dict[str, Any]]) -> None:
        """Import the tools of servers that are new among the session's tools."""
        for label in (tool["server_label"] for tool in tools if tool["type"] == "mcp"):
            if label in self._imported:
                continue
            self._imported.add(label)
            wire = {"id": new_id("mcpl"), "type": "mcp_list_tools", "server_label": label, "tools": []}
            self._add(wire)
            self._link.emit({"type": "mcp_list_tools.in_progress", "item_id": wire["id"]})
            self._link.emit({"type": "mcp_list_tools.completed", "item_id": wire["id"]})
            self._done(wire)

    async def run(self, output: McpOutput) -> None:
        """Take what a response calls to its end, then go on where the part says so; a request waits for its answer."""
        part = output.part
        if part.approval:
            self._requests[output.item.id] = part
        elif part.ends != "never":
            await asyncio.sleep(part.takes_s)
            output.end()
            if part.goes_on:
                self._go_on()

    def answer(self, item: dict[str, Any]) -> None:
        """
        Take the client's answer to a request.

        Raises:
            ClientMistake: no such request, or one that was answered.
        """
        part = self._requests.pop(item["approval_request_id"], None)
        if part is None:
            message = f"Approval request '{item['approval_request_id']}' not found in conversation."
            raise ClientMistake("invalid_value", message, "item.approval_request_id")
        if item["approve"]:
            self._spawn(self._run_approved(part, item["approval_request_id"]))

    async def _run_approved(self, part: ScriptedMcpCall, request_id: str) -> None:
        """Call outside of any response what was approved."""
        wire = _call_wire(part, request_id)
        self._add(wire)
        place = {"item_id": wire["id"], "output_index": 0}
        self._link.emit({"type": "response.mcp_call.in_progress", **place})
        if part.ends == "never":
            return
        await asyncio.sleep(part.takes_s)
        failed = part.ends == "failed"
        wire["error" if failed else "output"] = _FAILURE if failed else FOUND
        self._link.emit({"type": f"response.mcp_call.{part.ends}", **place})
        self._done(wire)
        if part.goes_on:
            self._go_on()

    def _add(self, wire: dict[str, Any]) -> None:
        previous = self._conversation.last_id()
        self._conversation.append(Item(wire))
        self._link.emit({"type": "conversation.item.added", "previous_item_id": previous, "item": wire})

    def _done(self, wire: dict[str, Any]) -> None:
        previous = self._conversation.previous_id(wire["id"])
        self._link.emit({"type": "conversation.item.done", "previous_item_id": previous, "item": wire})
