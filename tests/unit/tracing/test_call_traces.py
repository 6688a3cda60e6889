"""The traces of a worker's calls."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from gateway.call.events import Scalar
from gateway.tracing.call_traces import CallTraces
from gateway.tracing.context import read_traceparent
from gateway.tracing.spans import Span
from tests.fakes.clock import FakeClock
from tests.fakes.store import CALL, FakeStore

pytestmark = pytest.mark.unit

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"
BEGAN: dict[str, Scalar] = {"state": "routing", "created_at": 1_700_000_000.0, "direction": "inbound"}


class Desk:
    def __init__(self, ratio: float = 1) -> None:
        self.store, self.sent = FakeStore(), list[Span]()
        self.traces = CallTraces(self.store, self.send, ratio, FakeClock())

    def send(self, spans: Iterable[Span]) -> None:
        self.sent += spans


def test_each_change_of_state_says_which_trace_it_belongs_to() -> None:
    desk = Desk()
    desk.traces.note(CALL, "routing", **BEGAN)
    desk.traces.note(CALL, "speech_started", item_id="i")
    desk.traces.note(CALL, "ended", state="ended", end_reason="caller_hung_up")
    headers = [fields.get("traceparent") for _, _, fields in desk.store.notes]
    assert headers[0] == headers[2]
    assert headers[1] is None
    (setup, call) = desk.sent
    assert read_traceparent(str(headers[0])) == call.context
    assert setup.parent_id == call.context.span_id


def test_a_trace_that_the_invite_names_goes_on() -> None:
    desk = Desk(ratio=0)
    desk.traces.note(CALL, "routing", **BEGAN, traceparent=f"{PARENT}-01")
    desk.traces.note(CALL, "ended", state="ended")
    assert {span.context.trace_id for span in desk.sent} == {PARENT.split("-")[1]}
    assert desk.sent[-1].parent_id == PARENT.split("-")[2]


@pytest.mark.parametrize("header", [f"{PARENT}-00", ""])
def test_a_trace_that_is_not_recorded_is_handed_on_as_such(header: str) -> None:
    desk = Desk(ratio=0)
    desk.traces.note(CALL, "routing", **BEGAN, traceparent=header)
    (told,) = desk.traces.headers_of(CALL, "t").values()
    desk.traces.note(CALL, "ended", state="ended")
    assert told.endswith("-00")
    assert not desk.sent


def test_an_odd_header_of_an_invite_is_replaced() -> None:
    desk = Desk()
    desk.traces.note(CALL, "routing", **BEGAN, traceparent="; DROP")
    assert read_traceparent(str(desk.store.record()["traceparent"])) is not None


def test_nothing_is_remembered_of_a_call_that_ended() -> None:
    desk = Desk()
    desk.traces.note(CALL, "refused", **BEGAN | {"state": "ended"})
    desk.traces.note(CALL, "quality", rx_lost=3)
    assert desk.traces.headers_of(CALL, "t") == {}
    assert len(desk.sent) == 2
    assert vars(desk.traces)["_contexts"] == vars(desk.traces)["_spans"] == {}
