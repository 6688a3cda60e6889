"""The messages that an event becomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.settings.webhooks import ALL_EVENTS
from gateway.store.transcript import TranscriptEntry
from gateway.webhooks.messages import MOST_TRANSCRIPT_CHARACTERS, message_of, types_of

pytestmark = pytest.mark.unit

ENTRY = "1796066246581-0"
BASE = {"call_id": "c1", "at": "1700000000.25", "worker": "w1"}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SAID = (TranscriptEntry(0.5, "agent", "Hello?", agent="desk", item_id="i1"), TranscriptEntry(2.0, "caller", "Hi."))


@pytest.mark.parametrize(
    ("fields", "types"),
    [
        ({"event": "routing", "state": "routing", "created_at": "1.0"}, ["call.started"]),
        ({"event": "active", "state": "active", "answered_at": "2.0"}, ["call.answered"]),
        ({"event": "transfer_asked", "target": "sales"}, ["call.transfer"]),
        ({"event": "joined", "state": "joined"}, ["call.transfer"]),
        ({"event": "recording_saved", "recording": "a.wav", "seconds": "1"}, ["call.recording"]),
        ({"event": "ended", "state": "ended"}, ["call.ended", "call.transcript"]),
        ({"event": "refused", "state": "ended", "created_at": "1.0"}, ["call.ended", "call.transcript"]),
        ({"event": "agent_heard", "text": "Hello"}, []),
        ({}, []),
    ],
)
def test_an_event_becomes_messages_of_these_types(fields: dict[str, str], types: list[str]) -> None:
    assert list(types_of(fields)) == types


def test_the_record_is_typed_and_newer_than_the_event() -> None:
    fields = {**BASE, "event": "routing", "state": "routing", "created_at": "1700000000.0", "caller": "+491"}
    record = {"call_id": "c1", "state": "active", "tokens_in": "5", "heartbeat_at": "1.0", "later_field": "x"}
    message = message_of("call.started", ENTRY, fields, record)
    assert message is not None
    assert (message.id, message.type, message.call_id) == (f"msg_{ENTRY}_started", "call.started", "c1")
    body = json.loads(message.body)
    assert body["timestamp"] == "2023-11-14T22:13:20.250Z"
    call = body["data"]["call"]
    assert call == {
        "call_id": "c1",
        "state": "active",
        "tokens_in": 5,
        "worker": "w1",
        "created_at": 1700000000.0,
        "caller": "+491",
    }


def test_the_same_event_becomes_the_same_message() -> None:
    fields = {**BASE, "event": "ended", "state": "ended", "end_reason": "no_rtp"}
    assert message_of("call.ended", ENTRY, fields, {}) == message_of("call.ended", ENTRY, fields, {})


def test_an_end_says_whose_fault_it_was_and_what_to_do() -> None:
    fields = {**BASE, "event": "ended", "state": "ended", "end_reason": "no_rtp", "fault": "carrier"}
    message = message_of("call.ended", ENTRY, fields, {})
    assert message is not None
    end = json.loads(message.body)["data"]["end"]
    assert end["fault"] == "carrier"
    assert end["meaning"]
    assert end["cure"]
    unknown = message_of("call.ended", ENTRY, {**fields, "end_reason": "of a newer gateway"}, {})
    assert unknown is not None
    assert json.loads(unknown.body)["data"]["end"] == {}


def test_a_call_in_which_nothing_was_said_has_no_transcript() -> None:
    assert message_of("call.transcript", ENTRY, {**BASE, "event": "ended"}, {}) is None


def test_a_transcript_that_is_too_long_is_cut_and_says_so() -> None:
    long = TranscriptEntry(9.0, "caller", "x" * MOST_TRANSCRIPT_CHARACTERS)
    for said, complete, count in ((SAID, True, 2), ((*SAID, long), False, 2)):
        message = message_of("call.transcript", ENTRY, {**BASE, "event": "ended"}, {}, said)
        assert message is not None
        transcript = json.loads(message.body)["data"]["transcript"]
        assert transcript["complete"] is complete
        assert len(transcript["entries"]) == count
    assert transcript["entries"][0] == {
        "at_s": 0.5,
        "speaker": "agent",
        "text": "Hello?",
        "cut": False,
        "agent": "desk",
        "item_id": "i1",
    }


@pytest.mark.parametrize(
    ("given", "sent"),
    [(PARENT, PARENT), ("", ""), ("00-x", ""), (f"{PARENT}\r\nX: y", ""), (PARENT.upper(), "")],
)
def test_a_trace_is_handed_on_if_it_is_one(given: str, sent: str) -> None:
    for fields, record in (({"traceparent": given}, {}), ({}, {"traceparent": given})):
        message = message_of("call.ended", ENTRY, {**BASE, "event": "ended", **fields}, record)
        assert message is not None
        assert message.traceparent == sent


def test_every_payload_stands_in_the_docs_as_it_is_made() -> None:
    """Each example of the page is what the events it stands for become."""
    page = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()
    shown = {}
    for block in page.split("```json\n")[1:]:
        example: dict[str, Any] = json.loads(block.partition("```")[0])
        shown[example["type"]] = example
    assert [*shown] == [*ALL_EVENTS]
    call = {name: str(value) for name, value in shown["call.ended"]["data"]["call"].items()}
    base = {"call_id": "019a3f5c2d1e8b0f4a6c9d2", "worker": call["worker"]}
    fields = {
        "call.started": {"event": "routing", "at": "1769850000.25"},
        "call.answered": {"event": "active", "at": "1769850001.5"},
        "call.transfer": {"event": "transfer_asked", "at": "1769850040.0", "target": "sales", "warm": "true"},
        "call.recording": {"event": "recording_saved", "at": "1769850061.0", "seconds": "59.5"}
        | {"recording": shown["call.recording"]["data"]["recording"]["path"]},
        "call.ended": {"event": "ended", "at": "1769850061.25", "state": "ended", "end_reason": "caller_hung_up"},
        "call.transcript": {"event": "ended", "at": "1769850061.25", "state": "ended"},
    }
    said = tuple(TranscriptEntry(**each) for each in shown["call.transcript"]["data"]["transcript"]["entries"])
    for kind in ALL_EVENTS:
        known = {name: str(value) for name, value in shown[kind]["data"]["call"].items()}
        message = message_of(kind, ENTRY, {**base, **fields[kind]}, known, said)
        assert message is not None
        assert json.loads(message.body) == shown[kind], kind
