"""What `gateway calls` shows."""

from __future__ import annotations

import pytest

from gateway.cli.calls import erasure, event_line, live_table, moment, spoken_line
from gateway.errors import GatewayError

pytestmark = pytest.mark.unit


def test_live_calls_are_rows_with_who_where_and_how_long() -> None:
    call = {
        "call_id": "c1",
        "caller": "+4930123",
        "to_uri": "sip:1000@gw",
        "agent": "hello",
        "state": "talking",
        "created_at": 100.0,
        "cost_usd": 0.01234,
    }
    title, columns, rows = live_table([call], 161.4)
    assert title == "1 live call"
    assert dict(zip(columns, rows[0], strict=True)) == {
        "call": "c1",
        "from": "+4930123",
        "to": "sip:1000@gw",
        "route": "",
        "agent": "hello",
        "state": "talking",
        "time s": "61",
        "cost $": "0.0123",
    }


def test_no_calls_are_said_in_words() -> None:
    assert live_table([], 0.0)[0] == "No live calls"


def test_an_event_is_a_line_with_its_time_and_fields() -> None:
    event = {"id": "1-0", "call_id": "c1", "event": "turn", "at": 3661.25, "worker": "w1", "turn_latency_ms": 420}
    assert event_line(event) == "01:01:01.250 c1 turn turn_latency_ms=420"


@pytest.mark.parametrize(
    ("event", "line"),
    [
        ({"event": "agent_heard", "at": 1.0, "text": "Hello, I", "cut": "true"}, "agent   Hello, I (interrupted)"),
        ({"event": "caller_spoke", "at": 1.0, "text": "Stop"}, "caller  Stop"),
        ({"event": "agent_spoke", "at": 1.0, "text": "generated, not heard"}, ""),
        ({"event": "agent_heard", "at": 1.0, "text": ""}, ""),
    ],
)
def test_the_transcript_is_what_was_heard(event: dict[str, object], line: str) -> None:
    assert spoken_line(event) == (f"  00:00:01.000  {line}" if line else "")


def test_a_day_is_one_of_utc_and_a_time_may_name_its_zone() -> None:
    assert moment("--since", "2026-01-31") == 1769817600.0
    assert moment("--since", "2026-01-31T01:00:00+01:00") == 1769817600.0


def test_what_is_no_time_is_refused_with_its_option() -> None:
    with pytest.raises(GatewayError, match="--until: 'yesterday' is not a time; write 2026-01-31"):
        moment("--until", "yesterday")


def test_an_erasure_says_what_went_and_what_did_not() -> None:
    counts = {"records": 2, "events": 30, "cdrs": 2, "deliveries": 0, "limits": 1, "audit": 0}
    gone: dict[str, object] = {"dry_run": False, "calls": ["a", "b"], "files": ["x.wav"], **counts}
    assert list(erasure({**gone, "live": ["c"], "files_elsewhere": ["/r/y.wav"]})) == [
        "erased: 2 calls",
        *("  records: 2", "  events: 30", "  cdrs: 2", "  deliveries: 0", "  limits: 1", "  audit: 0", "  files: 1"),
        "not on the machine of the HTTP API, erase it there: /r/y.wav",
        "still live, nothing of it was erased: c; ask again when it has ended",
    ]
    tried = erasure({**gone, "dry_run": True, "live": [], "files_elsewhere": []})
    assert next(tried) == "there are: 2 calls"
