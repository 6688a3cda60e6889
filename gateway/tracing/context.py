"""W3C trace context: the header ``traceparent`` (w3.org/TR/trace-context, section 3.2), read and written. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HEADER = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 0x01


@dataclass(frozen=True, slots=True)
class TraceContext:
    """
    Where in which trace something belongs.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        sampled: the trace is recorded; if not, only its ids are handed on.
    """

    trace_id: str
    span_id: str
    sampled: bool

    def header(self) -> str:
        """Return it as the value of ``traceparent``."""
        return f"00-{self.trace_id}-{self.span_id}-{self.sampled:02x}"


def read_traceparent(text: str) -> TraceContext | None:
    """Return what a header says; None for one that says nothing, which is as good as none."""
    found = _HEADER.fullmatch(text.strip())
    if found is None or (found[4] and text.strip().startswith("00")):  # version 00 has nothing behind the flags
        return None
    if not int(found[1], 16) or not int(found[2], 16):
        return None
    return TraceContext(found[1], found[2], bool(int(found[3], 16) & _SAMPLED))


def is_sampled(trace_id: str, ratio: float) -> bool:
    """Whether a trace is among the share that is recorded, as OpenTelemetry's TraceIdRatioBased sampler decides."""
    return int(trace_id[16:], 16) < round(ratio * (1 << 64))
