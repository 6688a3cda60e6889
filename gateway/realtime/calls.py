"""Which tools the agent called, and when it may speak again: after all answers to the calls of one response."""

from __future__ import annotations

import json
from dataclasses import dataclass

from gateway.call.events import CallEvent
from gateway.ids import CallId
from gateway.realtime.history import History
from gateway.realtime.tools import OfferedTools, tool_event

MAX_CALLS = 256
"""Calls remembered, so that none is carried out twice."""

INTERRUPTED = "not done: the caller began to speak"


@dataclass(slots=True)
class _Call:
    response_id: str | None
    answered: bool = False
    respond: bool = False
    settled: bool = False  # its response had its follow-up, or needs none


@dataclass(frozen=True, slots=True)
class Rejected:
    """A function call that was not carried out; ``output`` is what the model is told."""

    tool_call_id: str
    name: str
    detail: str

    @property
    def output(self) -> str:
        """JSON text."""
        return json.dumps({"error": self.detail})


class ToolCalls:
    """
    The tool calls of one call, by the id the service gave them, across its sessions.

    Args:
        call_id: goes into every event.
        offered: what the model may call.
        history: where calls and their outputs are written down.
    """

    def __init__(self, call_id: CallId, offered: OfferedTools, history: History) -> None:
        self._call_id = call_id
        self._offered = offered
        self._history = history
        self._calls: dict[str, _Call] = {}
        self._ended: set[str | None] = set()

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def pending(self) -> bool:
        """Whether a tool runs."""
        return any(not call.answered for call in self._calls.values())

    def take(
        self,
        response_id: str | None,
        item_id: str | None,
        tool_call_id: str | None,
        name: str | None,
        arguments: str | None,
        *,
        stale: bool,
    ) -> CallEvent | Rejected | None:
        """
        Take a finished function call; the service tells of each by two events, either of which may be missing.

        Args:
            response_id: the response it belongs to.
            item_id: its item.
            tool_call_id: its own id.
            name: the function.
            arguments: JSON text.
            stale: the response was cut off.

        Returns:
            What it asks of the call, or why it cannot be done; None if it is known already, or not told in full.
        """
        if not tool_call_id or not name or tool_call_id in self._calls:
            return None
        self._calls[tool_call_id] = _Call(response_id)
        if len(self._calls) > MAX_CALLS:
            del self._calls[next(iter(self._calls))]
        given = arguments or ""
        self._history.tool_called(item_id or tool_call_id, tool_call_id, name, given)
        asked = INTERRUPTED if stale else tool_event(self._call_id, tool_call_id, name, given, self._offered)
        return Rejected(tool_call_id, name, asked) if isinstance(asked, str) else asked

    def answer(self, tool_call_id: str, output: str, *, respond: bool) -> bool:
        """Take note of an answer; False if nobody waits for it."""
        call = self._calls.get(tool_call_id)
        if call is None or call.answered:
            return False
        call.answered, call.respond = True, respond
        self._history.tool_answered(tool_call_id, output)
        return True

    def end_response(self, response_id: str | None) -> None:
        """Take note that a response will call no more tools."""
        if any(call.response_id == response_id and not call.settled for call in self._calls.values()):
            self._ended.add(response_id)

    def end_session(self) -> None:
        """Take note that no response of the session goes on."""
        self._ended |= {call.response_id for call in self._calls.values() if not call.settled}

    def take_due(self) -> bool:
        """Return, once, whether the agent may speak about answers: all of a response's are there, one wants it."""
        due = False
        for response_id in tuple(self._ended):
            calls = [call for call in self._calls.values() if call.response_id == response_id and not call.settled]
            if all(call.answered for call in calls):
                due = due or any(call.respond for call in calls)
                for call in calls:
                    call.settled = True
                self._ended.discard(response_id)
        return due
