"""
What the notes of a call add to the metrics. Pure.

The journal of a call writes down what happens to it (``call/session/journal.py``); each note is turned into increments
here, once. Figures that a note repeats as they grow (RTP, cost) are counted by what they grew since the last note, so
a call's share is in the metrics while it runs. A call is remembered from its first note to its last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.call.events import Scalar
from gateway.call.machine.phase import Phase
from gateway.ids import CallId
from gateway.metrics import definitions as of
from gateway.metrics.fields import Increments, added, observed

Fields = Mapping[str, Scalar]

_GROWING: Mapping[str, tuple[of.Metric, tuple[str, ...]]] = {
    "underruns": (of.UNDERRUNS, ()),
    "late_frames": (of.LATE_FRAMES, ()),
    "rx_packets": (of.RTP_PACKETS, ("received",)),
    "tx_packets": (of.RTP_PACKETS, ("sent",)),
    "rx_lost": (of.RTP_LOST, ("received",)),
    "tx_lost": (of.RTP_LOST, ("sent",)),
    "cost_usd": (of.COST, ()),
}
"""Fields of the record that say what was counted so far."""

_ERRORS = frozenset({"upstream_error", "response_failed", "transcription_failed", "agent_retry", "roll_over_refused"})
"""Notes that each tell of one error of the service; ``session_ended`` does too, if it was the service that ended it."""


@dataclass(slots=True)
class _CountedCall:
    direction: str
    answered_at: float | None = None
    counted: dict[str, float] = field(default_factory=dict)  # of what grows


class CallCounts:
    """Counts the calls of one worker. Thread: loop."""

    def __init__(self) -> None:
        self._calls: dict[CallId, _CountedCall] = {}

    def of(self, call_id: CallId, event: str, fields: Fields) -> Increments:
        """Return what a note adds to the metrics."""
        found: Counter[str] = Counter()
        call = self._calls.get(call_id)
        if call is None and "created_at" in fields:
            call = self._calls[call_id] = _CountedCall(str(fields.get("direction", "")))
            found.update(added(of.CALLS_STARTED, call.direction))
        if call is not None:
            found.update(_of_the_call(call, fields))
            if fields.get("state") == Phase.ENDED.value:
                del self._calls[call_id]
        for each in (*_of_the_conversation(event, fields), *_of_the_service(event, fields)):
            found.update(each)
        return {name: amount for name, amount in found.items() if amount}


def error_code(fields: Fields) -> str:
    """Return the label of an error of the service: its code, or what it answered or closed with."""
    code, status, close = str(fields.get("code", "")), _number(fields, "http_status"), _number(fields, "close_code")
    if code in of.ERROR_CODE.values:
        return code
    if status is not None:
        exact = f"http_{status:.0f}"
        return exact if exact in of.ERROR_CODE.values else f"http_{status // 100:.0f}xx"
    if close is not None:
        exact = f"close_{close:.0f}"
        return exact if exact in of.ERROR_CODE.values else "close_other"
    return code or "unreachable"


def _of_the_call(call: _CountedCall, fields: Fields) -> Increments:
    found: Counter[str] = Counter()
    if (setup_ms := _number(fields, "setup_ms")) is not None:
        found.update(observed(of.SETUP, setup_ms / 1000, call.direction))
    if (first_ms := _number(fields, "first_audio_ms")) is not None:
        found.update(observed(of.FIRST_AUDIO, first_ms / 1000))
    answered_at = _number(fields, "answered_at")
    if answered_at is not None and call.answered_at is None:
        call.answered_at = answered_at
        found.update(added(of.CALLS_ANSWERED, call.direction))
    for name, (metric, values) in _GROWING.items():
        if (now := _number(fields, name)) is not None:
            before = call.counted.get(name, 0.0)
            call.counted[name] = max(now, before)
            found.update(added(metric, *values, amount=max(0.0, now - before)))
    if fields.get("state") == Phase.ENDED.value:
        why, fault = str(fields.get("end_reason", "")), str(fields.get("fault", ""))
        found.update(added(of.CALLS_ENDED, why, fault, call.direction))
        ended_at = _number(fields, "ended_at")
        if ended_at is not None and call.answered_at is not None:
            found.update(observed(of.TALK, max(0.0, ended_at - call.answered_at), call.direction))
    return found


def _of_the_conversation(event: str, fields: Fields) -> list[Increments]:
    match event:
        case "turn" if (latency_ms := _number(fields, "turn_latency_ms")) is not None:
            return [observed(of.TURN_LATENCY, latency_ms / 1000)]
        case "interruption" if (late_ms := _number(fields, "interruption_ms")) is not None:
            return [observed(of.INTERRUPTION, late_ms / 1000)]
        case "answer_missing":
            return [added(of.ANSWERS_MISSING, str(fields.get("why", "")))]
        case "tool_finished":
            took_s = (_number(fields, "took_ms") or 0) / 1000
            return [added(of.TOOL_CALLS, "failed" if fields.get("failed") else "ok"), observed(of.TOOL_SECONDS, took_s)]
        case "transfer_asked":
            return [added(of.TRANSFERS)]
    return []


def _of_the_service(event: str, fields: Fields) -> list[Increments]:
    match event:
        case "usage":
            used = ((kind, _number(fields, kind) or 0) for kind in of.TOKENS.values)
            return [added(of.UPSTREAM_TOKENS, kind, amount=count) for kind, count in used if count > 0]
        case "session":
            return [added(of.UPSTREAM_SESSIONS)]
        case "sessions_full":
            return [added(of.SESSIONS_FULL, "none" if fields.get("then") == "none" else "another_model")]
        case "session_ended":
            by = str(fields.get("by", ""))
            errors = [added(of.UPSTREAM_ERRORS, error_code(fields))] if by == "service" else []
            return [added(of.UPSTREAM_SESSIONS_ENDED, by), *errors]
        case _ if event in _ERRORS:
            return [added(of.UPSTREAM_ERRORS, error_code(fields))]
    return []


def _number(fields: Fields, name: str) -> float | None:
    value = fields.get(name)
    return value if isinstance(value, int | float) else None
