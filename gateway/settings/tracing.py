"""The section of traces: where they go, and how many."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from gateway.settings.section import Headers, Name, Section, WebUrl, listed

Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class TracingSettings(Section):
    """OpenTelemetry traces of calls, sent by OTLP over HTTP."""

    endpoint: WebUrl | None = Field(
        None,
        repr=False,
        description="OTLP/HTTP receiver of traces, such as http://127.0.0.1:4318; if not set, there are none",
    )
    headers: Headers = Field({}, description="headers for the receiver: name -> value")
    sample_ratio: Ratio = Field(1, description="share of calls that are traced, from 0 to 1")
    trusted_trunks: Annotated[tuple[Name, ...], BeforeValidator(listed)] = Field(
        (), description="trunks whose INVITEs may continue a trace by a header traceparent, separated by commas"
    )
