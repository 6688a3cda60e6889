"""What is written down of calls when very many come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from structlog.testing import capture_logs

from gateway.call.events import Scalar
from gateway.ids import CallId
from gateway.settings.privacy import PrivacySettings
from gateway.worker.call_log import BURST, HELD_S, SECONDS_EACH, TOLD_EVERY_S, CallLog
from tests.fakes.clock import FakeClock
from tests.fakes.store import FakeStore

pytestmark = pytest.mark.unit

CALL = CallId("call-of-alice")
ENDED: dict[str, Scalar] = {"state": "ended", "end_reason": "no_route", "sip_code": 404}


class CountingStore(FakeStore):
    def __init__(self) -> None:
        super().__init__()
        self.counts = Counter[tuple[str, str]]()
        self.kept: list[tuple[CallId, dict[str, Scalar]]] = []
        self.metrics = Counter[str]()

    def keep_live(self, call_id: CallId, /, **fields: Scalar) -> None:
        self.kept.append((call_id, fields))

    def count(self, what: str, kind: str) -> None:
        self.counts[what, kind] += 1

    def add(self, amounts: Mapping[str, int]) -> None:
        self.metrics.update(amounts)


class Desk:
    def __init__(self, privacy: PrivacySettings | None = None) -> None:
        self.store, self.clock = CountingStore(), FakeClock()
        self.journal = CallLog(self.store, self.clock, privacy)
        self.number = 0

    def begin(self, direction: str = "inbound") -> CallId:
        self.number += 1
        call = CallId(f"call-{self.number}")
        self.journal.note(call, "routing", state="routing", created_at=1.0, direction=direction)
        return call

    def refuse(self) -> CallId:
        call = self.begin()
        self.journal.note(call, "ended", **ENDED)
        return call

    def flood(self) -> None:
        while self.store.events(self.refuse()):
            pass


def test_all_refused_calls_are_counted_and_the_first_and_then_one_in_so_many_seconds_written_down() -> None:
    desk = Desk()
    calls = [desk.refuse() for _ in range(BURST)]
    assert all(desk.store.events(call) == ["routing", "ended"] for call in calls)
    for _ in range(40 * 60):
        desk.clock.advance(1 / 40)
        desk.refuse()
    assert desk.store.counts == {("unanswered", "no_route 404"): desk.number}
    written = Counter(call for call, _, _ in desk.store.notes)
    assert len(written) <= BURST + 2 * 60 / SECONDS_EACH + 2
    assert len(written) >= BURST + 60 / SECONDS_EACH - 1


def test_a_call_in_a_flood_is_written_whole_when_it_is_answered() -> None:
    desk = Desk()
    desk.flood()
    call = desk.begin()
    desk.journal.note(call, "ringing", state="ringing")
    assert desk.store.events(call) == []
    desk.journal.note(call, "active", state="active", answered_at=2.0)
    assert desk.store.events(call) == ["routing", "ringing", "active"]
    desk.journal.note(call, "turn", latency_ms=300)
    desk.journal.note(call, "ended", state="ended", end_reason="caller_hung_up", sip_code=200)
    assert desk.store.events(call)[3:] == ["turn", "ended"]
    assert ("unanswered", "caller_hung_up 200") not in desk.store.counts


def test_a_call_in_a_flood_that_rings_for_long_is_written_whole() -> None:
    desk = Desk()
    desk.flood()
    call = desk.begin()
    desk.clock.advance(HELD_S)
    desk.journal.note(call, "agent_retry", detail="busy")
    assert desk.store.events(call) == ["routing", "agent_retry"]


def test_a_call_that_we_place_is_always_written_and_never_counted() -> None:
    desk = Desk()
    desk.flood()
    counts = dict(desk.store.counts)
    call = desk.begin("outbound")
    desk.journal.note(call, "ended", state="ended", end_reason="busy", sip_code=486)
    assert desk.store.events(call) == ["routing", "ended"]
    assert desk.store.counts == counts


def test_a_state_is_a_line_in_the_log_and_forgotten_calls_are_one_together() -> None:
    desk = Desk()
    with capture_logs() as logs:
        desk.refuse()
        assert [(entry["event"], entry["sip_code"]) for entry in logs] == [("call_state", 404)]
        desk.flood()
        logs.clear()
        for _ in range(500):
            desk.refuse()
        assert logs == []
        desk.clock.advance(TOLD_EVERY_S)
    (told,) = logs
    assert (told["event"], told["total"]) == ("unanswered_calls_not_written_down", told["no_route_404"])
    assert told["total"] >= 500


def test_what_is_untold_at_the_end_is_told() -> None:
    desk = Desk()
    desk.journal.close()
    desk.flood()
    with capture_logs() as logs:
        desk.journal.close()
    assert [entry["total"] for entry in logs] == [1]
    assert desk.clock.running == 0


def test_answers_that_did_not_come_are_counted_by_what_came_instead() -> None:
    desk = Desk()
    call = desk.begin()
    for why in ("failed", "stalled", "failed"):
        desk.journal.note(call, "answer_missing", why=why)

    assert desk.store.counts == {("answers_missing", "failed"): 2, ("answers_missing", "stalled"): 1}


def test_the_log_says_what_to_do_about_an_end_that_is_somebodys_fault() -> None:
    desk = Desk()
    call = desk.begin("outbound")
    with capture_logs() as logs:
        desk.journal.note(call, "ended", state="ended", end_reason="no_rtp", fault="carrier")
        desk.journal.note(call, "ended", state="ended", end_reason="caller_hung_up", fault="nobody")
    assert "Fault: carrier. With `rx_packets` 0" in logs[0]["advice"]
    assert "advice" not in logs[1]


CALLED_IN: dict[str, Scalar] = {
    **{"state": "routing", "created_at": 1.0, "direction": "inbound", "route": "sales", "caller": "+493012345678"},
    **{"from_uri": "sip:+493012345678@192.0.2.7", "to_uri": "sip:desk@192.0.2.1", "source": "192.0.2.7:5060"},
    **{"sip_call_id": "493012345678@x"},
}
HEARD: dict[str, Scalar] = {"item_id": "i1", "text": "This is 030 1234 5678, call desk.", "tool_call_id": "1234567890"}


def test_numbers_are_shortened_in_whatever_a_call_notes_and_in_the_log() -> None:
    desk = Desk(PrivacySettings(mode="shortened"))
    with capture_logs() as logs:
        desk.journal.note(CALL, "routing", **CALLED_IN)
        desk.journal.note(CALL, "caller_spoke", **HEARD)
        desk.journal.note(CALL, "ended", state="ended", end_reason="transferred", end_detail="sip:desk@192.0.2.1")
    (_, _, first), (_, _, said), (_, _, end) = desk.store.notes
    assert (first["caller"], first["from_uri"]) == ("+49301234****", "sip:+49301234****@192.0.2.7")
    assert (first["to_uri"], first["sip_call_id"], first["source"]) == (
        *("sip:d***@192.0.2.1", "49301234****@x"),
        "192.0.2.7:5060",
    )
    assert (said["text"], said["tool_call_id"]) == ("This is 030 1234 ****, call d***.", "1234567890")
    assert end["end_detail"] == logs[-1]["end_detail"] == "sip:d***@192.0.2.1"


def test_a_call_of_which_only_counts_are_kept_is_live_without_people_and_has_no_events() -> None:
    desk = Desk(PrivacySettings(routes={"sales": "counts"}))
    with capture_logs() as logs:
        desk.journal.note(CALL, "routing", **CALLED_IN)
        desk.journal.note(CALL, "caller_spoke", **HEARD)
        desk.journal.note(CALL, "ended", state="ended", end_reason="transferred", end_detail="sip:desk@192.0.2.1")
        desk.journal.note(CALL, "traced", sip_trace="x")  # too late to be of any use
    assert desk.store.notes == []
    live, *_ = [fields for _, fields in desk.store.kept]
    assert live == {"state": "routing", "created_at": 1.0, "direction": "inbound", "route": "sales"}
    assert "desk" not in str(logs)
    assert logs[-1]["end_reason"] == "transferred"


def test_other_routes_keep_what_the_settings_say_of_all() -> None:
    desk = Desk(PrivacySettings(routes={"support": "counts"}))
    desk.journal.note(CALL, "routing", **CALLED_IN)
    assert desk.store.notes == [(CALL, "routing", CALLED_IN)]
