"""The tool calls of one call: put together from what is told of them, done once, answered together."""

from __future__ import annotations

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.call.builtin_tools import MAX_ARGUMENTS, HangUpAsked, OfferedTools
from gateway.call.events import CallEvent, ToolAsked
from gateway.ids import CallId
from gateway.upstream.core.history import History
from gateway.upstream.realtime.function_calls import (
    CUT,
    INTERRUPTED,
    MAX_CALLS,
    MAX_DRAFTS,
    REPEATED,
    WITHOUT_ID,
    CalledFunctions,
    Rejected,
)
from gateway.upstream.realtime.wire import server
from gateway.upstream.realtime.wire.codec import parse_server_event
from gateway.upstream.realtime.wire.objects import ServerResponse

pytestmark = pytest.mark.unit

Json = dict[str, Any]

CALL = CallId("call-1")
OFFERED = OfferedTools(builtin=("hang_up", "wait"), own=frozenset({"find_table"}))
ITEM = {"id": "item_1", "type": "function_call", "name": "find_table", "call_id": "call_1"}
IDS: dict[str, Any] = {"item_id": "item_1", "call_id": "call_1", "output_index": 0}
GIVEN = '{"at":"noon"}'
ADDED, DONE = "response.output_item.added", "response.output_item.done"
DELTA, ARGUMENTS = "response.function_call_arguments.delta", "response.function_call_arguments.done"
ASKED = ToolAsked(CALL, "call_1", "find_table", GIVEN)


def new_calls() -> CalledFunctions:
    return CalledFunctions(CALL, OFFERED, History())


def tell(calls: CalledFunctions, name: str, /, response_id: str = "resp_1", **fields: Any) -> None:
    event, _ = parse_server_event(json.dumps({"type": name, "response_id": response_id} | fields))
    assert isinstance(event, server.OutputEvent)
    calls.take(event, event.response_id)


def end(
    calls: CalledFunctions,
    status: str | None = "completed",
    *,
    stale: bool = False,
    response_id: str = "resp_1",
    **fields: Any,
) -> list[CallEvent | Rejected]:
    response = ServerResponse.model_validate({"id": response_id, "status": status} | fields)
    return calls.end_response(response, stale=stale)


def call(calls: CalledFunctions, tool_call_id: str, response_id: str = "resp_1") -> None:
    item = {"id": f"item_{tool_call_id}", "call_id": tool_call_id, "arguments": GIVEN}
    tell(calls, DONE, response_id, item=ITEM | item)


def use(calls: CalledFunctions, tool_call_id: str, response_id: str = "resp_1") -> CallEvent | Rejected:
    """Call a tool by a response of its own; return what it asks."""
    call(calls, tool_call_id, response_id)
    [asked] = end(calls, response_id=response_id)
    return asked


@pytest.mark.parametrize(
    "told",
    [
        [(ADDED, {"item": ITEM | {"arguments": ""}, "output_index": 0}), (ARGUMENTS, IDS | {"arguments": GIVEN})],
        [(ARGUMENTS, IDS | {"arguments": GIVEN, "name": "find_table"})],
        [(DONE, {"item": ITEM | {"arguments": GIVEN}})],
        [(DONE, {"item": ITEM | {"arguments": GIVEN, "status": "completed"}, "output_index": 0})],
        [
            (ADDED, {"item": ITEM | {"arguments": "", "status": "in_progress"}, "output_index": 0}),
            (DELTA, IDS | {"delta": GIVEN[:5]}),
            (DELTA, IDS | {"delta": GIVEN[5:]}),
        ],
        [
            (ADDED, {"item": ITEM | {"arguments": ""}, "output_index": 0}),
            (DELTA, {"delta": GIVEN[:5]}),
            (DELTA, {"delta": GIVEN[5:]}),
            (ARGUMENTS, {}),
        ],
        [
            (ADDED, {"item": ITEM | {"arguments": GIVEN}, "output_index": 0}),
            (DELTA, {"item_id": "item_1", "delta": GIVEN}),
        ],
        [(ADDED, {"item": ITEM | {"arguments": GIVEN}, "output_index": 0})],
        [
            (ADDED, {"item": ITEM | {"arguments": ""}, "output_index": 3}),
            (ARGUMENTS, {"output_index": 3, "arguments": GIVEN}),
        ],
        [(ARGUMENTS, {"arguments": GIVEN}), (DONE, {"item": ITEM})],
    ],
)
@pytest.mark.parametrize("twice", [False, True])
def test_a_call_is_found_however_it_is_told(told: list[tuple[str, Json]], *, twice: bool) -> None:
    calls = new_calls()
    for name, fields in told:
        tell(calls, name, **fields)
    assert not calls.pending

    output = [ITEM | {"arguments": GIVEN, "status": "completed"}] if twice else []

    assert end(calls, output=output) == [ASKED]
    assert calls.pending
    assert end(calls, output=output) == [], "the end is told again"


def test_a_call_is_found_though_the_end_of_the_response_alone_tells_it() -> None:
    calls = new_calls()

    assert end(calls, output=[{"type": "message", "id": "item_0"}, ITEM | {"arguments": GIVEN}]) == [ASKED]


def test_events_about_other_items_are_no_calls() -> None:
    calls = new_calls()
    tell(calls, DONE, item={"id": "item_1", "type": "message", "role": "assistant"})
    tell(calls, ADDED, item=None)

    assert end(calls) == []
    assert len(calls) == 0


def test_calls_are_done_in_the_order_of_the_output() -> None:
    calls = new_calls()
    for index in (1, 0):
        ids: dict[str, Any] = {"item_id": f"item_{index}", "call_id": f"call_{index}", "output_index": index}
        tell(calls, ARGUMENTS, name="find_table", arguments="{}", **ids)
    last = {"id": "item_2", "type": "function_call", "name": "hang_up", "call_id": "call_2", "arguments": "{}"}
    others = [{"type": "function_call", "id": f"item_{n}", "call_id": f"call_{n}"} for n in (0, 1)]

    first, second, third = end(calls, output=[*others, last])

    assert (first, second) == tuple(ToolAsked(CALL, f"call_{n}", "find_table", "{}") for n in (0, 1))
    assert third == HangUpAsked(CALL, "call_2", "")


@pytest.mark.parametrize(
    ("response", "item", "detail"),
    [
        ("incomplete", "incomplete", CUT.format(cause="incomplete")),
        ("incomplete", "completed", CUT.format(cause="incomplete")),
        ("incomplete", None, CUT.format(cause="incomplete")),
        ("completed", "incomplete", CUT.format(cause="incomplete")),
        ("completed", "failed", CUT.format(cause="failed")),
        ("failed", "completed", CUT.format(cause="failed")),
        ("cancelled", "completed", CUT.format(cause="cancelled")),
        (None, "incomplete", CUT.format(cause="incomplete")),
        (None, "in_progress", CUT.format(cause="the service did not say that it was complete")),
        (None, None, CUT.format(cause="the service did not say that it was complete")),
        ("completed", "completed", None),
        ("completed", "in_progress", None),
        ("completed", None, None),
        (None, "completed", None),
    ],
)
def test_only_what_was_generated_to_its_end_is_done(response: str | None, item: str | None, detail: str | None) -> None:
    calls = new_calls()
    tell(calls, DONE, item=ITEM | {"arguments": GIVEN, "status": item})

    [asked] = end(calls, response)

    if detail is None:
        assert asked == ASKED
    else:
        assert asked == Rejected("call_1", "find_table", detail, respond=response != "failed")
        assert not calls._history.items(), "the next session is not told of half a call"


def test_an_item_that_was_cut_off_stays_so_whatever_the_response_says_of_it() -> None:
    calls = new_calls()
    tell(calls, DONE, item=ITEM | {"arguments": GIVEN, "status": "incomplete"})

    [asked] = end(calls, output=[ITEM | {"arguments": GIVEN, "status": "completed"}])

    assert isinstance(asked, Rejected)


def test_pieces_alone_are_not_done_while_their_item_is_in_progress() -> None:
    calls = new_calls()
    tell(calls, DELTA, **IDS, delta="{}")

    [asked] = end(calls, output=[ITEM | {"status": "in_progress", "arguments": ""}])

    assert isinstance(asked, Rejected)


@pytest.mark.parametrize(
    ("stale", "status", "details"),
    [
        (True, "completed", None),
        (True, "cancelled", {"type": "cancelled", "reason": "client_cancelled"}),
        (False, "cancelled", {"type": "cancelled", "reason": "turn_detected"}),
    ],
)
def test_a_caller_who_speaks_stops_the_call(status: str, details: Json | None, *, stale: bool) -> None:
    calls = new_calls()
    call(calls, "call_1")

    [asked] = end(calls, status, stale=stale, status_details=details)

    assert isinstance(asked, Rejected)
    assert json.loads(asked.output) == {"error": INTERRUPTED}


def test_the_reason_is_told() -> None:
    calls = new_calls()
    call(calls, "call_1")

    [asked] = end(calls, "incomplete", status_details={"type": "incomplete", "reason": "max_output_tokens"})

    assert isinstance(asked, Rejected)
    assert asked.detail == CUT.format(cause="max_output_tokens")


def test_a_call_without_an_id_cannot_be_answered_and_is_not_done() -> None:
    assert end(new_calls(), output=[ITEM | {"call_id": None}]) == [Rejected("", "find_table", WITHOUT_ID)]


def test_a_call_without_a_name_is_no_tool() -> None:
    [asked] = end(new_calls(), output=[ITEM | {"name": None}])

    assert isinstance(asked, Rejected)
    assert "there is no tool ''" in asked.detail


def test_an_id_that_comes_again_is_not_done_again() -> None:
    calls = new_calls()
    item = ITEM | {"arguments": GIVEN}
    assert end(calls, output=[item, item | {"id": "item_2"}]) == [ASKED], "a copy within a response"

    assert end(calls, response_id="resp_2", output=[item]) == [Rejected("", "find_table", REPEATED)]

    calls.answer("call_1", "yes", respond=True)
    assert calls.take_due()
    assert end(calls, response_id="resp_3", output=[item]) == [Rejected("call_1", "find_table", REPEATED)]
    assert calls.answer("call_1", "no", respond=True)
    assert calls.take_due()


def test_arguments_without_end_are_not_kept() -> None:
    calls = new_calls()
    tell(calls, ADDED, item=ITEM)
    for _ in range(100):
        tell(calls, DELTA, **IDS, delta="x" * 10_000)
    [draft] = calls._drafts._drafts
    assert len(draft.arguments) <= MAX_ARGUMENTS + 10_000

    [asked] = end(calls)

    assert isinstance(asked, Rejected)
    assert "too long" in asked.detail


def test_calls_of_responses_that_never_end_are_bounded() -> None:
    calls = new_calls()
    for number in range(1000):
        call(calls, f"call_{number}", f"resp_{number}")

    assert len(calls) == MAX_DRAFTS
    assert isinstance(end(calls, response_id="resp_x", output=[ITEM | {"arguments": GIVEN}])[0], ToolAsked)
    calls.end_session()
    assert len(calls) == 1


def test_a_session_that_is_lost_takes_its_unfinished_calls_with_it() -> None:
    calls = new_calls()
    call(calls, "call_1")

    calls.end_session()

    assert end(calls) == []
    assert not calls.pending


def test_the_agent_may_speak_once_after_all_answers() -> None:
    calls = new_calls()
    call(calls, "call_1")
    call(calls, "call_2")
    assert len(end(calls)) == 2
    assert calls.pending
    assert calls.answer("call_1", "yes", respond=True)
    assert not calls.take_due()

    assert calls.answer("call_2", "no", respond=False)

    assert not calls.pending
    assert calls.take_due()
    assert not calls.take_due()


def test_the_answers_of_another_response_are_not_waited_for() -> None:
    calls = new_calls()
    use(calls, "call_1", "resp_1")
    use(calls, "call_2", "resp_2")

    calls.answer("call_2", "yes", respond=True)

    assert calls.take_due()
    assert calls.pending


def test_answers_that_want_no_response_bring_none() -> None:
    calls = new_calls()
    use(calls, "call_1")
    calls.answer("call_1", "ok", respond=False)

    assert not calls.take_due()


def test_an_answer_nobody_waits_for_is_dropped() -> None:
    calls = new_calls()
    assert not calls.answer("call_1", "yes", respond=True)

    use(calls, "call_1")
    assert calls.answer("call_1", "yes", respond=True)
    assert not calls.answer("call_1", "yes", respond=True)


def test_a_tool_that_runs_when_its_session_is_lost_is_still_answered() -> None:
    calls = new_calls()
    use(calls, "call_1")
    calls.end_session()
    assert not calls.take_due()

    calls.answer("call_1", "yes", respond=True)

    assert calls.take_due()


def test_a_response_that_used_tools_may_be_silent() -> None:
    calls = new_calls()
    use(calls, "call_1")
    assert calls.called("resp_1")
    assert not calls.called("resp_2")

    end(calls, "failed", response_id="resp_3", output=[ITEM | {"call_id": "call_3"}])
    assert not calls.called("resp_3")
    end(calls, response_id="resp_4", output=[ITEM | {"call_id": None}])
    assert not calls.called("resp_4")


def test_memory_of_calls_is_bounded() -> None:
    calls = new_calls()
    with capture_logs():
        for number in range(1000):
            use(calls, f"call_{number}", f"resp_{number}")
            calls.answer(f"call_{number}", "ok", respond=True)
            assert calls.take_due()

    assert len(calls) == MAX_CALLS
