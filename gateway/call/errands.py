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
from gateway.call.events import ToolAsked, ToolFinished

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
        self._running: set[str] = set()  # tools that have not finished
        self._patient = False  # the filler's timer runs
        self._slow = False  # it ran out
        self._away = False
        self._calling = False
        self._filler_on = False

    def is_new(self, tool_call_id: str) -> bool:
        """Return whether this tool call was not seen before, and remember it."""
        if tool_call_id in self._asked:
            return False
        self._asked.add(tool_call_id)
        return True

    def run(self, event: ToolAsked) -> tuple[CallAction, ...]:
        """Run a tool of the profile's own."""
        self._running.add(event.tool_call_id)
        run = RunTool(event.tool_call_id, event.name, event.arguments)
        if self._filler_after_s is None or self._patient or self._slow:
            return (run,)
        self._patient = True
        return run, StartTimer(FILLER, self._filler_after_s)

    def finished(self, event: ToolFinished) -> tuple[CallAction, ...]:
        """Hand on what a tool found."""
        if event.tool_call_id not in self._running:
            return ()
        self._running.remove(event.tool_call_id)
        answer = AnswerTool(event.tool_call_id, event.output)
        if self._running:
            return (answer,)
        stop_timer = (CancelTimer(FILLER),) if self._patient else ()
        self._patient = self._slow = False
        return (answer, *stop_timer, *self._filler())

    def filler_fired(self) -> tuple[CallAction, ...]:
        """Bridge the silence of a slow tool."""
        self._patient, self._slow = False, True
        return self._filler()

    def away(self, *, away: bool) -> tuple[CallAction, ...]:
        """Bridge the silence of an agent that lost its session, until it is back."""
        self._away = away
        return self._filler()

    def calling(self, *, calling: bool) -> tuple[CallAction, ...]:
        """Bridge the silence while the caller and the agent wait for somebody to answer."""
        self._calling = calling
        return self._filler()

    def close(self) -> tuple[CallAction, ...]:
        """Let go of what sounds."""
        filler_on, self._filler_on = self._filler_on, False
        return (StopFiller(),) if filler_on else ()

    def _filler(self) -> tuple[CallAction, ...]:
        wanted = self._away or self._slow or self._calling
        if wanted is self._filler_on:
            return ()
        self._filler_on = wanted
        return (StartFiller() if wanted else StopFiller(),)
