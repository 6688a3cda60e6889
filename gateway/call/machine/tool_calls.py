"""
What the agent has others do: its own tools while they run, and the filler that bridges a silence.

A part of ``Talk`` and as pure.
"""

from __future__ import annotations

from gateway.call.actions import (
    AnswerTool,
    CallAction,
    CancelTimer,
    RunTool,
    StartFiller,
    StartTimer,
    StopFiller,
)
from gateway.call.events import McpCallBegan, McpCallEnded, ToolAsked, ToolFinished

FILLER = "filler"
"""Timer: how long a tool may run in silence."""


class Errands:
    """
    Tools that run, and the silences there are.

    Args:
        filler_after_s: a tool that runs longer lets the caller hear the filler; None: never.
    """

    def __init__(self, filler_after_s: float | None) -> None:
        self._filler_after_s = filler_after_s
        self._asked: set[str] = set()  # every tool call, so that none is answered twice
        self._running: set[str] = set()  # tools that have not finished, and calls that the service makes itself
        self._patient = False  # the filler's timer runs
        self._slow = False  # it ran out
        self._away = False
        self._calling = False
        self._late = False
        self._filler_on = False

    def is_new(self, tool_call_id: str) -> bool:
        """Return whether this tool call was not seen before, and remember it."""
        if tool_call_id in self._asked:
            return False
        self._asked.add(tool_call_id)
        return True

    def run(self, event: ToolAsked) -> tuple[CallAction, ...]:
        """Run a tool of the profile's own."""
        return RunTool(event.tool_call_id, event.name, event.arguments), *self._begin(event.tool_call_id)

    def finished(self, event: ToolFinished) -> tuple[CallAction, ...]:
        """Hand on what a tool found."""
        if event.tool_call_id not in self._running:
            return ()
        return AnswerTool(event.tool_call_id, event.output), *self._end(event.tool_call_id)

    def mcp_began(self, event: McpCallBegan) -> tuple[CallAction, ...]:
        """Wait for a tool that the service runs, as for one of ours."""
        return self._begin(_of_mcp(event.item_id))

    def mcp_ended(self, event: McpCallEnded) -> tuple[CallAction, ...]:
        """Wait no longer; what was found, the service hands on itself."""
        return self._end(_of_mcp(event.item_id))

    def filler_fired(self) -> tuple[CallAction, ...]:
        """Bridge the silence of a slow tool."""
        self._patient, self._slow = False, True
        return self._filler()

    def away(self, *, away: bool) -> tuple[CallAction, ...]:
        """Bridge the silence of an agent that lost its session, until it is back."""
        self._away = away
        return self._filler()

    def late(self, *, late: bool) -> tuple[CallAction, ...]:
        """Bridge the silence of an agent that owes an answer, until it can be heard."""
        self._late = late
        return self._filler()

    def calling(self, *, calling: bool) -> tuple[CallAction, ...]:
        """Bridge the silence while the caller and the agent wait for somebody to answer."""
        self._calling = calling
        return self._filler()

    def close(self) -> tuple[CallAction, ...]:
        """Let go of what sounds."""
        filler_on, self._filler_on = self._filler_on, False
        return (StopFiller(),) if filler_on else ()

    def _begin(self, errand: str) -> tuple[CallAction, ...]:
        self._running.add(errand)
        if self._filler_after_s is None or self._patient or self._slow:
            return ()
        self._patient = True
        return (StartTimer(FILLER, self._filler_after_s),)

    def _end(self, errand: str) -> tuple[CallAction, ...]:
        self._running.discard(errand)
        if self._running:
            return ()
        stop_timer = (CancelTimer(FILLER),) if self._patient else ()
        self._patient = self._slow = False
        return (*stop_timer, *self._filler())

    def _filler(self) -> tuple[CallAction, ...]:
        wanted = self._away or self._slow or self._calling or self._late
        if wanted is self._filler_on:
            return ()
        self._filler_on = wanted
        return (StartFiller() if wanted else StopFiller(),)


def _of_mcp(item_id: str) -> str:
    """Return an id that no tool call has."""
    return f"mcp {item_id}"
