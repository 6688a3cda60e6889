"""Tools that run as long as a test wants."""

from __future__ import annotations

from gateway.call.events import ToolFinished
from gateway.call.ports import EmitEvent
from gateway.ids import CallId

CALL = CallId("call")


class FakeTools:
    """Remembers what was asked; the test says when a tool has finished."""

    def __init__(self, call_id: CallId = CALL) -> None:
        self.call_id = call_id
        self.asked: list[tuple[str, str, str]] = []
        self.closes = 0
        self.close_raises: Exception | None = None
        self._emit: EmitEvent | None = None

    def run(self, tool_call_id: str, name: str, arguments: str, emit: EmitEvent) -> None:
        self.asked.append((tool_call_id, name, arguments))
        self._emit = emit

    async def close(self) -> None:
        self.closes += 1
        self._emit = None
        if self.close_raises is not None:
            raise self.close_raises

    def finish(self, tool_call_id: str, name: str, output: str, *, failed: bool = False, took_ms: int = 5) -> None:
        if self._emit is not None:
            self._emit(ToolFinished(self.call_id, tool_call_id, name, output, failed=failed, took_ms=took_ms))
