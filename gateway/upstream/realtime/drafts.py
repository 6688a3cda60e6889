"""
Function calls on their way: put together from whatever a service tells of them, and finished with their response.

Up to five events tell of a call: ``output_item.added``, argument deltas, ``arguments.done``, ``output_item.done`` and
``response.done``. Any of them may be missing or lack an id. Whether the call was generated to its end is certain only
when its response is over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.tools.builtin import MAX_ARGUMENTS
from gateway.upstream.realtime.wire import server
from gateway.upstream.realtime.wire.objects import ServerItem, ServerResponse

MAX_DRAFTS = 64
"""Calls on their way at once; a model calls a handful."""

CUT_OFF = frozenset({"incomplete", "failed", "cancelled"})
"""Status of an item or a response that was not generated to its end."""


class _CallPlace(NamedTuple):
    """What an event says about which call it is; any of it may be missing."""

    response_id: str | None
    item_id: str | None = None
    tool_call_id: str | None = None
    output_index: int | None = None


@dataclass(slots=True, eq=False)
class Draft:
    """
    A function call as far as it was told.

    Attributes:
        status: of its item, the worst that was told; None when none was.
        ended: an event told that its arguments, or its item, are done.
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
        """Take the arguments in full, as far as they were told."""
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
        Take what an event tells of a function call; events about anything else are passed over.

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
