"""What the model may call, and what a call of it means."""

from __future__ import annotations

import json

import pytest

from gateway.call.builtin_tools import (
    MAX_ARGUMENTS,
    MAX_SUMMARY,
    DigitsAsked,
    HangUpAsked,
    LeaveMessageAsked,
    OfferedTools,
    RecordingAsked,
    TransferAsked,
    WaitAsked,
    builtin_definitions,
    tool_event,
)
from gateway.call.events import CallEvent, ToolAsked
from gateway.dialplan.model.agent import TransferTarget
from gateway.ids import CallId

pytestmark = pytest.mark.unit

CALL = CallId("call-1")
ALL = OfferedTools(
    builtin=(
        *("hang_up", "transfer_call", "send_dtmf", "wait"),
        *("leave_message", "start_recording", "pause_recording"),
    ),
    transfer_targets={
        "sales": TransferTarget(uri="sip:sales@192.0.2.1"),
        "support": TransferTarget(uri="tel:+15550100"),
        "boss": TransferTarget(uri="tel:+15550199", warm=True),
    },
    own=frozenset({"find_table"}),
)


def ask(name: str, arguments: str, offered: OfferedTools = ALL) -> CallEvent | str:
    return tool_event(CALL, "call_1", name, arguments, offered)


@pytest.mark.parametrize(
    ("name", "arguments", "event"),
    [
        ("hang_up", '{"reason": "done"}', HangUpAsked(CALL, "call_1", "done")),
        ("hang_up", "", HangUpAsked(CALL, "call_1", "")),
        ("hang_up", ' {\n"reason" : 7 } ', HangUpAsked(CALL, "call_1", "")),
        ("transfer_call", '{"target":"sales"}', TransferAsked(CALL, "call_1", "sip:sales@192.0.2.1")),
        (
            "transfer_call",
            '{"target":"sales","summary":"A question."}',
            TransferAsked(CALL, "call_1", "sip:sales@192.0.2.1"),
        ),
        (
            "transfer_call",
            '{"target":"boss","summary":" They want to complain. "}',
            TransferAsked(CALL, "call_1", "tel:+15550199", warm=True, summary="They want to complain."),
        ),
        ("leave_message", "{}", LeaveMessageAsked(CALL, "call_1")),
        ("start_recording", "{}", RecordingAsked(CALL, "call_1", on=True)),
        ("pause_recording", "", RecordingAsked(CALL, "call_1", on=False)),
        ("send_dtmf", '{"digits":"12#wA,*"}', DigitsAsked(CALL, "call_1", "12#wA,*")),
        ("wait", "{}", WaitAsked(CALL, "call_1")),
        ("find_table", '{"at": "noon"}', ToolAsked(CALL, "call_1", "find_table", '{"at": "noon"}')),
    ],
)
def test_a_call_of_a_tool_is_one_event(name: str, arguments: str, event: CallEvent) -> None:
    assert ask(name, arguments) == event


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("fly", "{}", "there is no tool 'fly'; there is: hang_up"),
        ("hang_up", "{", "not valid JSON"),
        ("hang_up", "NaN", "not valid JSON"),
        ("hang_up", "[" * 100_000, "too long"),
        ("hang_up", "[" * 60_000, "not valid JSON"),
        ("hang_up", "[]", "not a JSON object"),
        ("find_table", '"noon"', "not a JSON object"),
        ("find_table", " " * (MAX_ARGUMENTS + 1), "too long"),
        ("transfer_call", "{}", "name one of sales, support, boss"),
        ("transfer_call", '{"target":"sip:evil@192.0.2.9"}', "name one of sales, support, boss"),
        ("transfer_call", '{"target":["sales"]}', "name one of sales, support, boss"),
        ("transfer_call", '{"target":"boss"}', "what boss shall be told"),
        ("transfer_call", '{"target":"boss","summary":"  "}', "what boss shall be told"),
        ("transfer_call", '{"target":"boss","summary":["x"]}', "what boss shall be told"),
        ("send_dtmf", '{"digits":""}', "1 to 64"),
        ("send_dtmf", '{"digits":"12345678901234567890123456789012345678901234567890123456789012345"}', "1 to 64"),
        ("send_dtmf", '{"digits":"1\\n"}', "1 to 64"),
        ("send_dtmf", '{"digits":"E"}', "1 to 64"),
        ("send_dtmf", '{"digits":12}', "1 to 64"),
    ],
)
def test_a_call_that_cannot_be_done_is_told_to_the_model(name: str, arguments: str, words: str) -> None:
    told = ask(name, arguments)

    assert isinstance(told, str)
    assert words in told


def test_what_is_not_offered_cannot_be_called() -> None:
    for name in ALL.builtin:
        told = ask(name, '{"target":"sales","digits":"1"}', OfferedTools())
        assert isinstance(told, str)
        assert told.endswith("there is: none")


def test_a_long_reason_is_cut() -> None:
    event = ask("hang_up", json.dumps({"reason": "x" * 5000}))

    assert isinstance(event, HangUpAsked)
    assert len(event.reason) == 200


def test_a_long_summary_is_cut() -> None:
    event = ask("transfer_call", json.dumps({"target": "boss", "summary": "x" * 5000}))

    assert isinstance(event, TransferAsked)
    assert len(event.summary) == MAX_SUMMARY


def test_tools_are_offered_with_a_schema() -> None:
    tools = {tool.name: tool for tool in builtin_definitions(ALL)}

    assert tuple(tools) == ALL.builtin
    for tool in tools.values():
        assert tool.description
        assert tool.parameters["type"] == "object"
    transfer = tools["transfer_call"].parameters
    assert transfer["properties"]["target"]["enum"] == ["sales", "support", "boss"]
    assert transfer["required"] == ["target", "summary"]
    assert "You speak with boss yourself" in str(tools["transfer_call"].description)


def test_a_summary_is_asked_for_only_where_somebody_is_to_hear_it() -> None:
    targets = {"sales": TransferTarget(uri="sip:sales@192.0.2.1")}
    [transfer] = builtin_definitions(OfferedTools(builtin=("transfer_call",), transfer_targets=targets))

    assert list(transfer.parameters["properties"]) == ["target"]
    assert transfer.parameters["required"] == ["target"]
