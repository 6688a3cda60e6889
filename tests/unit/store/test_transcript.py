from __future__ import annotations

import pytest

from gateway.store.transcript import TranscriptEntry, transcript_json, transcript_of, transcript_text

pytestmark = pytest.mark.unit

EVENTS = [
    {"event": "routing", "at": "100.0", "agent": "reception", "created_at": "100.0"},
    {"event": "announced", "at": "101.0", "sound": "wait.wav", "began_at": "100.5", "cut": "false"},
    {"event": "active", "at": "102.0", "answered_at": "102.0"},
    {"event": "agent_spoke", "at": "102.1", "item_id": "i1", "text": "Hello, and welcome to us."},
    {"event": "agent_heard", "at": "104.9", "item_id": "i1", "text": "Hello, and", "began_at": "102.5", "cut": "true"},
    {"event": "caller_spoke", "at": "106.5", "item_id": "i2", "text": "Sales, please."},
    {"event": "agent_heard", "at": "107.0", "item_id": "i9", "text": "A caller.", "began_at": "106", "with": "second"},
    {"event": "step", "at": "108.0", "agent": "sales"},
    {"event": "agent_heard", "at": "171.0", "item_id": "i3", "text": "", "began_at": "170.0", "cut": "false"},
]


def test_the_transcript_has_what_the_caller_heard_and_said() -> None:
    assert transcript_of(EVENTS) == (
        TranscriptEntry(-1.5, "sound", "wait.wav"),
        TranscriptEntry(0.5, "agent", "Hello, and", cut=True, agent="reception", item_id="i1"),
        TranscriptEntry(4.5, "caller", "Sales, please.", item_id="i2"),
        TranscriptEntry(68.0, "agent", "", agent="sales", item_id="i3"),
    )


def test_people_read_it_line_by_line() -> None:
    assert transcript_text(transcript_of(EVENTS)).splitlines() == [
        "[-00:01] sound: (wait.wav)",
        "[00:00] agent reception: Hello, and -- interrupted",
        "[00:04] caller: Sales, please.",
        "[01:08] agent sales: (no transcript)",
    ]


def test_programs_read_it_by_name() -> None:
    assert transcript_json(transcript_of(EVENTS))[2] == {
        "at_s": 4.5,
        "speaker": "caller",
        "text": "Sales, please.",
        "cut": False,
        "agent": "",
        "item_id": "i2",
    }


def test_a_call_without_events_has_an_empty_transcript() -> None:
    assert transcript_of([]) == ()
