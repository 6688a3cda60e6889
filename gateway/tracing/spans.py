"""Spans as values: what an exporter sends. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from gateway.tracing.context import TraceContext

Value = str | bool | int | float
MAX_EVENTS, MAX_ATTRIBUTES, MAX_TEXT = 64, 64, 1024
"""What one span has of each, so that no call and no text of a stranger makes a large one."""


class SpanKind(IntEnum):
    """The kinds of OpenTelemetry that are used here, with their numbers in OTLP."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened within a span; ``at`` is Unix seconds."""

    name: str
    at: float
    attributes: dict[str, Value]


@dataclass(slots=True, eq=False)
class Span:
    """
    A span, open until it has ``ended_at``. Times are Unix seconds.

    Attributes:
        name: with few values.
        context: its ids.
        parent_id: id of the span it belongs to; empty for the first of a trace.
        kind: as in OpenTelemetry.
        began_at: when it began.
        attributes: what is known of it.
        events: what happened meanwhile.
        ended_at: when it ended.
        error: what went wrong, in words; empty when nothing did.
    """

    name: str
    context: TraceContext
    parent_id: str
    began_at: float
    kind: SpanKind = SpanKind.INTERNAL
    attributes: dict[str, Value] = field(default_factory=dict)
    events: list[SpanEvent] = field(default_factory=list)
    ended_at: float | None = None
    error: str = ""

    def say(self, **attributes: Value | None) -> None:
        """Set attributes, dots written as two underscores; those that are None or empty are left out."""
        for name, value in attributes.items():
            if value is not None and value != "" and len(self.attributes) < MAX_ATTRIBUTES:
                self.attributes[name.replace("__", ".")] = value[:MAX_TEXT] if isinstance(value, str) else value

    def happened(self, name: str, at: float, **attributes: Value | None) -> None:
        """Add an event; those beyond the limit are left out."""
        if len(self.events) < MAX_EVENTS:
            known = {each.replace("__", "."): value for each, value in attributes.items() if value not in (None, "")}
            kept = {each: value[:MAX_TEXT] if isinstance(value, str) else value for each, value in known.items()}
            self.events.append(SpanEvent(name, at, {each: value for each, value in kept.items() if value is not None}))

    def fail(self, kind: str, detail: str = "") -> None:
        """Mark it as failed; ``kind`` is one of few words."""
        self.say(error__type=kind)
        self.error = detail[:MAX_TEXT] or kind
