"""Spans as OTLP has them (opentelemetry-proto, ``trace/v1/trace.proto``). Needs the extra ``otel``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2 as pb

from gateway.tracing.spans import Span, SpanEvent, Value

SCOPE = "gateway.calls"


def encoded(spans: Iterable[Span], resource: Mapping[str, Value]) -> bytes:
    """Return the body of a request that exports these spans."""
    scope = pb.ScopeSpans(scope=InstrumentationScope(name=SCOPE), spans=[_span(span) for span in spans])
    of = pb.ResourceSpans(resource=Resource(attributes=_attributes(resource)), scope_spans=[scope])
    body: bytes = ExportTraceServiceRequest(resource_spans=[of]).SerializeToString()
    return body


def refused(body: bytes) -> tuple[int, str]:
    """Return how many spans the receiver refused although it took the request, and why."""
    try:
        partial = ExportTraceServiceResponse.FromString(body).partial_success
    except ValueError:  # DecodeError is one
        return 0, ""
    return partial.rejected_spans, partial.error_message


def _span(span: Span) -> pb.Span:
    failed = pb.Status(code=pb.Status.STATUS_CODE_ERROR, message=_text(span.error)) if span.error else None
    return pb.Span(
        trace_id=bytes.fromhex(span.context.trace_id),
        span_id=bytes.fromhex(span.context.span_id),
        parent_span_id=bytes.fromhex(span.parent_id),
        flags=1,  # sampled: others are not exported
        name=_text(span.name),
        kind=_KINDS[span.kind],
        start_time_unix_nano=_ns(span.began_at),
        end_time_unix_nano=_ns(span.began_at if span.ended_at is None else span.ended_at),
        attributes=_attributes(span.attributes),
        events=[_event(event) for event in span.events],
        status=failed,
    )


_KINDS = {1: pb.Span.SPAN_KIND_INTERNAL, 2: pb.Span.SPAN_KIND_SERVER, 3: pb.Span.SPAN_KIND_CLIENT}


def _event(event: SpanEvent) -> pb.Span.Event:
    return pb.Span.Event(time_unix_nano=_ns(event.at), name=event.name, attributes=_attributes(event.attributes))


def _attributes(values: Mapping[str, Value]) -> list[KeyValue]:
    return [KeyValue(key=name, value=_value(value)) for name, value in values.items()]


def _value(value: Value) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
    return AnyValue(string_value=_text(value))


def _text(text: str) -> str:
    """Return it as UTF-8 has it: half a surrogate pair cannot be sent."""
    return text.encode("utf-8", "replace").decode()


def _ns(seconds: float) -> int:
    return max(0, round(seconds * 1_000_000_000))
