"""What the notes of a call add to the metrics."""

from __future__ import annotations

from collections import Counter

import pytest

from gateway.call.events import Scalar
from gateway.ids import CallId
from gateway.metrics import definitions as of
from gateway.metrics.call_counts import CallCounts, error_code
from gateway.metrics.fields import Figures, figures_of

pytestmark = pytest.mark.unit

CALL = CallId("call")
BEGAN: dict[str, Scalar] = {"state": "routing", "created_at": 100.0, "direction": "inbound"}
ENDED: dict[str, Scalar] = {"state": "ended", "ended_at": 170.0, "end_reason": "caller_hung_up", "fault": "nobody"}


class Ledger:
    def __init__(self) -> None:
        self.counts = CallCounts()
        self.total: Counter[str] = Counter()

    def note(self, event: str, call: CallId = CALL, /, **fields: Scalar) -> None:
        self.total.update(self.counts.of(call, event, fields))

    def of(self, metric: of.Metric) -> Figures:
        return figures_of({field: str(amount) for field, amount in self.total.items()}).get(metric, Figures())


def test_a_call_is_counted_at_its_beginning_its_answer_and_its_end() -> None:
    ledger = Ledger()
    ledger.note("routing", **BEGAN)
    ledger.note("active", state="active", answered_at=110.0, setup_ms=900)
    ledger.note("media_up", codec="PCMU/8000", first_audio_ms=300)
    ledger.note("ended", **ENDED)
    assert ledger.of(of.CALLS_STARTED).counted == {("inbound",): 1}
    assert ledger.of(of.CALLS_ANSWERED).counted == {("inbound",): 1}
    assert ledger.of(of.CALLS_ENDED).counted == {("caller_hung_up", "nobody", "inbound"): 1}
    assert ledger.of(of.SETUP).sums == {("inbound",): 0.9}
    assert ledger.of(of.FIRST_AUDIO).sums == {(): 0.3}
    assert ledger.of(of.TALK).sums == {("inbound",): 60}


def test_a_refused_call_is_begun_and_ended_by_one_note() -> None:
    ledger = Ledger()
    ledger.note("refused", **BEGAN | ENDED | {"end_reason": "no_route", "fault": "configuration"})
    assert ledger.of(of.CALLS_STARTED).counted == {("inbound",): 1}
    assert ledger.of(of.CALLS_ENDED).counted == {("no_route", "configuration", "inbound"): 1}
    assert ledger.of(of.TALK) == Figures()


def test_figures_that_grow_are_counted_by_their_growth() -> None:
    ledger = Ledger()
    ledger.note("routing", **BEGAN)
    for lost, cost in ((1, 0.25), (3, 0.5), (3, 0.75)):
        ledger.note("quality", rx_packets=100 * lost, rx_lost=lost, underruns=2 * lost, cost_usd=cost)
    ledger.note("ended", **ENDED, cost_usd=1.0)
    assert ledger.of(of.RTP_LOST).counted == {("received",): 3}
    assert ledger.of(of.RTP_PACKETS).counted == {("received",): 300}
    assert ledger.of(of.UNDERRUNS).counted == {(): 6}
    assert ledger.of(of.COST).counted == {(): 1.0}


def test_two_calls_do_not_share_what_they_counted() -> None:
    ledger = Ledger()
    for call in (CallId("a"), CallId("b")):
        ledger.note("routing", call, **BEGAN)
        ledger.note("quality", call, rx_lost=5)
    assert ledger.of(of.RTP_LOST).counted == {("received",): 10}


def test_a_note_after_the_end_begins_no_call() -> None:
    ledger = Ledger()
    ledger.note("routing", **BEGAN)
    ledger.note("ended", **ENDED)
    ledger.note("quality", rx_lost=5)
    ledger.note("ended", **ENDED)
    assert ledger.of(of.RTP_LOST) == Figures()
    assert sum(ledger.of(of.CALLS_ENDED).counted.values()) == 1


def test_turns_tools_tokens_and_sessions_are_counted() -> None:
    ledger = Ledger()
    ledger.note("routing", **BEGAN)
    ledger.note("turn", item_id="i", turn_latency_ms=700)
    ledger.note("interruption", item_id="i", interruption_ms=40)
    ledger.note("tool_finished", name="hours", failed=False, took_ms=120)
    ledger.note("tool_finished", name="hours", failed=True, took_ms=20)
    ledger.note("usage", text_in=10, audio_in=20, cached_text_in=0, audio_out=5, transcription_seconds=2.5)
    ledger.note("answer_missing", why="not_begun")
    ledger.note("transfer_asked", target="reception")
    ledger.note("session", session_id="s", attempt=0)
    ledger.note("session_ended", by="gateway", session_id="s")
    assert ledger.of(of.TURN_LATENCY).buckets[()]["0.8"] == 1
    assert ledger.of(of.INTERRUPTION).buckets[()]["0.04"] == 1
    assert ledger.of(of.TOOL_CALLS).counted == {("ok",): 1, ("failed",): 1}
    assert ledger.of(of.TOOL_SECONDS).sums == {(): 0.14}
    assert ledger.of(of.UPSTREAM_TOKENS).counted == {("text_in",): 10, ("audio_in",): 20, ("audio_out",): 5}
    assert ledger.of(of.ANSWERS_MISSING).counted == {("not_begun",): 1}
    assert ledger.of(of.TRANSFERS).counted == {(): 1}
    assert ledger.of(of.UPSTREAM_SESSIONS).counted == {(): 1}
    assert ledger.of(of.UPSTREAM_ERRORS) == Figures()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"code": "rate_limit_exceeded", "close_code": 4000}, "rate_limit_exceeded"),
        ({"http_status": 401}, "http_401"),
        ({"http_status": 418}, "http_4xx"),
        ({"http_status": 503}, "http_5xx"),
        ({"close_code": 1006}, "close_1006"),
        ({"close_code": 4999}, "close_other"),
        ({"code": "of_tomorrow"}, "of_tomorrow"),
        ({"detail": "no route to host"}, "unreachable"),
    ],
)
def test_an_error_is_named_by_the_best_that_is_known(fields: dict[str, Scalar], code: str) -> None:
    assert error_code(fields) == code


def test_an_error_that_nobody_listed_is_counted_as_another() -> None:
    ledger = Ledger()
    ledger.note("upstream_error", code="of_tomorrow", detail="?")
    ledger.note("session_ended", by="service", close_code=1006)
    assert ledger.of(of.UPSTREAM_ERRORS).counted == {("other",): 1, ("close_1006",): 1}


def test_notes_that_say_nothing_add_nothing() -> None:
    ledger = Ledger()
    ledger.note("speech_started", item_id="i", played_ms=3)
    ledger.note("turn", item_id="i")
    ledger.note("quality", rx_lost="many")
    assert not ledger.total
