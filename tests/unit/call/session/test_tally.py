from __future__ import annotations

import pytest

from gateway.call.session.tally import Tally

pytestmark = pytest.mark.unit


def test_a_call_of_which_nothing_is_known_has_no_totals() -> None:
    tally = Tally()
    tally.take("routing", {"state": "routing"})
    tally.take("tool_finished", {"tool_call_id": "t1", "failed": False})
    assert tally.totals() == {}


def test_turns_have_a_median_and_a_worst() -> None:
    tally = Tally()
    for latency in (900, 300, 500, 400):
        tally.take("turn", {"item_id": "i", "turn_latency_ms": latency})
    assert tally.totals() == {"turns": 4, "turn_latency_median_ms": 400, "turn_latency_worst_ms": 900}


def test_agents_are_named_once_each_in_their_order() -> None:
    tally = Tally()
    for name in ("reception", "sales", "reception"):
        tally.take("step", {"agent": name})
    assert tally.totals() == {"agents": "reception, sales"}


def test_tools_of_every_kind_are_counted_and_their_failures() -> None:
    tally = Tally()
    tally.take("tool_asked", {"tool_call_id": "t1", "name": "weather"})
    tally.take("tool_finished", {"tool_call_id": "t1", "name": "weather", "failed": True})
    tally.take("hang_up_asked", {"tool_call_id": "t2", "reason": ""})
    tally.take("transfer_asked", {"tool_call_id": "", "target": "sip:a@b"})  # by a key of the caller
    tally.take("tool_rejected", {"tool_call_id": "t3", "tool": "nonsense"})
    tally.take("mcp_call_began", {"item_id": "m1", "name": "find"})
    tally.take("mcp_call_ended", {"item_id": "m1", "name": "find", "failed": False})
    assert tally.totals() == {"tool_calls": 4, "tool_calls_failed": 2}


def test_what_is_said_to_a_second_leg_is_no_part_of_the_transcript() -> None:
    tally = Tally()
    tally.take("agent_heard", {"text": "Hello.", "cut": True})
    tally.take("agent_heard", {"text": "A caller.", "with": "second"})
    tally.take("caller_spoke", {"text": "Hi."})
    tally.take("interruption", {"item_id": "i"})
    tally.take("false_start", {})
    tally.take("digit_pressed", {"digit": "*"})
    assert tally.totals() == {
        "transcript_entries": 2,
        "interruptions": 1,
        "interruptions_taken_back": 1,
        "keys_pressed": 1,
    }
