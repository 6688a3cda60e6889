"""A receiver of OTLP over HTTP on loopback that decodes what it gets with OpenTelemetry's own messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Attributes = dict[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Export:
    """A request: its path, its headers in lower case, and the spans in it."""

    path: str
    headers: dict[str, str]
    spans: tuple[Span, ...]


class OtlpReceiver:
    """Takes spans; ``answers`` are the statuses of the next requests, 200 after them."""

    def __init__(self) -> None:
        self.requests: list[Export] = []
        self.spans: list[Span] = []
        self.resource: Attributes = {}
        self.answers: list[int] = []
        self.rejects = 0
        self.url = ""
        self._runner = web.AppRunner(self._app())

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._take)
        return app

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Be gone."""
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        message = ExportTraceServiceRequest.FromString(await request.read())  # aiohttp has undone the gzip
        scopes = [scope for resource in message.resource_spans for scope in resource.scope_spans]
        spans = tuple(span for scope in scopes for span in scope.spans)
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append(Export(request.path, headers, spans))
        status = self.answers.pop(0) if self.answers else 200
        if status != 200:
            return web.Response(status=status, headers={"Location": self.url} if status == 307 else {})
        self.spans += spans
        self.resource = attributes(message.resource_spans[0].resource.attributes)
        partial = ExportTracePartialSuccess(
            rejected_spans=self.rejects, error_message="too many" if self.rejects else ""
        )
        body = ExportTraceServiceResponse(partial_success=partial).SerializeToString()
        return web.Response(body=body, content_type="application/x-protobuf")

    def attributes_of(self, span: Span) -> Attributes:
        """Return a span's attributes."""
        return attributes(span.attributes)

    def tree(self) -> list[str]:
        """Return the spans as lines, indented below their parents, each with its length in milliseconds."""
        ids = {span.span_id for span in self.spans}

        def lines(parent: bytes, indent: str) -> Iterable[str]:
            below = [
                span for span in self.spans if (span.parent_span_id if span.parent_span_id in ids else b"") == parent
            ]
            for span in sorted(below, key=lambda each: each.start_time_unix_nano):
                took_ms = (span.end_time_unix_nano - span.start_time_unix_nano) // 1_000_000
                yield f"{indent}{span.name} {took_ms} ms"
                yield from lines(span.span_id, indent + "  ")

        return [*lines(b"", "")]


def attributes(pairs: Iterable[KeyValue]) -> Attributes:
    """Return attributes as plain values."""
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}
