"""One call as a trace."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call.events import Scalar
from gateway.tracing.call_spans import CallSpans
from gateway.tracing.context import TraceContext
from gateway.tracing.spans import MAX_EVENTS, Span, SpanKind

pytestmark = pytest.mark.unit

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
FIRST: dict[str, Scalar] = {"state": "routing", "route": "sales", "trunk": "main", "transport": "tls", "agent": "clerk"}
END: dict[str, Scalar] = {"state": "ended", "end_reason": "caller_hung_up", "fault": "nobody", "sip_code": 200}


class Story:
    """Tells notes, one after the other, and keeps the spans that are over."""

    def __init__(self, direction: str = "inbound", parent: str = "") -> None:
        ids = count(1)
        context = TraceContext(TRACE, f"{next(ids):016x}", sampled=True)
        self.call = CallSpans("c1", context, parent, 100.0, direction, lambda: f"{next(ids):016x}")
        self.spans: list[Span] = []

    def note(self, at: float, event: str, **fields: Scalar) -> Story:
        self.spans += self.call.take(event, fields, at)
        return self

    def answered(self) -> Story:
        return self.note(100, "routing", **FIRST).note(101, "active", state="active", answered_at=101.0)

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def tree(self) -> list[str]:
        """Return the spans as lines, each with its parents' names in front, in order of their beginnings."""
        by_id = {span.context.span_id: span for span in self.spans}

        def path(span: Span) -> str:
            above = by_id.get(span.parent_id)
            return (path(above) + " > " if above else "") + span.name

        return [path(span) for span in sorted(self.spans, key=lambda span: (span.began_at, span.context.span_id))]


def test_a_call_with_a_greeting_a_turn_and_a_tool_is_a_tree() -> None:
    story = Story().answered()
    story.note(102, "session", open_ms=80, attempt=1).note(104, "agent_heard", item_id="g", text="Hello!", cut=False)
    story.note(105, "speech_started").note(107, "speech_stopped").note(107.2, "caller_spoke", text="When?")
    story.note(107.5, "tool_asked", tool_call_id="t1", name="hours", arguments='{"day": "monday"}')
    story.note(107.9, "tool_finished", tool_call_id="t1", name="hours", output="9 to 5", failed=False, took_ms=400)
    story.note(110, "turn", item_id="a", turn_latency_ms=1500).note(110, "agent_heard", item_id="a", text="Nine.")
    story.note(112, "ended", **END)
    assert story.tree() == [
        "call inbound",
        "call inbound > setup",
        "call inbound > turn",
        "call inbound > turn",
        "call inbound > turn > execute_tool hours",
    ]
    (call,) = story.named("call inbound")
    greeting, turn = story.named("turn")
    assert (call.began_at, call.ended_at, call.kind, call.error) == (100, 112, SpanKind.SERVER, "")
    assert (greeting.began_at, greeting.ended_at) == (101, 104)
    assert (turn.began_at, turn.ended_at, turn.attributes["gateway.turn.latency_ms"]) == (105, 110, 1500)
    told = [("speech_stopped", 107), ("tool_asked", 107.5), ("first_audio", 108.5)]
    assert [(event.name, event.at) for event in turn.events] == told
    assert call.attributes["gateway.route"] == "sales"
    assert (call.attributes["network.transport"], call.attributes["gen_ai.agent.name"]) == ("tcp", "clerk")


def test_no_word_number_or_argument_is_in_a_trace() -> None:
    secret = "4711-secret"
    story = Story().note(100, "routing", **FIRST, caller=secret, called=secret, from_uri=secret, to_uri=secret)
    story.note(101, "active", state="active", answered_at=101.0, source=secret)
    for event in ("agent_heard", "caller_spoke", "tool_asked", "transfer_asked", "upstream_error", "agent_retry"):
        words: dict[str, Scalar] = {"text": secret, "arguments": secret, "target": secret, "detail": secret}
        story.note(102, event, **words, tool_call_id="t", name="hours", output=secret)
    story.note(103, "digit_pressed", digit=secret).note(104, "step", action="dial", target=secret)
    story.note(105, "ended", **END, end_detail=secret)
    assert secret not in repr(story.spans)


def test_a_cough_begins_no_turn() -> None:
    story = Story().answered().note(103, "agent_heard", item_id="g")
    story.note(104, "speech_started").note(104.3, "speech_stopped").note(104.3, "false_start")
    story.note(108, "agent_heard", item_id="h").note(109, "ended", **END)
    (turn,) = story.named("turn")
    assert turn.ended_at == 108
    assert [event.name for event in turn.events] == ["false_start"]


def test_an_interruption_belongs_to_the_turn_that_was_cut_off() -> None:
    story = Story().answered().note(104, "speech_started")
    story.note(104.1, "interruption", interruption_ms=60).note(104.1, "agent_heard", item_id="g", cut=True)
    story.note(106, "speech_stopped").note(108, "turn", turn_latency_ms=700).note(108, "agent_heard", item_id="a")
    story.note(109, "ended", **END)
    first, second = story.named("turn")
    assert (first.attributes["gateway.turn.cut"], first.attributes["gateway.turn.interruption_ms"]) == (True, 60)
    assert "gateway.turn.interruption_ms" not in second.attributes
    assert (first.began_at, first.ended_at, second.began_at) == (101, 104, 104)


def test_a_caller_who_goes_on_before_the_answer_is_in_the_same_turn() -> None:
    story = Story().answered().note(102, "speech_started").note(103, "speech_stopped").note(103.1, "caller_spoke")
    story.note(104, "speech_started").note(105, "speech_stopped").note(106, "turn", turn_latency_ms=900)
    story.note(106, "agent_heard", item_id="a").note(107, "ended", **END)
    (turn,) = story.named("turn")
    assert (turn.began_at, turn.ended_at) == (102, 106)
    assert [event.name for event in turn.events] == [
        "speech_stopped",
        "speech_started",
        "speech_stopped",
        "first_audio",
    ]


def test_a_call_that_was_not_answered_has_a_set_up_and_no_turn() -> None:
    story = Story().note(100, "routing", **FIRST).note(101, "agent_retry", attempt=1, code="server_error")
    story.note(108, "ended", state="ended", end_reason="setup_timeout", fault="upstream", sip_code=503)
    assert story.tree() == ["call inbound", "call inbound > setup"]
    (setup,), (call,) = story.named("setup"), story.named("call inbound")
    assert (setup.attributes["error.type"], call.attributes["error.type"]) == ("setup_timeout", "setup_timeout")
    assert [event.attributes for event in setup.events] == [{"gateway.attempt": 1, "gateway.code": "server_error"}]


def test_tokens_are_added_up_in_the_turn_they_were_used_in() -> None:
    story = Story().answered().note(102, "speech_started").note(103, "speech_stopped")
    for _ in range(2):
        story.note(104, "usage", text_in=10, audio_in=5, cached_text_in=4, text_out=1, audio_out=20)
    story.note(105, "ended", **END, tokens_in=30, tokens_out=42)
    (turn,), (call,) = story.named("turn"), story.named("call inbound")
    assert turn.attributes["gen_ai.usage.input_tokens"] == 30
    assert turn.attributes["gen_ai.usage.cache_read.input_tokens"] == 8
    assert call.attributes["gen_ai.usage.output_tokens"] == 42


def test_holds_reconnects_and_transfers_have_spans_with_their_result() -> None:
    story = Story().answered().note(102, "held").note(103, "resumed")
    story.note(104, "agent_away", detail="1006").note(105, "agent_retry", attempt=1).note(106, "agent_back")
    story.note(107, "transfer_asked", target="sip:x", warm=False).note(108, "transfer_ended", code=486, refused=False)
    story.note(109, "transfer_asked", target="sip:y", warm=True).note(110, "second_ringing", code=180)
    story.note(111, "joined", state="joined").note(119, "second_closed", code=200).note(120, "ended", **END)
    spans = {span.name: span for span in story.spans}
    assert (spans["hold"].began_at, spans["hold"].ended_at) == (102, 103)
    assert [event.name for event in spans["reconnect"].events] == ["agent_retry"]
    refused, joined = story.named("transfer")
    assert (refused.attributes["error.type"], refused.attributes["gateway.sip_code"]) == ("sip_486", 486)
    assert (joined.ended_at, joined.error) == (111, "")
    assert [event.name for event in joined.events] == ["second_ringing", "joined"]


def test_what_is_open_at_the_end_ends_with_the_call() -> None:
    story = Story("outbound", parent="00000000000000aa").answered()
    story.note(102, "tool_asked", tool_call_id="t", name="hours").note(103, "held").note(104, "ended", **END)
    assert all(span.ended_at is not None for span in story.spans)
    (tool,), (call,) = story.named("execute_tool hours"), story.named("call outbound")
    assert tool.attributes["error.type"] == "call_ended"
    assert (call.kind, call.parent_id) == (SpanKind.CLIENT, "00000000000000aa")


def test_a_request_of_a_tool_belongs_to_its_use() -> None:
    story = Story().answered().note(102, "tool_asked", tool_call_id="t", name="hours")
    inside, outside = story.call.context_of("t"), story.call.context_of("unknown")
    story.note(103, "tool_finished", tool_call_id="t").note(104, "ended", **END)
    assert inside == story.named("execute_tool hours")[0].context
    assert outside == story.named("call inbound")[0].context


NOTES = st.tuples(
    st.sampled_from(
        (
            *("speech_started", "speech_stopped", "false_start", "turn", "agent_heard", "interruption", "usage"),
            *("tool_asked", "tool_finished", "mcp_call_began", "mcp_call_ended", "held", "resumed", "agent_away"),
            *("agent_back", "transfer_asked", "transfer_ended", "second_closed", "joined", "answer_missing", "session"),
        )
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "tool_call_id": st.sampled_from("ab"),
            "code": st.integers(100, 699),
            "turn_latency_ms": st.integers(0),
        },
    ),
)


@given(st.lists(NOTES, max_size=60))
def test_every_span_of_any_story_ends_within_its_call_and_hangs_in_the_tree(
    notes: list[tuple[str, dict[str, Scalar]]],
) -> None:
    story = Story().answered()
    for number, (event, fields) in enumerate(notes):
        story.note(102 + number, event, **fields)
    story.note(200, "ended", **END)
    ids = [span.context.span_id for span in story.spans]
    assert len(ids) == len({*ids})
    assert len(story.named("call inbound")) == len(story.named("setup")) == 1
    for span in story.spans:
        assert span.context.trace_id == TRACE
        assert span.parent_id in ids or span.name == "call inbound"
        assert span.ended_at is not None
        assert 100 <= span.began_at <= span.ended_at <= 200
        assert len(span.events) <= MAX_EVENTS
