"""
Ids that a service leaves out of its events, inferred from those before.

An event of a response without the response's id is of the response that is being generated; audio and transcripts
without an item's id are of the item last spoken in it. Function calls are put together in ``function_calls.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.upstream.realtime.wire import server
from gateway.upstream.realtime.wire.objects import ServerResponse
from gateway.upstream.realtime.wire.repair import Oddity

MAX_RESPONSES = 32
"""Responses whose items are remembered."""

_MISSING = "left out, inferred"
_UNNAMED = "unnamed-"


def is_unnamed(an_id: str) -> bool:
    """Return whether an id was made here, since the service gave none: the service does not know it."""
    return an_id.startswith(_UNNAMED)


@dataclass(slots=True)
class _Known:
    """What is known of a response: whether it began, the item last spoken and whether its audio is complete."""

    begun: bool = False
    item_id: str = ""
    ended: bool = False


class Gaps:
    """The ids of one session's responses and items, as far as its events name them."""

    def __init__(self) -> None:
        self._known: dict[str | None, _Known] = {}
        self._active: str | None = None
        self._began: server.ResponseCreated | None = None  # began without an id; a later event may have it
        self._count = 0

    def __len__(self) -> int:
        return len(self._known)

    def fill(self, event: server.ServerEvent) -> tuple[tuple[server.ServerEvent, ...], tuple[Oddity, ...]]:
        """
        Return the event with the ids it lacks, and which these were.

        A response that begins without an id begins with the next event about it, which may tell the id: then two
        events are returned, and none for the first. One whose beginning was not reported begins with its speech.
        """
        if isinstance(event, server.OutputEvent):
            return self._fill_output(event)
        if isinstance(event, server.ResponseCreated):
            return self._begin(event)
        if isinstance(event, server.ResponseDone):
            return self._end(event)
        return (event,), ()

    def _begin(self, event: server.ResponseCreated) -> tuple[tuple[server.ServerEvent, ...], tuple[Oddity, ...]]:
        if not event.response.id:
            self._began = event
            return (), (Oddity(event.type, "response.id", _MISSING),)
        self._began, self._active = None, event.response.id
        self._know(self._active).begun = True
        return (event,), ()

    def _end(self, event: server.ResponseDone) -> tuple[tuple[server.ServerEvent, ...], tuple[Oddity, ...]]:
        response = event.response
        begun, response_id = self._response_of(response.id)
        response_id = response_id or self._new_id()
        self._know(response_id).begun = True  # else what comes too late would begin it
        if response_id == self._active:
            self._active = None
        if response.id:
            return (*begun, event), ()
        named = event.model_copy(update={"response": response.model_copy(update={"id": response_id})})
        return (*begun, named), (Oddity(event.type, "response.id", _MISSING),)

    def _fill_output(self, event: server.ResponsePart) -> tuple[tuple[server.ServerEvent, ...], tuple[Oddity, ...]]:
        if isinstance(event, server.OutputAudioDelta) and self._began is None and self._is_new(event.response_id):
            self._began = server.ResponseCreated(type="response.created", response=ServerResponse(status="in_progress"))
        begun, response_id = self._response_of(event.response_id)
        known = self._know(response_id)
        found: dict[str, object] = {} if event.response_id or response_id is None else {"response_id": response_id}
        if isinstance(event, server.ContentEvent):
            if not event.item_id:
                found["item_id"] = self._item_of(event, known)
            known.item_id = event.item_id or known.item_id
            known.ended = isinstance(event, server.OutputAudioDone) or (known.ended and not event.item_id)
        elif event.type == "response.output_item.added" and event.item is not None and event.item.type == "message":
            known.item_id, known.ended = event.item.id or "", False
        if not found:
            return (*begun, event), ()
        odd = tuple(Oddity(event.type, place, _MISSING) for place in found)
        return (*begun, event.model_copy(update=found)), odd

    def _response_of(self, response_id: str | None) -> tuple[tuple[server.ServerEvent, ...], str | None]:
        """Return the response an event is about, and the beginning of that response if it was held back."""
        began = self._began
        goes_on = not response_id and self._active is not None  # of the one at work, as far as one can tell
        if began is None or goes_on or self._has_begun(response_id):
            return (), response_id or self._active
        self._began, self._active = None, response_id or self._new_id()
        self._know(self._active).begun = True
        named = began.response.model_copy(update={"id": self._active})
        return (began.model_copy(update={"response": named}),), self._active

    def _is_new(self, response_id: str | None) -> bool:
        """Return whether speech belongs to a response that begins with it, because its beginning was not reported."""
        return bool(response_id) and self._active is None and not self._has_begun(response_id)

    def _has_begun(self, response_id: str | None) -> bool:
        known = self._known.get(response_id)
        return known is not None and known.begun

    def _item_of(self, event: server.ContentEvent, known: _Known) -> str:
        """Return the item last spoken; another if its audio was complete: new speech is not more of it."""
        if not known.item_id or (known.ended and isinstance(event, server.OutputAudioDelta)):
            known.item_id, known.ended = self._new_id(), False
        return known.item_id

    def _know(self, response_id: str | None) -> _Known:
        known = self._known.get(response_id)
        if known is None:
            known = self._known[response_id] = _Known()
            if len(self._known) > MAX_RESPONSES:
                del self._known[next(iter(self._known))]
        return known

    def _new_id(self) -> str:
        self._count += 1
        return f"{_UNNAMED}{self._count}"
