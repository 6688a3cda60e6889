"""
Which tools the agent called, and when it may speak again: after all answers to the calls of one response.

``CallDrafts`` puts a call together from whatever a service tells of it, and finishes it with its response. Up to five
events tell of one: ``output_item.added``, argument deltas, ``arguments.done``, ``output_item.done`` and
``response.done``. Any of them may be missing or lack an id; whether the call was generated to its end is certain only
when its response is over. ``CalledFunctions`` then asks the call for what ``call/builtin_tools.py`` makes of it, and
keeps count of the answers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.call.builtin_tools import MAX_ARGUMENTS, OfferedTools, tool_event
from gateway.call.events import CallEvent
from gateway.ids import CallId
from gateway.upstream.core.history import History
from gateway.upstream.realtime.mcp import McpCalls
from gateway.upstream.realtime.wire import server
from gateway.upstream.realtime.wire.objects import CUT_OFF, ServerItem, ServerResponse

MAX_CALLS = 256
"""Calls remembered, so that none is carried out twice."""

MAX_DRAFTS = 64
"""Calls on their way at once; a model calls a handful."""

INTERRUPTED = "not done: the caller began to speak"
CUT = "not done: the call was cut off ({cause}); call the tool again if it is still needed"
REPEATED = "not done: a call with the same id was made before; call the tool again if it is still needed"
TOO_MANY_ROUNDS = "not done: tools were called too often without a word; speak to the caller first"
WITHOUT_ID = "not done: the service gave the call no id, so it cannot be answered"


class _CallPlace(NamedTuple):
    """What an event says about which call it is; any of it may be missing."""

    response_id: str | None
    item_id: str | None = None
    tool_call_id: str | None = None
    output_index: int | None = None


@dataclass(slots=True, eq=False)
class Draft:
    """
    A function call as far as it has come in.

    Attributes:
        status: of its item, the worst that was reported; None when none was.
        ended: an event said that its arguments, or its item, are done.
    """

    response_id: str | None
    item_id: str | None = None
    tool_call_id: str | None = None
    output_index: int | None = None
    name: str | None = None
    status: str | None = None
    ended: bool = False
    _text: str = ""  # the arguments as they were last told in full
    _first: str = ""  # what the item began with, which is usually nothing
    _pieces: list[str] = field(default_factory=list)
    _size: int = 0

    @property
    def arguments(self) -> str:
        """JSON text, if the model wrote any."""
        return self._text or "".join(self._pieces) or self._first

    def begin(self, name: str | None, arguments: str | None) -> None:
        """Take what the item began with; pieces may repeat its arguments."""
        self.name = name or self.name
        self._first = arguments or self._first

    def add(self, piece: str) -> None:
        """Take the next piece of the arguments; what is too long to be read anyway is not kept."""
        if self._size <= MAX_ARGUMENTS:
            self._pieces.append(piece)
            self._size += len(piece)

    def fill(self, arguments: str | None, status: str | None = None, name: str | None = None) -> None:
        """Take the complete arguments, as far as they are known."""
        self.name = name or self.name
        self._text = arguments or self._text
        if self.status not in CUT_OFF:
            self.status = status or self.status

    def learn(self, place: _CallPlace) -> None:
        """Take the ids that were not known yet."""
        self.response_id = self.response_id or place.response_id
        self.item_id = self.item_id or place.item_id
        self.tool_call_id = self.tool_call_id or place.tool_call_id
        if self.output_index is None:
            self.output_index = place.output_index

    def is_at(self, place: _CallPlace) -> bool:
        """Tell whether an event is about this call, by the surest id that both have."""
        if self.response_id is not None and place.response_id is not None and self.response_id != place.response_id:
            return False
        for mine, given in ((self.item_id, place.item_id), (self.tool_call_id, place.tool_call_id)):
            if mine and given:
                return mine == given
        if self.output_index is not None and place.output_index is not None:
            return self.output_index == place.output_index
        if not (self.item_id or self.tool_call_id) and self.output_index is None:
            return True
        return not (place.item_id or place.tool_call_id) and place.output_index is None and not self.ended


class CallDrafts:
    """The function calls of responses that are not over; bounded."""

    def __init__(self) -> None:
        self._drafts: list[Draft] = []

    def __len__(self) -> int:
        return len(self._drafts)

    def take(self, event: server.OutputEvent, response_id: str | None) -> None:
        """
        Take what an event says about a function call; other events are ignored.

        Args:
            event: one of a response's output events.
            response_id: the response it belongs to, as far as that is known.
        """
        match event:
            case server.OutputItemChanged(item=ServerItem(type="function_call") as item):
                draft = self._at(_place(item, response_id, event.output_index))
                if draft is not None and event.type == "response.output_item.added":
                    draft.begin(item.name, item.arguments)
                elif draft is not None:
                    draft.ended = True
                    draft.fill(item.arguments, item.status, item.name)
            case server.FunctionArgumentsDelta():
                place = _CallPlace(response_id, event.item_id, event.call_id, event.output_index)
                if (draft := self._at(place)) is not None:
                    draft.add(event.delta or "")
            case server.FunctionArgumentsDone():
                place = _CallPlace(response_id, event.item_id, event.call_id, event.output_index)
                if (draft := self._at(place)) is not None:
                    draft.ended = True
                    draft.fill(event.arguments, name=event.name)

    def finish(self, response: ServerResponse) -> list[Draft]:
        """Return the calls of a response that is over, in the order of its output, and forget them."""
        mine = [draft for draft in self._drafts if draft.response_id in (response.id, None)]
        self._drafts = [draft for draft in self._drafts if draft not in mine]
        for index, item in enumerate(response.output or ()):
            if item.type == "function_call":
                place = _place(item, response.id, index)
                (_find(mine, place) or _add(mine, place)).fill(item.arguments, item.status, item.name)
        last = len(mine)
        return sorted(mine, key=lambda draft: last if draft.output_index is None else draft.output_index)

    def clear(self) -> None:
        """Forget all calls: their responses will never be over."""
        self._drafts.clear()

    def _at(self, place: _CallPlace) -> Draft | None:
        """Return the draft an event is about, a new one if need be; None when there are too many."""
        found = _find(self._drafts, place)
        if found is not None or len(self._drafts) >= MAX_DRAFTS:
            return found
        return _add(self._drafts, place)


def _place(item: ServerItem, response_id: str | None, output_index: int | None) -> _CallPlace:
    return _CallPlace(response_id, item.id, item.call_id, output_index)


def _find(drafts: list[Draft], place: _CallPlace) -> Draft | None:
    found = next((draft for draft in reversed(drafts) if draft.is_at(place)), None)
    if found is not None:
        found.learn(place)
    return found


def _add(drafts: list[Draft], place: _CallPlace) -> Draft:
    drafts.append(Draft(*place))
    return drafts[-1]


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
    A function call that was not carried out; ``output`` is the error for the model.

    Attributes:
        tool_call_id: empty when it has none, so that it cannot be answered.
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


class CalledFunctions:
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
        """Whether a tool runs, or the agent has not spoken yet about a call to an MCP server."""
        return self.mcp.pending or any(not call.answered for call in self._calls.values())

    @property
    def exhausted(self) -> bool:
        """Whether tools were called so often without a word that the next response may call none."""
        return self._rounds >= self._max_rounds

    def spoke(self) -> None:
        """Take note that the agent speaks, or the caller: rounds of tools are counted from now on."""
        self._rounds = 0

    def end_round(self) -> bool:
        """Count a response that used tools; return whether it was the last that may until there is speech."""
        self._rounds += 1
        return self._rounds == self._max_rounds

    def take(self, event: server.OutputEvent, response_id: str | None) -> None:
        """Take what an output event tells of a function call; see ``CallDrafts.take``."""
        self._drafts.take(event, response_id)

    def end_response(self, response: ServerResponse, *, stale: bool) -> list[CallEvent | Rejected]:
        """
        Take the end of a response, ``response.done``.

        Args:
            response: as received; its output may contain calls that no other event mentioned.
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
        """Take note of an answer; False if no call waits for it."""
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
            What to report of MCP calls: nothing more will be heard of them.
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
    return None if whole else CUT.format(cause="the service did not say that it was complete")
