"""Problems the service reports: logged and noted without secrets, each kind once, with the event that caused it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import structlog

from gateway.call.events import CallEvent, Noted
from gateway.ids import CallId
from gateway.upstream.realtime.config import Difference
from gateway.upstream.realtime.wire.objects import ErrorDetails
from gateway.upstream.realtime.wire.repair import Oddity

_log = structlog.get_logger(__name__)

MAX_PROBLEMS = 64
"""Different errors that are logged; further ones are not."""

LONGEST_DELAY_S = 30.0

MAX_MCP_SERVERS = 64
"""Imports of tools that are remembered by name; the name goes into the note when one fails."""

CLIENT_EVENTS = {
    "configure": "session.update",
    "respond": "response.create",
    "cancel": "response.cancel",
    "cut": "conversation.item.truncate",
    "item": "conversation.item.create",
    "turns": "session.update",
    "clear": "input_audio_buffer.clear",
}
"""What our event ids begin with -> the event's type."""


class Problems:
    """
    The problems of one session.

    Args:
        call_id: goes into every entry.
        redact: takes secrets out of text.
    """

    def __init__(self, call_id: CallId, redact: Callable[[str], str]) -> None:
        self._call_id = call_id
        self._redact = redact
        self._told: set[tuple[str | None, str | None]] = set()
        self._odd: set[tuple[str, str]] = set()
        self._unknown: set[str] = set()
        self._mcp_servers: dict[str, str] = {}  # item of the import -> name of the server

    def __len__(self) -> int:
        return len(self._told)

    def cleaned(self, error: ErrorDetails) -> ErrorDetails:
        """Return the error without secrets."""
        return ErrorDetails(**{name: self._redact(text) if text else text for name, text in error})

    def tell(self, name: str, error: ErrorDetails, *, each: bool = False, **more: str) -> list[CallEvent]:
        """
        Log a problem and note it in the call's record, the first time: the same may come back 50 times a second.

        Args:
            name: of the note.
            error: what the service said, without secrets.
            each: note it every time; it cannot come often.
            more: further fields.
        """
        kind = (error.code or error.message, error.param)
        is_new = kind not in self._told and len(self._told) < MAX_PROBLEMS
        if not is_new and not each:
            return []
        words = words_of(error)
        if is_new:
            self._told.add(kind)
            _log.warning(name, call_id=self._call_id, code=error.code, param=error.param, detail=words, **more)
        said = {"code": error.code, "param": error.param, "event_id": error.event_id, "detail": words, **more}
        return [Noted(self._call_id, name, {field: text for field, text in said.items() if text})]

    def odd(self, oddities: Iterable[Oddity]) -> list[CallEvent]:
        """Log and note what in a message was not as the protocol has it, once for each type and place."""
        events: list[CallEvent] = []
        for each in oddities:
            kind = (each.event_type, each.place or each.problem)
            if kind in self._odd or len(self._odd) >= MAX_PROBLEMS:
                continue
            self._odd.add(kind)
            said = {"event_type": each.event_type, "place": each.place, "detail": each.problem}
            fields = {name: text for name, text in said.items() if text}
            _log.warning("odd_message", call_id=self._call_id, **fields)
            events.append(Noted(self._call_id, "odd_message", fields))
        return events

    def unknown(self, event_type: str) -> None:
        """Log an event of a type that is not documented, each type once."""
        name = self._redact(event_type)[:100]
        if name not in self._unknown and len(self._unknown) < MAX_PROBLEMS:
            self._unknown.add(name)
            _log.info("unknown_upstream_event", call_id=self._call_id, type=name)

    def differs(self, difference: Difference) -> CallEvent:
        """Log and note a wish that the service fulfils in another way."""
        said = {"field": difference.field, "got": self._redact(difference.got), "wanted": difference.wanted}
        _log.warning("session_differs", call_id=self._call_id, **said)
        return Noted(self._call_id, "session_differs", said)

    def mcp_announced(self, item_id: str, server_label: str) -> None:
        """Take note of which tool server an import is about to ask."""
        if len(self._mcp_servers) < MAX_MCP_SERVERS:
            self._mcp_servers[item_id] = self._redact(server_label)[:64]

    def mcp_failed(self, item_id: str | None) -> list[CallEvent]:
        """Log and note that the tools of a server could not be imported: the agent has none of them."""
        label = self._mcp_servers.pop(item_id or "", "")
        fields = {"server_label": label} if label else {}
        _log.warning("mcp_failed", call_id=self._call_id, **fields)
        return [Noted(self._call_id, "mcp_failed", fields)]


def client_event_of(event_id: str | None) -> str:
    """Return the type of our event that had this id; empty when the error is about none."""
    return CLIENT_EVENTS.get((event_id or "").partition("-")[0], "")


def words_of(error: ErrorDetails) -> str:
    """Return an error in words, with its code and parameter."""
    words = error.message or error.type or "no reason given"
    marks = [f"code {error.code}"] if error.code else []
    marks += [f"parameter {error.param}"] if error.param else []
    return f"{words} ({', '.join(marks)})" if marks else words


def stated_delay_s(message: str | None) -> float:
    """Return the delay of a "try again in 1.5s" (or "800ms"); 0 when none is stated, never above 30 s."""
    found = re.search(r"try again in (\d+(?:\.\d+)?)\s*(ms|s)", message or "", re.IGNORECASE)
    if found is None:
        return 0.0
    return min(float(found[1]) / (1000 if found[2].lower() == "ms" else 1), LONGEST_DELAY_S)
