"""
Which tools the agent called, and when it may speak again: after all answers to the calls of one response.

How a call is put together is in ``drafts.py``, what it asks for in ``tools.py``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from gateway.call.events import CallEvent
from gateway.ids import CallId
from gateway.tools.builtin import OfferedTools, tool_event
from gateway.upstream.core.history import History
from gateway.upstream.realtime.drafts import CUT_OFF, CallDrafts, Draft
from gateway.upstream.realtime.mcp import McpCalls
from gateway.upstream.realtime.wire import server
from gateway.upstream.realtime.wire.objects import ServerResponse

MAX_CALLS = 256
"""Calls remembered, so that none is carried out twice."""

INTERRUPTED = "not done: the caller began to speak"
CUT = "not done: the call was cut off ({cause}); call the tool again if it is still needed"
REPEATED = "not done: a call with the same id was made before; call the tool again if it is still needed"
TOO_MANY_ROUNDS = "not done: tools were called too often without a word; speak to the caller first"
WITHOUT_ID = "not done: the service gave the call no id, so it cannot be answered"


@dataclass(slots=True)
class _FunctionCall:
    response_id: str
    answered: bool = False
    respond: bool = False
    settled: bool = False  # its response had its follow-up, or needs none
    is_void: bool = False  # it was refused in a way that leaves its response without an answer


@dataclass(frozen=True, slots=True)
class Rejected:
    """
    A function call that was not carried out; ``output`` is what the model is told.

    Attributes:
        tool_call_id: empty when it has none, so that nobody can be told.
        respond: an answer is due because of it. Not where its response counts as one that gave no answer anyway.
    """

    tool_call_id: str
    name: str
    detail: str
    respond: bool = True

    @property
    def output(self) -> str:
        """JSON text."""
        return json.dumps({"error": self.detail})


class FunctionCalls:
    """
    The tool calls of one call, by the id the service gave them, across its sessions.

    A call is put together from the events that tell of it (``take``) and carried out when its response is over
    (``end_response``): whether it was generated to its end is not known before, and half a call must never be done.

    Args:
        call_id: goes into every event.
        offered: what the model may call.
        history: where calls and their outputs are written down.
        max_rounds: responses in a row that may call tools without a word being spoken.
        mcp: the calls that the service makes to MCP servers.

    Attributes:
        mcp: the same.
    """

    def __init__(
        self,
        call_id: CallId,
        offered: OfferedTools,
        history: History,
        *,
        max_rounds: int = 6,
        mcp: McpCalls | None = None,
    ) -> None:
        self.mcp = mcp if mcp is not None else McpCalls(call_id)
        self._call_id = call_id
        self._offered = offered
        self._history = history
        self._max_rounds = max_rounds
        self._rounds = 0  # since somebody spoke
        self._drafts = CallDrafts()
        self._calls: dict[str, _FunctionCall] = {}

    def __len__(self) -> int:
        return len(self._calls) + len(self._drafts)

    @property
    def pending(self) -> bool:
        """Whether a tool runs, or a call to an MCP server of which nobody has spoken yet."""
        return self.mcp.pending or any(not call.answered for call in self._calls.values())

    @property
    def exhausted(self) -> bool:
        """Whether tools were called so often without a word that the next response may call none."""
        return self._rounds >= self._max_rounds

    def spoke(self) -> None:
        """Take note that the agent speaks, or the caller: rounds of tools are counted from now on."""
        self._rounds = 0

    def end_round(self) -> bool:
        """Count a response that used tools; return whether it was the last that may, until somebody speaks."""
        self._rounds += 1
        return self._rounds == self._max_rounds

    def take(self, event: server.OutputEvent, response_id: str | None) -> None:
        """Take what an output event tells of a function call; see ``CallDrafts.take``."""
        self._drafts.take(event, response_id)

    def end_response(self, response: ServerResponse, *, stale: bool) -> list[CallEvent | Rejected]:
        """
        Take the end of a response, ``response.done``.

        Args:
            response: as it was told; its output may name calls of which no other event told.
            stale: it was given up before it ended, since the caller spoke or the gateway has other plans.

        Returns:
            What its function calls ask of the call, or why they are not done, in the order of the output. Empty when
            it called no function.
        """
        told = [self._finish(draft, response, stale=stale) for draft in self._drafts.finish(response)]
        asked = [each for each in told if each is not None]
        for each in asked:
            if isinstance(each, Rejected) and not each.respond and each.tool_call_id:
                self._calls[each.tool_call_id].is_void = True
        return asked

    def called(self, response_id: str) -> bool:
        """
        Tell whether a response that is over used tools, ours or those of MCP servers: then its silence is no fault.

        Not when it called functions that were refused without an answer being due (``Rejected.respond``).
        """
        mine = any(call.response_id == response_id and not call.is_void for call in self._calls.values())
        return mine or self.mcp.used_in(response_id)

    def _finish(self, draft: Draft, response: ServerResponse, *, stale: bool) -> CallEvent | Rejected | None:
        tool_call_id, name = draft.tool_call_id or "", draft.name or ""
        if not tool_call_id:
            return Rejected("", name, WITHOUT_ID)
        if (known := self._calls.get(tool_call_id)) is not None and known.response_id == response.id:
            return None  # its end was told twice
        if known is not None and not known.settled:
            return Rejected("", name, REPEATED)  # an answer would be taken for that of the one that runs
        self._remember(tool_call_id, response.id)
        refusal = REPEATED if known is not None else _cause_of_no(draft, response, stale=stale)
        if refusal is not None:
            return Rejected(tool_call_id, name, refusal, respond=response.status != "failed")
        if self.exhausted:
            return Rejected(tool_call_id, name, TOO_MANY_ROUNDS, respond=False)
        self._history.tool_called(draft.item_id or tool_call_id, tool_call_id, name, draft.arguments)
        asked = tool_event(self._call_id, tool_call_id, name, draft.arguments, self._offered)
        return Rejected(tool_call_id, name, asked) if isinstance(asked, str) else asked

    def _remember(self, tool_call_id: str, response_id: str) -> None:
        self._calls.pop(tool_call_id, None)
        self._calls[tool_call_id] = _FunctionCall(response_id)
        if len(self._calls) > MAX_CALLS:
            del self._calls[next(iter(self._calls))]

    def answer(self, tool_call_id: str, output: str, *, respond: bool) -> bool:
        """Take note of an answer; False if nobody waits for it."""
        call = self._calls.get(tool_call_id)
        if call is None or call.answered:
            return False
        call.answered, call.respond = True, respond
        self._history.tool_answered(tool_call_id, output)
        return True

    def end_session(self) -> list[CallEvent]:
        """
        Take note that no response of the session goes on: a call whose response was not over is not done.

        Returns:
            What the call is to be told of MCP calls, of which nobody will hear any more.
        """
        self._drafts.clear()
        return self.mcp.end_session()

    def take_due(self) -> bool:
        """Return, once, whether the agent may speak about tools: all of a response's are through, one wants it."""
        unsettled = [call for call in self._calls.values() if not call.settled]
        due = self.mcp.take_due(besides={call.response_id for call in unsettled if not call.answered})
        for response_id in {call.response_id for call in unsettled}:
            calls = [call for call in unsettled if call.response_id == response_id]
            if all(call.answered for call in calls) and not self.mcp.runs_in(response_id):
                due = due or any(call.respond for call in calls)
                for call in calls:
                    call.settled = True
        return due


def _cause_of_no(draft: Draft, response: ServerResponse, *, stale: bool) -> str | None:
    """Return, in words for the model, why a call is not done; None when it was generated to its end."""
    details = response.status_details
    reason = details.reason if details is not None else None
    if stale or (response.status == "cancelled" and reason == "turn_detected"):
        return INTERRUPTED
    cut = next((status for status in (response.status, draft.status) if status in CUT_OFF), None)
    if cut is not None:
        return CUT.format(cause=reason or cut)
    # A response without a known status is no witness: then the item itself has to be one.
    whole = (
        draft.ended or draft.status != "in_progress" if response.status == "completed" else draft.status == "completed"
    )
    return None if whole else CUT.format(cause="it was not told to its end")
