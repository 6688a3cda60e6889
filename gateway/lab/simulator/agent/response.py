"""One response: begins with ``response.created``, ends with ``response.done``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from gateway.lab.simulator.agent.mcp import McpOutput
from gateway.lab.simulator.agent.output import CallOutput, MessageOutput, Output, Told, new_id
from gateway.lab.simulator.agent.plan import Plan
from gateway.lab.simulator.answer import ScriptedMcpCall
from gateway.lab.simulator.conversation.items import SimulatedConversation
from gateway.lab.simulator.transport.link import Link
from gateway.lab.simulator.wire.usage import Tokens, usage

Stragglers = Callable[[], None]


class SimulatedResponse:
    """
    A response and its items.

    Args:
        plan: what is asked for.
        conversation: receives the items, unless the response is outside of it.
        link: where events go.
        on_done: called once, behind ``response.done``.

    Attributes:
        stragglers: called when the response is cancelled, to send what is on its way still.
        late_after_done: they come behind ``response.done``.
        hears_cancel: whether a cancel, or the caller's speech, ends it.
        ended: set once it has.
        begun_at: on the scale of ``time.monotonic``.
        asked: by the client; the others the service begins itself.
    """

    def __init__(
        self,
        plan: Plan,
        conversation: SimulatedConversation,
        link: Link,
        on_done: Callable[[SimulatedResponse], None],
        *,
        asked: bool = False,
    ) -> None:
        self.id = new_id("resp")
        self.plan = plan
        self.status = "in_progress"
        self.outputs: list[Output] = []
        self.stragglers: Stragglers | None = None
        self.late_after_done = False
        self.hears_cancel = True
        self.ended = asyncio.Event()
        self.begun_at = time.monotonic()
        self.asked = asked
        self._conversation = None if plan.conversation_id is None else conversation
        self._link = link
        self._on_done = on_done
        link.emit({"type": "response.created", "response": self._wire(None)})

    @property
    def active(self) -> bool:
        """Whether it still goes on."""
        return self.status == "in_progress"

    @property
    def audio_ms(self) -> float:
        """Speech sent so far."""
        return sum(output.item.audio_ms for output in self.outputs)

    def open_message(
        self, phase: str = "final_answer", *, index: int | None = None, as_text: bool = False
    ) -> MessageOutput:
        """
        Announce a message of the agent's.

        Args:
            phase: see ``MessageOutput``.
            index: its place in the response; None is the next.
            as_text: it is text though speech is asked for.
        """
        message = MessageOutput(
            self.plan,
            phase,
            response_id=self.id,
            index=len(self.outputs) if index is None else index,
            conversation=self._conversation,
            link=self._link,
            speaks=self.plan.modality == "audio" and not as_text,
        )
        self.outputs.append(message)
        return message

    def open_call(self, name: str, told: Told = "all") -> CallOutput:
        """Announce a function call, as openly as ``told`` says."""
        call = CallOutput(
            name,
            response_id=self.id,
            index=len(self.outputs),
            conversation=self._conversation,
            link=self._link,
            told=told,
        )
        self.outputs.append(call)
        return call

    def open_mcp(self, part: ScriptedMcpCall) -> McpOutput:
        """Announce a call of an MCP tool, or a request to approve one."""
        call = McpOutput(
            part, response_id=self.id, index=len(self.outputs), conversation=self._conversation, link=self._link
        )
        self.outputs.append(call)
        return call

    def cancel(self, reason: str) -> None:
        """Cancel it as the client, or the caller's speech, asks."""
        if self.hears_cancel:
            self.finish("cancelled", {"type": "cancelled", "reason": reason})

    def finish(self, status: str, details: dict[str, Any] | None = None) -> None:
        """
        End the response; a second end has no effect.

        Args:
            status: ``completed``, ``cancelled``, ``incomplete`` or ``failed``.
            details: its ``status_details``.
        """
        if not self.active:
            return
        self.status = status
        late = self.stragglers if status == "cancelled" else None
        if late is not None and not self.late_after_done:
            late()
        for output in self.outputs:
            output.close("completed" if status == "completed" else "incomplete")
        self._link.emit({"type": "response.done", "response": self._wire(details)})
        if late is not None and self.late_after_done:
            late()
        self.ended.set()
        self._on_done(self)

    def used(self) -> tuple[Tokens, Tokens, Tokens]:
        """Return (input, cached part of it, output); nothing where nothing was said."""
        if not self.outputs:
            return Tokens(), Tokens(), Tokens()
        given = sum((output.tokens() for output in self.outputs), Tokens(self.plan.reasoning_tokens))
        return self.plan.taken, self.plan.cached, given

    def _reasoned(self) -> int | None:
        """Return what it thought, of a model that reasons."""
        return (self.plan.reasoning_tokens if self.outputs else 0) if self.plan.reasons else None

    def _wire(self, details: dict[str, Any] | None) -> dict[str, Any]:
        plan = self.plan
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": self.status,
            "status_details": details,
            "output": [
                output.item.wire for output in sorted(self.outputs, key=lambda each: each.index) if output.is_listed
            ],
            "conversation_id": plan.conversation_id,
            "output_modalities": [plan.modality],
            "max_output_tokens": plan.max_output_tokens,
            "audio": {"output": {"format": plan.output_format, "voice": plan.voice}},
            "usage": None if self.active else usage(*self.used(), reasoning_tokens=self._reasoned()),
            "metadata": plan.metadata,
        }
