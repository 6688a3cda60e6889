"""A recorder that only remembers what it was told."""

from __future__ import annotations

import asyncio

from gateway.call.events import RecordingFailed, RecordingSaved
from gateway.call.ports import EmitEvent
from gateway.ids import CallId

CALL = CallId("call")


class FakeRecorder:
    """
    Remembers its orders, e.g. ``["start", "pause", "close"]``; saves when it is closed, if anything was recorded.

    Args:
        call_id: the call of the events it emits.
    """

    def __init__(self, call_id: CallId = CALL) -> None:
        self.call_id = call_id
        self.orders: list[str] = []
        self.close_gate: asyncio.Event | None = None
        """Set to hold ``close`` back until the event is set."""
        self.close_raises: Exception | None = None
        self._emit: EmitEvent | None = None

    def start(self, emit: EmitEvent) -> None:
        self.orders.append("start")
        self._emit = emit

    def pause(self) -> None:
        self.orders.append("pause")

    async def close(self) -> None:
        self.orders.append("close")
        if self.close_gate is not None:
            await self.close_gate.wait()
        if self.close_raises is not None:
            raise self.close_raises
        if self._emit is not None:
            self._emit(RecordingSaved(self.call_id, "recordings/call.wav", 12.5))

    def fail(self, detail: str) -> None:
        assert self._emit is not None
        self._emit(RecordingFailed(self.call_id, detail))
