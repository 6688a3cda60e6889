"""How a call and its events look in JSON: the fields of the record, typed as there. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, Field

from gateway.call.end_reasons import END_REASONS
from gateway.call.outcome import EndReason
from gateway.store.record import CallRecord

NUMBER_FIELDS: Mapping[str, type[int] | type[float]] = {
    name: kind
    for name, field in CallRecord.model_fields.items()
    for kind in (int, float)
    if kind in get_args(field.annotation)
}
"""Fields of the record that are numbers -> which."""
MORE_NUMBERS: Mapping[str, type[int] | type[float]] = {
    "at": float,
    "played_ms": int,
    "began_at": float,
    "over_at": float,
    "interruption_ms": int,
    "turn_latency_ms": int,
    "took_ms": int,
    "code": int,
    "left_s": float,
    "seconds": float,
}
"""The same of fields that only events have."""


class End(BaseModel):
    """How a call ended: whose fault it was, what that means, and what to do; no cure where nothing has to be done."""

    fault: str
    meaning: str
    cure: str = ""


class CallView(CallRecord):
    """One call, live or ended. A field that is not known is absent; times are Unix seconds."""

    end: End | None = Field(None, description="of an ended call: whose fault it was, what it means, what to do")


def view_of(record: CallRecord) -> CallView:
    """Return a record as the API shows it."""
    return CallView(**dict(record), end=end_of(record))


def end_of(record: CallRecord) -> End | None:
    """Return whose fault the end of a call was; None for one that has not ended, or that a newer gateway ended."""
    try:
        info = END_REASONS[EndReason(record.end_reason or "")]
    except ValueError:
        return None
    return End(fault=record.fault or info.fault, meaning=info.meaning, cure=info.cure)


def typed(fields: Mapping[str, str]) -> dict[str, Any]:
    """Return an entry's fields with numbers as numbers; what should be one and is not stays text."""
    return {name: _typed(name, value) for name, value in fields.items()}


def _typed(name: str, value: str) -> Any:
    kind = NUMBER_FIELDS.get(name) or MORE_NUMBERS.get(name)
    if kind is None:
        return value
    try:
        return kind(value)
    except ValueError:
        return value
