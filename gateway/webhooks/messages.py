"""
What an endpoint is told: the messages that an event of a call becomes. No I/O.

``docs/webhooks.md`` shows each. The ids follow from the event's entry in the stream, so that a message that is made
twice is the same one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gateway.call.end_reasons import END_REASONS
from gateway.call.outcome import EndReason
from gateway.settings.webhooks import WebhookEvent
from gateway.store.record import RECORD_FIELDS, readable
from gateway.store.transcript import TranscriptEntry, transcript_json
from gateway.tracing.context import read_traceparent

MOST_TRANSCRIPT_CHARACTERS = 200_000
"""Of a transcript's words; the rest is left out, and ``complete`` is false."""

_TRANSFER_STATES = {"transfer_asked": "asked", "transfer_ended": "ended", "joined": "joined"}
_TRANSFER_FIELDS = ("target", "warm", "code", "reason", "refused")
_NOT_SENT = frozenset({"heartbeat_at"})


@dataclass(frozen=True, slots=True)
class Message:
    """
    A message as it is sent.

    Attributes:
        id: ``webhook-id``.
        type: what happened.
        call_id: the call it is about.
        body: JSON.
        traceparent: of the call's trace; empty without one.
    """

    id: str
    type: WebhookEvent
    call_id: str
    body: str
    traceparent: str = ""


def types_of(fields: Mapping[str, str]) -> Iterator[WebhookEvent]:
    """Yield the types of message that an event becomes; most events become none."""
    name = fields.get("event", "")
    if "created_at" in fields and fields.get("state") != "ended":
        yield "call.started"
    if "answered_at" in fields:
        yield "call.answered"
    if name in _TRANSFER_STATES:
        yield "call.transfer"
    if name == "recording_saved":
        yield "call.recording"
    if fields.get("state") == "ended":
        yield "call.ended"
        yield "call.transcript"


def message_of(
    kind: WebhookEvent,
    entry_id: str,
    fields: Mapping[str, str],
    record: Mapping[str, str],
    transcript: Sequence[TranscriptEntry] = (),
) -> Message | None:
    """
    Return a message; None where there is nothing to tell (a call in which nothing was said has no transcript).

    Args:
        kind: one of ``types_of`` the event.
        entry_id: of the event in the stream.
        fields: of the event.
        record: of the call, as it is in Redis; empty if it is gone, and then the event's own fields take its place.
        transcript: of the call, for ``call.transcript``.
    """
    call_id = fields.get("call_id", "")
    more: dict[str, Any] = {}
    match kind:
        case "call.transfer":
            more["transfer"] = _transfer(fields)
        case "call.recording":
            more["recording"] = {"path": fields.get("recording", ""), "seconds": float(fields.get("seconds", 0))}
        case "call.transcript" if not transcript:
            return None
        case "call.transcript":
            more["transcript"] = _transcript(transcript)
        case "call.ended":
            more["end"] = _end({**record, **fields})
    body = {
        "type": kind,
        "timestamp": _moment(fields.get("at", "0")),
        "data": {"call_id": call_id, "call": _call({**fields, **record}), **more},
    }
    trace = read_traceparent(fields.get("traceparent") or record.get("traceparent", ""))
    return Message(
        f"msg_{entry_id}_{kind.partition('.')[2]}",
        kind,
        call_id,
        json.dumps(body, ensure_ascii=False, separators=(",", ":")),
        trace.header() if trace is not None else "",
    )


def _call(flat: Mapping[str, str]) -> dict[str, Any]:
    """Return what is known of the call, named and typed as in its record."""
    known = readable({name: value for name, value in flat.items() if name in RECORD_FIELDS})
    return {name: value for name, value in known or () if value is not None and name not in _NOT_SENT}


def _transfer(fields: Mapping[str, str]) -> dict[str, Any]:
    told: dict[str, Any] = {"state": _TRANSFER_STATES[fields["event"]]}
    told |= {name: fields[name] for name in _TRANSFER_FIELDS if name in fields}
    for name in ("warm", "refused"):
        if name in told:
            told[name] = told[name] == "true"
    if "code" in told:
        told["code"] = int(told["code"])
    return told


def _transcript(entries: Sequence[TranscriptEntry]) -> dict[str, Any]:
    told, characters = [], 0
    for entry in entries:
        characters += len(entry.text)
        if characters > MOST_TRANSCRIPT_CHARACTERS:
            break
        told.append(entry)
    return {"complete": len(told) == len(entries), "entries": transcript_json(told)}


def _end(flat: Mapping[str, str]) -> dict[str, str]:
    """Return why a call ended: whose fault it was, what the reason means, and what to do."""
    try:
        info = END_REASONS[EndReason(flat.get("end_reason", ""))]
    except ValueError:
        return {}
    return {"fault": flat.get("fault", info.fault.value), "meaning": info.meaning, "cure": info.cure}


def _moment(at: str) -> str:
    """Return Unix seconds as ISO 8601."""
    return datetime.fromtimestamp(float(at), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
