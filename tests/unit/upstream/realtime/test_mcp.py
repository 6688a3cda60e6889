"""Calls that the service makes to MCP servers: who speaks afterwards, who may, and what the caller hears meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.call.events import McpCallBegan, McpCallEnded
from gateway.upstream.core.dialect import DialectTimer, UpstreamEvent
from gateway.upstream.realtime.function_calls import CalledFunctions
from gateway.upstream.realtime.mcp import FOLLOW_S, GRANTED_S, HELD_S, MAX_CALLS, MAX_PAST, McpCalls, McpRule
from tests.unit.upstream.realtime.talks import CALL, OFFERED, Json, Talk, events, notes, sent, types

pytestmark = pytest.mark.unit

RULES = {"manuals": McpRule(limit_s=20, allowed=frozenset({"search", "order"}), denied=frozenset({"order"}))}
ITEM: Json = {"id": "mcp_1", "type": "mcp_call", "server_label": "manuals", "name": "search", "arguments": "{}"}
DONE: Json = ITEM | {"output": "found: 42"}
REQUEST: Json = {"id": "ask_1", "type": "mcp_approval_request", "server_label": "manuals", "name": "search"}
IDS: Json = {"item_id": "mcp_1", "output_index": 0}
ITEM_ADDED, ITEM_DONE = "response.output_item.added", "response.output_item.done"
RUNS, COMPLETED, FAILED = (f"response.mcp_call.{state}" for state in ("in_progress", "completed", "failed"))
BEGAN = McpCallBegan(CALL, "mcp_1", "manuals", "search")
ENDED = McpCallEnded(CALL, "mcp_1", "manuals", "search", failed=False)


class Mcp(Talk):
    """A session whose model may use an MCP server."""

    def __init__(self) -> None:
        super().__init__(calls=lambda history: CalledFunctions(CALL, OFFERED, history, mcp=McpCalls(CALL, RULES)))

    def tell(self, *told: tuple[str, Json]) -> list[UpstreamEvent]:
        return [fact for name, fields in told for fact in self.hear(name, **fields)]

    def ring(self, facts: list[UpstreamEvent], after_s: float = FOLLOW_S) -> list[UpstreamEvent]:
        """Let the timers of this length go off that ``facts`` asked for."""
        keys = [fact.key for fact in facts if isinstance(fact, DialectTimer) and fact.after_s == after_s]
        return [fact for key in keys for fact in self.dialect.timer_fired(key)]


def in_response(**fields: Any) -> Json:
    return {"response_id": "resp_1", "output_index": 0} | fields


WHOLE = (
    (ITEM_ADDED, in_response(item=ITEM)),
    (RUNS, IDS),
    (COMPLETED, IDS),
    (ITEM_DONE, in_response(item=DONE)),
)


@pytest.mark.parametrize(
    "told",
    [
        WHOLE,
        ((ITEM_ADDED, in_response(item=ITEM)), (COMPLETED, IDS)),
        ((ITEM_ADDED, in_response(item=ITEM)), (ITEM_DONE, in_response(item=DONE))),
        ((ITEM_ADDED, in_response(item=ITEM)), (ITEM_DONE, in_response(item=DONE)), (COMPLETED, IDS)),
        ((ITEM_ADDED, in_response(item=ITEM)), (RUNS, {}), (COMPLETED, {}), (COMPLETED, IDS)),
        ((ITEM_ADDED, in_response(item=ITEM)), ("conversation.item.done", {"item": DONE})),
        ((ITEM_DONE, in_response(item=DONE)), (COMPLETED, {})),
        ((COMPLETED, IDS), (COMPLETED, IDS), (COMPLETED, {"output_index": 0})),
        ((RUNS, {}), (COMPLETED, {}), (COMPLETED, {})),
        ((RUNS, {}), (ITEM_ADDED, in_response(item=ITEM)), (COMPLETED, IDS), (ITEM_DONE, in_response(item=DONE))),
    ],
)
@pytest.mark.parametrize("response_first", [True, False])
def test_one_response_is_asked_for_after_a_call_however_it_is_told(
    told: tuple[tuple[str, Json], ...], *, response_first: bool
) -> None:
    talk = Mcp()
    talk.begin()
    head, tail = (told[:1], told[1:]) if response_first and len(told) > 1 else (told, ())
    facts = talk.tell(*head)
    facts += talk.finish(output=[ITEM])
    facts += talk.tell(*tail)
    assert types(facts) == []
    assert len([event for event in events(facts) if isinstance(event, McpCallEnded)]) == 1
    assert not talk.dialect.is_quiet

    assert types(talk.ring(facts)) == ["response.create"]

    assert types(talk.ring(facts)) == []
    assert types(talk.tell((COMPLETED, IDS), (ITEM_DONE, in_response(item=DONE)))) == []
    talk.begin("resp_2")
    talk.finish("resp_2")
    assert talk.dialect.is_quiet


def test_the_end_of_the_response_may_be_all_that_tells_of_a_call() -> None:
    talk = Mcp()
    talk.begin()

    assert types(talk.ring(talk.finish(output=[DONE]))) == ["response.create"]


@pytest.mark.parametrize(
    "end",
    [
        (FAILED, IDS),
        (ITEM_DONE, in_response(item=ITEM | {"error": {"type": "http_error", "code": 500, "message": "x"}})),
        (ITEM_DONE, in_response(item=ITEM | {"error": "no such tool"})),
        (ITEM_DONE, in_response(item=ITEM | {"status": "failed"})),
    ],
)
def test_the_agent_speaks_about_a_call_that_failed_too(end: tuple[str, Json]) -> None:
    talk = Mcp()
    talk.begin()
    facts = talk.tell((ITEM_ADDED, in_response(item=ITEM))) + talk.finish() + talk.tell(end)

    assert events(facts) == [BEGAN, McpCallEnded(CALL, "mcp_1", "manuals", "search", failed=True)]
    assert types(talk.ring(facts)) == ["response.create"]


def test_several_calls_are_followed_by_one_response() -> None:
    talk = Mcp()
    talk.begin()
    facts = talk.tell(*((ITEM_ADDED, in_response(item=ITEM | {"id": f"mcp_{n}"}, output_index=n)) for n in range(3)))
    facts += talk.finish()
    for number in range(3):
        assert types(talk.ring(facts)) == []
        facts += talk.tell((COMPLETED, {"item_id": f"mcp_{number}", "output_index": number}))

    assert types(talk.ring(facts)) == ["response.create"]


@pytest.mark.parametrize("first", ["function", "mcp"])
def test_a_function_and_a_call_of_one_response_are_followed_by_one_response(first: str) -> None:
    talk = Mcp()
    talk.begin()
    talk.tell(WHOLE[0])
    talk.call("find_table", call_id="call_1")
    talk.finish()
    if first == "function":
        assert types(talk.dialect.answer_tool("call_1", "yes", respond=True)) == ["conversation.item.create"]
        assert types(talk.ring(talk.tell(*WHOLE[1:]))) == ["response.create"]
    else:
        assert types(talk.ring(talk.tell(*WHOLE[1:]))) == []
        both = ["conversation.item.create", "response.create"]
        assert types(talk.dialect.answer_tool("call_1", "yes", respond=True)) == both

    talk.begin("resp_2")
    assert types(talk.finish("resp_2")) == []
    assert talk.dialect.is_quiet


def test_a_service_that_goes_on_by_itself_is_not_asked() -> None:
    talk = Mcp()
    talk.begin()
    facts = talk.tell(*WHOLE) + talk.finish()

    facts += talk.begin("resp_2")

    assert types(talk.ring(facts)) == []
    facts = talk.speak(response_id="resp_2") + talk.finish("resp_2")
    assert types(talk.ring(facts)) == []
    assert talk.dialect.is_quiet


def test_a_response_that_speaks_after_its_call_needs_no_other() -> None:
    talk = Mcp()
    talk.begin()
    facts = talk.tell(*WHOLE)

    facts += talk.speak("item_a") + talk.finish()

    assert types(talk.ring(facts)) == []
    assert talk.dialect.is_quiet


def test_words_before_a_call_and_while_it_runs_are_no_answer() -> None:
    talk = Mcp()
    talk.begin()
    talk.speak("item_a")
    facts = talk.tell(WHOLE[0])
    talk.speak("item_b")
    facts += talk.tell(*WHOLE[1:])
    talk.speak("item_a")
    talk.speak("item_b")
    facts += talk.finish()

    assert types(talk.ring(facts)) == ["response.create"]


def test_a_response_that_was_at_work_already_does_not_count() -> None:
    talk = Mcp()
    talk.begin()
    facts = talk.tell(WHOLE[0]) + talk.finish()
    talk.begin("resp_2")
    talk.speak(response_id="resp_2")
    facts += talk.tell(*WHOLE[1:])
    assert types(talk.ring(facts)) == []

    facts = talk.finish("resp_2")

    assert types(talk.ring(facts)) == ["response.create"]


def test_while_the_caller_speaks_nothing_is_asked_for() -> None:
    talk = Mcp()
    talk.begin()
    facts = talk.tell(*WHOLE) + talk.finish()
    talk.hear("input_audio_buffer.speech_started", item_id="item_u")

    assert types(talk.ring(facts)) == []


def test_a_call_that_never_ends_is_given_up() -> None:
    talk = Mcp()
    talk.begin()
    facts = talk.tell(WHOLE[0]) + talk.finish()

    with capture_logs() as logs:
        after = talk.ring(facts, after_s=20)

    assert McpCallEnded(CALL, "mcp_1", "manuals", "search", failed=True) in after
    assert types(after) == ["response.create"]
    assert "mcp_call_given_up" in [entry["event"] for entry in logs]
    assert talk.tell(*WHOLE[2:]) == [], "too late"


def test_a_call_of_a_response_that_failed_is_waited_for_no_longer() -> None:
    talk = Mcp()
    talk.begin()
    facts = talk.tell((ITEM_ADDED, in_response(item=ITEM)))

    facts += talk.finish(status="failed", output=[ITEM])

    assert McpCallEnded(CALL, "mcp_1", "manuals", "search", failed=True) in facts
    talk.begin("resp_2")
    talk.finish("resp_2")
    assert types(talk.ring(facts, RULES["manuals"].limit_s)) == []
    assert types(talk.tell((COMPLETED, IDS))) == []
    assert talk.dialect.is_quiet


def test_a_response_that_waits_for_its_call_is_not_given_up_before_the_call() -> None:
    talk = Mcp()
    talk.begin()
    facts = talk.tell(WHOLE[0])
    for _ in range(3):
        assert "response.cancel" not in types(talk.dialect.overdue(0))

    talk.ring(facts, after_s=20)

    later = [fact for _ in range(2) for fact in talk.dialect.overdue(0)]
    assert "response.cancel" in types(later)


def test_calls_are_told_for_the_filler_and_the_record() -> None:
    talk = Mcp()
    talk.begin()

    assert events(talk.tell(*WHOLE)) == [BEGAN, ENDED]
    assert talk.calls.pending
    assert talk.calls.called("resp_1")
    assert not talk.calls.called("resp_2")


def test_a_session_that_is_lost_ends_its_calls_and_the_next_owes_the_answer() -> None:
    talk = Mcp()
    talk.begin()
    talk.tell(WHOLE[0])
    talk.hear("response.output_audio_transcript.done", response_id="resp_1", item_id="item_a", transcript="One moment.")
    talk.finish()
    ended = talk.dialect.lose()
    assert talk.owed.is_open

    assert ended == [McpCallEnded(CALL, "mcp_1", "manuals", "search", failed=True)]

    assert not talk.calls.pending
    assert talk.calls.end_session() == []


def test_rounds_of_mcp_calls_are_bounded_like_those_of_tools() -> None:
    talk = Mcp()
    asked: list[Json] = []
    for number in range(6):
        talk.begin(f"resp_{number}")
        facts = talk.finish(f"resp_{number}", output=[DONE | {"id": f"mcp_{number}"}])
        asked += sent(talk.ring(facts))

    assert [create.get("response") for create in asked] == [None] * 5 + [{"tool_choice": "none"}]


def test_memory_of_calls_is_bounded() -> None:
    mcp = Mcp()
    mcp.begin()
    for number in range(1000):
        mcp.tell((ITEM_ADDED, in_response(item=ITEM | {"id": f"mcp_{number}"}, output_index=number)))
        mcp.tell(("conversation.item.done", {"item": REQUEST | {"id": f"ask_{number}"}}))
    assert len(mcp.calls.mcp) <= 3 * MAX_CALLS
    mcp.finish()
    mcp.calls.end_session()
    for number in range(1000):
        mcp.tell((ITEM_DONE, in_response(item=DONE | {"id": f"late_{number}"}, output_index=number)))
        mcp.begin(f"resp_{number}")

    assert len(mcp.calls.mcp) <= MAX_CALLS + MAX_PAST


# Approvals


@pytest.mark.parametrize("name", [ITEM_DONE, "conversation.item.done"])
@pytest.mark.parametrize(
    ("tool", "label", "objection"),
    [
        ("search", "manuals", None),
        ("order", "manuals", "this tool is not approved"),
        ("delete", "manuals", "this tool is not allowed"),
        ("search", "others", "there is no such server"),
    ],
)
def test_a_request_is_answered_as_the_profile_says(name: str, tool: str, label: str, objection: str | None) -> None:
    talk = Mcp()
    talk.begin()
    request = REQUEST | {"name": tool, "server_label": label}
    assert sent(talk.tell((name, in_response(item=request)))) == []

    facts = talk.finish(output=[request])

    [answer] = sent(facts)
    assert answer["item"] == {
        "type": "mcp_approval_response",
        "id": answer["item"]["id"],
        "approval_request_id": "ask_1",
        "approve": objection is None,
        **({} if objection is None else {"reason": objection}),
    }
    [note] = notes(facts, "mcp_approval")
    assert (note["server_label"], note["tool"], note["approved"]) == (label, tool, objection is None)
    assert sent(talk.tell((name, in_response(item=request)))) == [], "it is told again"


def test_a_request_is_answered_though_its_response_does_not_end() -> None:
    talk = Mcp()
    talk.begin()
    facts = talk.tell((ITEM_DONE, in_response(item=REQUEST)))

    [answer] = sent(talk.ring(facts, HELD_S))

    assert answer["item"]["approve"] is True


@pytest.mark.parametrize("status", ["incomplete", "failed", "cancelled"])
def test_a_request_that_was_cut_off_is_denied(status: str) -> None:
    talk = Mcp()
    talk.begin()
    talk.tell((ITEM_DONE, in_response(item=REQUEST)))

    items = [message["item"] for message in sent(talk.finish("resp_1", status)) if "item" in message]
    answers = [item["approve"] for item in items if item["type"] == "mcp_approval_response"]

    assert answers == [False]


def test_the_answer_follows_the_call_that_was_approved() -> None:
    talk = Mcp()
    talk.begin()
    talk.tell((ITEM_DONE, in_response(item=REQUEST)))
    facts = talk.finish()
    assert not talk.dialect.is_quiet

    facts += talk.tell((ITEM_ADDED, {"item": ITEM | {"approval_request_id": "ask_1"}}), (RUNS, IDS))
    assert types(talk.ring(facts, GRANTED_S)) == []
    facts = talk.tell((COMPLETED, IDS))

    assert types(talk.ring(facts)) == ["response.create"]


def test_a_call_that_was_announced_before_its_approval_is_the_one_that_is_waited_for() -> None:
    talk = Mcp()
    talk.begin()
    facts = talk.tell((ITEM_ADDED, in_response(item=ITEM)), (ITEM_DONE, in_response(item=REQUEST)))
    facts += talk.finish()
    assert types(talk.ring(facts, GRANTED_S)) == []

    facts = talk.tell((COMPLETED, IDS))

    assert types(talk.ring(facts)) == ["response.create"]


def test_the_agent_is_asked_when_nothing_comes_of_an_approval() -> None:
    talk = Mcp()
    talk.begin()
    talk.tell((ITEM_DONE, in_response(item=REQUEST)))

    assert types(talk.ring(talk.finish(), GRANTED_S)) == ["response.create"]


def test_the_agent_is_asked_to_speak_about_what_was_denied() -> None:
    talk = Mcp()
    talk.begin()
    request = REQUEST | {"name": "order"}
    facts = talk.tell((ITEM_ADDED, in_response(item=ITEM | {"name": "order"})))
    facts += talk.tell((ITEM_DONE, in_response(item=request)), (ITEM_DONE, in_response(item=request | {"id": "ask_2"})))
    facts += talk.finish()

    assert [event for event in events(facts) if isinstance(event, McpCallEnded)] == [
        McpCallEnded(CALL, "mcp_1", "manuals", "order", failed=True)
    ]
    assert types(talk.ring(facts)) == ["response.create"]


def test_a_request_that_is_only_announced_or_has_no_id_is_not_answered() -> None:
    talk = Mcp()
    talk.begin()
    told = ((ITEM_ADDED, in_response(item=REQUEST)), (ITEM_DONE, in_response(item=REQUEST | {"id": None})))

    assert sent(talk.tell(*told, ("conversation.item.added", {"item": REQUEST}))) == []
    assert sent(talk.finish()) == []
