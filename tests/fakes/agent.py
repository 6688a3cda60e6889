"""A voice model that says what a test wants it to say."""

from __future__ import annotations

import asyncio

from gateway.call.events import AgentFailed, AgentReady, CallEvent
from gateway.call.ports import EmitEvent
from gateway.errors import AgentError
from gateway.ids import CallId

CALL = CallId("call")


class FakeAgent:
    """
    Remembers its orders; what it emits the test decides.

    Args:
        call_id: the call of the events it emits.
        willing: be ready as soon as it is opened.
    """

    def __init__(self, call_id: CallId = CALL, *, willing: bool = False) -> None:
        self.call_id = call_id
        self.willing = willing
        self.opens = 0
        self.closes = 0
        self.closed = False
        self.greeted = 0
        self.prompts: list[str] = []
        """What it was to say instead of its greeting."""
        self.announcements = 0
        self.truncated: list[tuple[str, int]] = []
        self.cancels = 0
        self.answers: list[tuple[str, str, bool]] = []
        """Tool call id, output, respond."""
        self.goodbyes: list[str] = []
        self.told: list[tuple[str, bool]] = []
        """Text, respond."""
        self.sentences: list[str] = []
        self.muted = False
        self.responding = False
        self.close_gate: asyncio.Event | None = None
        """Set to hold ``close`` back until the event is set."""
        self.close_raises: Exception | None = None
        self._emit: EmitEvent | None = None

    def open(self, emit: EmitEvent) -> None:
        self.opens += 1
        self._emit = emit
        if self.willing:
            self.ready()

    def greet(self, text: str = "") -> None:
        self.greeted += 1
        if text:
            self.prompts.append(text)

    def announce(self) -> None:
        self.announcements += 1

    def truncate(self, item_id: str, played_ms: int) -> None:
        self.truncated.append((item_id, played_ms))

    def cancel(self) -> None:
        self.cancels += 1

    def answer_tool(self, tool_call_id: str, output: str, *, respond: bool) -> None:
        self.answers.append((tool_call_id, output, respond))

    def say_goodbye(self, detail: str) -> None:
        self.goodbyes.append(detail)
        self.responding = True

    def tell(self, text: str, *, respond: bool) -> None:
        self.told.append((text, respond))

    def say(self, text: str) -> None:
        self.sentences.append(text)

    def mute_caller(self) -> None:
        self.muted = True

    def unmute_caller(self) -> None:
        self.muted = False

    async def close(self) -> None:
        self.closes += 1
        self._emit = None
        if self.close_gate is not None:
            await self.close_gate.wait()
        if self.close_raises is not None:
            raise self.close_raises
        self.closed = True

    def ready(self, session_id: str = "sess_1") -> None:
        self.emit(AgentReady(self.call_id, session_id))

    def fail(self, error: AgentError) -> None:
        self.emit(AgentFailed(self.call_id, error))

    def emit(self, event: CallEvent) -> None:
        if self._emit is not None:
            self._emit(event)
