"""
The traces of a worker's calls: notes go on to the store, and tell the trace of their call.

The context of a call's trace becomes the field ``traceparent`` of its record and of each change of its state, so that
webhooks carry it; ``headers_of`` gives it to the requests of tools.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping

from gateway.call.events import Scalar
from gateway.call.ports import Clock, SessionStore
from gateway.ids import CallId
from gateway.tracing.call_spans import CallSpans
from gateway.tracing.context import TraceContext, is_sampled, read_traceparent
from gateway.tracing.spans import Span


class CallTraces:
    """
    A ``SessionStore`` in front of another. Thread: loop.

    Args:
        store: where notes go on to.
        send: takes spans that are over; neither waits nor raises.
        sample_ratio: share of calls that are traced; one that continues a trace is traced if that is.
        clock: time.
        bits: makes random numbers of so many bits.
    """

    def __init__(
        self,
        store: SessionStore,
        send: Callable[[Iterable[Span]], None],
        sample_ratio: float,
        clock: Clock,
        bits: Callable[[int], int] = secrets.randbits,
    ) -> None:
        self._store = store
        self._send = send
        self._ratio = sample_ratio
        self._clock = clock
        self._bits = bits
        self._contexts: dict[CallId, TraceContext] = {}
        self._spans: dict[CallId, CallSpans] = {}

    def note(self, call_id: CallId, event: str, /, **fields: Scalar) -> None:
        """Take a note of a call; its first one has ``created_at``, its last one the state ``ended``."""
        if "created_at" in fields and call_id not in self._contexts:
            self._begin(call_id, fields)
        context, spans = self._contexts.get(call_id), self._spans.get(call_id)
        if context is not None and "state" in fields:
            fields["traceparent"] = context.header()
        self._store.note(call_id, event, **fields)
        if spans is not None:
            self._send(spans.take(event, fields, self._clock.now()))
        if fields.get("state") == "ended":
            self._contexts.pop(call_id, None)
            self._spans.pop(call_id, None)

    def headers_of(self, call_id: CallId, tool_call_id: str) -> Mapping[str, str]:
        """Return the headers with which the request of a tool says what it belongs to."""
        spans, context = self._spans.get(call_id), self._contexts.get(call_id)
        if context is None:
            return {}
        return {"traceparent": (spans.context_of(tool_call_id) if spans is not None else context).header()}

    def _begin(self, call_id: CallId, fields: Mapping[str, Scalar]) -> None:
        parent = read_traceparent(str(fields.get("traceparent", "")))
        trace_id = parent.trace_id if parent is not None else self._new_id(128)
        sampled = parent.sampled if parent is not None else is_sampled(trace_id, self._ratio)
        context = self._contexts[call_id] = TraceContext(trace_id, self._new_id(64), sampled)
        if sampled:
            at, direction = float(fields["created_at"]), str(fields.get("direction", ""))
            above = parent.span_id if parent is not None else ""
            self._spans[call_id] = CallSpans(call_id, context, above, at, direction, lambda: self._new_id(64))

    def _new_id(self, bits: int) -> str:
        return f"{self._bits(bits) or 1:0{bits // 4}x}"  # all zeros is no id
