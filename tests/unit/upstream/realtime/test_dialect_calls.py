"""A session over the Realtime API, told by its messages: tools, the agent's turns, records."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from gateway.call.builtin_tools import HangUpAsked, WaitAsked
from gateway.call.events import AgentFailed, SpeechStarted, ToolAsked
from gateway.errors import AgentRefused
from gateway.upstream.core.debts import Ask
from gateway.upstream.core.dialect import Send
from gateway.upstream.core.history import PastMessage, Role
from gateway.upstream.realtime.function_calls import TOO_MANY_ROUNDS, WITHOUT_ID
from gateway.upstream.realtime.problems import stated_delay_s
from tests.fakes.orders import greet
from tests.unit.upstream.realtime.talks import CALL, Json, Talk, events, notes, sent, types

pytestmark = pytest.mark.unit

GOODBYE = Ask("Say goodbye.", tools=False)

USAGE = {"input_token_details": {"text_tokens": 10, "audio_tokens": 5}, "output_token_details": {"audio_tokens": 7}}


# Tools


def test_a_function_call_is_one_event_though_it_is_told_twice() -> None:
    talk = Talk()
    talk.begin()

    assert talk.call("find_table", '{"at":"noon"}') == []

    assert talk.finish() == [ToolAsked(CALL, "call_1", "find_table", '{"at":"noon"}')]


@pytest.mark.parametrize("missing", ["response.function_call_arguments.done", "response.output_item.done"])
def test_a_function_call_is_an_event_though_it_is_told_only_once(missing: str) -> None:
    talk = Talk()
    talk.begin()
    ids = {"response_id": "resp_1", "output_index": 0}
    if missing != "response.function_call_arguments.done":
        done = {"item_id": "item_f", "call_id": "call_1", "name": "wait", "arguments": "{}"}
        talk.hear("response.function_call_arguments.done", **done, **ids)
    if missing != "response.output_item.done":
        item = {"id": "item_f", "type": "function_call", "name": "wait", "call_id": "call_1", "arguments": "{}"}
        talk.hear("response.output_item.done", item=item, **ids)

    assert talk.finish() == [WaitAsked(CALL, "call_1")]


def test_the_agent_speaks_about_an_output_once_its_response_is_done() -> None:
    talk = Talk()
    talk.begin()
    talk.call("find_table")
    assert talk.dialect.answer_tool("call_1", "yes", respond=True) == ()
    assert sent(talk.finish()) == []

    output, create = sent(talk.dialect.answer_tool("call_1", "yes", respond=True))

    assert output["item"] == {"type": "function_call_output", "call_id": "call_1", "output": "yes"}
    assert create["type"] == "response.create"
    assert talk.finish() == [], "its end is told twice"


def test_several_calls_get_all_outputs_and_one_response() -> None:
    talk = Talk()
    talk.begin()
    talk.call("find_table", call_id="call_1")
    talk.call("find_table", call_id="call_2")
    assert types(talk.finish()) == []

    assert types(talk.dialect.answer_tool("call_2", "no", respond=True)) == ["conversation.item.create"]
    both = ["conversation.item.create", "response.create"]
    assert types(talk.dialect.answer_tool("call_1", "yes", respond=False)) == both
    assert talk.dialect.answer_tool("call_1", "yes", respond=True) == ()


def test_a_hang_up_and_a_wait_make_nobody_speak() -> None:
    talk = Talk()
    talk.begin()
    talk.call("hang_up", '{"reason":"done"}', call_id="call_1")
    talk.call("wait", call_id="call_2")

    assert talk.finish() == [HangUpAsked(CALL, "call_1", "done"), WaitAsked(CALL, "call_2")]

    assert types(talk.dialect.answer_tool("call_1", "ok", respond=False)) == ["conversation.item.create"]
    assert types(talk.dialect.answer_tool("call_2", "ok", respond=False)) == ["conversation.item.create"]
    assert not talk.dialect.responding


def test_a_bad_call_is_answered_without_bothering_the_call() -> None:
    talk = Talk()
    talk.begin()

    talk.call("fly", '{"to":"the moon"}')
    facts = talk.finish()

    assert events(facts) == []
    [note] = notes(facts, "tool_rejected")
    assert (note["tool"], note["tool_call_id"]) == ("fly", "call_1")
    output, create = sent(facts)
    assert "there is no tool 'fly'" in json.loads(output["item"]["output"])["error"]
    assert create["type"] == "response.create"


def test_an_answer_to_a_call_nobody_made_is_dropped() -> None:
    assert Talk().dialect.answer_tool("call_9", "yes", respond=True) == ()


def test_while_the_caller_speaks_an_output_waits_for_the_answer_to_that_turn() -> None:
    talk = Talk()
    talk.begin()
    talk.call("find_table")
    talk.finish()
    talk.hear("input_audio_buffer.speech_started", item_id="item_u")

    assert types(talk.dialect.answer_tool("call_1", "yes", respond=True)) == ["conversation.item.create"]
    assert types(talk.hear("input_audio_buffer.speech_stopped", item_id="item_u")) == [], "the service answers itself"


def test_a_call_of_an_answer_that_was_cut_off_is_not_carried_out() -> None:
    talk = Talk()
    talk.begin()
    talk.hear("input_audio_buffer.speech_started", item_id="item_u")

    talk.call("hang_up")
    facts = talk.finish("resp_1", "cancelled", status_details={"type": "cancelled", "reason": "turn_detected"})

    assert events(facts) == []
    [output] = sent(facts)
    assert "began to speak" in output["item"]["output"]


@pytest.mark.parametrize("status", ["incomplete", "failed", "cancelled"])
@pytest.mark.parametrize("name", ["hang_up", "find_table"])
def test_a_call_that_was_cut_off_is_not_carried_out_and_the_model_is_told(name: str, status: str) -> None:
    talk = Talk()
    talk.begin()
    talk.call(name)

    with capture_logs() as logs:
        facts = talk.finish("resp_1", status)

    assert events(facts) == []
    assert "cut off" in json.loads(sent(facts)[0]["item"]["output"])["error"]
    [note] = notes(facts, "tool_rejected")
    assert (note["tool"], note["tool_call_id"]) == (name, "call_1")
    assert "tool_rejected" in [entry["event"] for entry in logs]
    assert talk.dialect.answer_tool("call_1", "done", respond=True) == ()


def test_a_call_whose_session_is_lost_before_its_response_was_over_is_never_done_nor_told_of() -> None:
    talk = Talk()
    talk.begin()
    talk.call("find_table")

    talk.dialect.lose()
    talk.calls.end_session()

    assert talk.finish() == []
    assert talk.history.items() == ()


def test_a_call_without_an_id_is_noted_and_not_done() -> None:
    talk = Talk()
    talk.begin()

    facts = talk.finish(output=[{"id": "item_f", "type": "function_call", "name": "hang_up", "arguments": "{}"}])

    assert [note["detail"] for note in notes(facts, "tool_rejected")] == [WITHOUT_ID]
    assert (events(facts), types(facts)) == ([], ["response.create"]), "nobody answers it, so the agent is asked again"


def test_outputs_go_back_in_the_order_of_the_calls() -> None:
    talk = Talk()
    talk.begin()
    done = "response.function_call_arguments.done"
    for index in (2, 0, 1):
        ids = {"item_id": f"item_{index}", "call_id": f"call_{index}", "output_index": index}
        talk.hear(done, response_id="resp_1", name="find_table", arguments="{}", **ids)

    asked = [fact.tool_call_id for fact in talk.finish() if isinstance(fact, ToolAsked)]

    assert asked == ["call_0", "call_1", "call_2"]


# Rounds of tools without a word


def rounds(talk: Talk, count: int, name: str = "find_table") -> list[Json]:
    """Let the agent call a tool in as many responses in a row; return the responses asked for."""
    asked: list[Json] = []
    for _ in range(count):
        number = len(talk.calls)
        talk.begin(f"resp_{number}")
        talk.call(name, call_id=f"call_{number}", response_id=f"resp_{number}")
        facts = sent(talk.finish(f"resp_{number}"))
        facts += sent(talk.dialect.answer_tool(f"call_{number}", "yes", respond=True))
        asked += [message for message in facts if message["type"] == "response.create"]
    return asked


@pytest.mark.parametrize("name", ["find_table", "fly"])
def test_after_too_many_rounds_of_tools_the_agent_has_to_speak(name: str) -> None:
    talk = Talk()

    with capture_logs() as logs:
        asked = rounds(talk, 3, name)

    assert [create.get("response") for create in asked] == [None, None, {"tool_choice": "none"}]
    assert [entry["event"] for entry in logs].count("tool_rounds_exhausted") == 1
    talk.begin("resp_a")
    talk.speak(response_id="resp_a")
    talk.finish("resp_a")
    assert [create.get("response") for create in rounds(talk, 3)] == [None, None, {"tool_choice": "none"}]


@pytest.mark.parametrize("event", ["input_audio_buffer.speech_started", "input_audio_buffer.committed"])
def test_a_turn_of_the_caller_lets_the_agent_use_tools_again(event: str) -> None:
    talk = Talk()
    rounds(talk, 2)

    talk.hear(event, item_id="item_u")
    talk.hear("input_audio_buffer.speech_stopped", item_id="item_u")

    assert [create.get("response") for create in rounds(talk, 3)] == [None, None, {"tool_choice": "none"}]


def test_whatever_is_said_next_calls_no_tools_once_there_were_too_many() -> None:
    talk = Talk()
    rounds(talk, 3)
    talk.begin("resp_a")
    talk.finish("resp_a")

    [create] = sent(greet(talk.dialect, "Say hello."))

    assert create["response"] == {"instructions": "Say hello.", "tool_choice": "none"}


def test_a_tool_that_is_called_against_the_rule_is_not_done_and_an_answer_still_owed() -> None:
    talk = Talk()
    rounds(talk, 3)
    talk.begin("resp_a")
    talk.call("hang_up", call_id="call_a", response_id="resp_a")

    facts = talk.finish("resp_a", output=[])

    assert events(facts) == []
    assert [note["detail"] for note in notes(facts, "tool_rejected")] == [TOO_MANY_ROUNDS]
    assert [note["why"] for note in notes(facts, "answer_missing")] == ["empty"]
    output, create = sent(facts)
    assert output["item"]["type"] == "function_call_output"
    assert create["response"] == {"tool_choice": "none"}


def test_the_last_round_is_noted() -> None:
    talk = Talk()
    rounds(talk, 2)
    talk.begin("resp_a")
    talk.call("find_table", call_id="call_a", response_id="resp_a")

    assert len(notes(talk.finish("resp_a"), "tool_rounds_exhausted")) == 1


# Turns of the agent


def test_cancel_names_the_active_response_once() -> None:
    talk = Talk()
    assert talk.dialect.cancel() == ()
    talk.begin()

    [cancel] = sent(talk.dialect.cancel())

    assert (cancel["type"], cancel["response_id"]) == ("response.cancel", "resp_1")
    assert talk.dialect.cancel() == ()
    assert talk.speak() == []
    talk.finish("resp_1", "cancelled")
    assert talk.dialect.cancel() == ()


def test_what_the_server_cancels_is_not_cancelled_again() -> None:
    talk = Talk()
    talk.begin()
    talk.hear("input_audio_buffer.speech_started", item_id="item_u")

    assert talk.dialect.cancel() == ()


def test_with_a_guard_the_gateway_decides_what_interrupts() -> None:
    talk = Talk(guard_ms=300)
    talk.begin()
    talk.speak()

    assert talk.hear("input_audio_buffer.speech_started", item_id="item_u") == [SpeechStarted(CALL, interrupts=True)]

    assert talk.speak() != []
    assert types(talk.dialect.truncate({"item_a": 40})) == ["conversation.item.truncate"]
    assert types(talk.dialect.cancel()) == ["response.cancel"]
    assert talk.speak() == []


def test_items_behind_the_one_that_was_cut_off_were_not_heard_at_all() -> None:
    talk = Talk()
    talk.begin()
    talk.speak("item_a")
    talk.speak("item_b")

    cuts = [(cut["item_id"], cut["audio_end_ms"]) for cut in sent(talk.dialect.truncate({"item_a": 60, "item_b": 0}))]

    assert cuts == [("item_a", 60), ("item_b", 0)]
    assert talk.dialect.truncate({"item_b": 100}) == ()


def test_a_goodbye_cuts_the_answer_off_and_calls_no_tools() -> None:
    talk = Talk()
    talk.begin()
    greet(talk.dialect, "something else")

    assert types(talk.dialect.say_goodbye(GOODBYE)) == ["response.cancel"]
    [create] = sent(talk.finish("resp_1", "cancelled"))

    assert create["response"] == {"instructions": "Say goodbye.", "tool_choice": "none"}


def test_a_goodbye_is_said_at_once_when_nobody_speaks() -> None:
    assert types(Talk().dialect.say_goodbye(GOODBYE)) == ["response.create"]


def test_a_goodbye_cuts_off_an_answer_that_was_only_asked_for() -> None:
    talk = Talk()
    talk.dialect.tell("Well?", respond=True)
    assert talk.dialect.say_goodbye(GOODBYE) == ()

    assert types(talk.begin()) == ["response.cancel"]
    assert sent(talk.finish("resp_1", "cancelled"))[0]["response"]["instructions"] == "Say goodbye."


def test_an_output_does_not_take_the_place_of_a_goodbye() -> None:
    talk = Talk()
    talk.begin()
    talk.call("find_table")
    talk.finish()
    talk.begin("resp_2")
    talk.dialect.say_goodbye(GOODBYE)
    talk.dialect.answer_tool("call_1", "yes", respond=True)

    [create] = sent(talk.finish("resp_2", "cancelled"))

    assert create["response"]["instructions"] == "Say goodbye."


def test_responding_begins_with_the_wish_and_ends_with_the_response() -> None:
    talk = Talk()
    assert not talk.dialect.responding
    greet(talk.dialect, "Say hello.")
    assert talk.dialect.responding
    talk.begin()
    assert talk.dialect.responding
    assert not talk.dialect.is_quiet
    talk.finish()
    assert not talk.dialect.responding
    assert talk.dialect.is_quiet


# Failed responses


def test_a_response_that_hit_a_rate_limit_is_asked_for_again_after_the_stated_delay() -> None:
    talk = Talk()
    greet(talk.dialect, "Say hello.")
    talk.begin()

    facts = talk.fail("rate_limit_exceeded", "Rate limit reached. Please try again in 1.5s.")

    assert notes(facts, "response_failed")[0]["code"] == "rate_limit_exceeded"
    assert notes(facts, "answer_missing")[0]["then"] == "asked again in 1.5 s"
    assert talk.dialect.responding
    assert talk.dialect.go_on() == ()
    [create] = sent(talk.dialect.overdue(0))
    assert create["response"] == {"instructions": "Say hello."}


def test_a_response_is_not_tried_again_while_the_caller_speaks() -> None:
    talk = Talk()
    talk.begin()
    talk.fail("rate_limit_exceeded")
    talk.hear("input_audio_buffer.speech_started", item_id="item_u")

    assert sent(talk.dialect.overdue(0)) == []
    assert talk.dialect.go_on() == ()


def test_an_empty_quota_ends_the_agent() -> None:
    talk = Talk()
    talk.begin()

    with capture_logs():
        facts = talk.fail("insufficient_quota", "You exceeded your quota.")

    [failed] = events(facts)
    assert isinstance(failed, AgentFailed)
    assert isinstance(failed.error, AgentRefused)
    assert failed.error.code == "insufficient_quota"


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Please try again in 1.5s.", 1.5),
        ("please Try Again in 800ms", 0.8),
        ("try again in 3 s", 3),
        ("try again in 999s", 30),
        ("try again later", 0),
        (None, 0),
    ],
)
def test_the_stated_delay_is_read(message: str | None, seconds: float) -> None:
    assert stated_delay_s(message) == seconds


# Records


def test_tokens_and_limits_are_noted() -> None:
    talk = Talk()
    talk.begin()

    [usage] = notes(talk.finish(usage=USAGE), "usage")
    limits = [{"name": "tokens", "limit": 100, "remaining": 40, "reset_seconds": 2}]
    [left] = notes(talk.hear("rate_limits.updated", rate_limits=limits), "rate_limits")
    completed = "conversation.item.input_audio_transcription.completed"
    used = {"type": "duration", "seconds": 3}
    [heard] = notes(talk.hear(completed, item_id="item_u", transcript="Hi.", usage=used), "usage")

    assert (usage["text_in"], usage["audio_in"], usage["audio_out"]) == (10, 5, 7)
    assert left == {"tokens_limit": 100, "tokens_remaining": 40, "tokens_reset_s": 2}
    assert heard == {"transcription_seconds": 3.0}


@pytest.mark.parametrize("kind", ["respond", "cut", "cancel", "item"])
def test_an_error_is_noted_once_with_the_event_that_caused_it(kind: str) -> None:
    talk = Talk()
    talk.begin("resp_0")
    talk.call("find_table", response_id="resp_0")
    talk.finish("resp_0")
    talk.begin()
    talk.speak()
    orders: dict[str, Callable[[], tuple[str, ...]]] = {
        "cut": lambda: talk.dialect.truncate({"item_a": 10}),
        "cancel": talk.dialect.cancel,
        "item": lambda: talk.dialect.answer_tool("call_1", "x", respond=False),
        "respond": lambda: greet(talk.dialect, "Hi.") or tuple(f.text for f in talk.finish() if isinstance(f, Send)),
    }
    [order] = sent(orders[kind]())
    error = {"type": "invalid_request_error", "code": None, "message": "No.", "event_id": order["event_id"]}

    with capture_logs() as logs:
        facts = [fact for _ in range(20) for fact in talk.hear("error", error=error)]

    [note] = notes(facts, "upstream_error")
    assert note["client_event"] == order["type"]
    assert note["event_id"] == order["event_id"]
    assert [entry["event"] for entry in logs].count("upstream_error") == 1


def test_a_transcription_that_fails_is_noted_once() -> None:
    talk = Talk()
    failed = "conversation.item.input_audio_transcription.failed"
    error = {"code": "DeploymentNotFound", "message": "No such deployment."}

    facts = [fact for n in range(5) for fact in talk.hear(failed, item_id=f"item_{n}", error=error)]

    assert [note["code"] for note in notes(facts, "transcription_failed")] == ["DeploymentNotFound"]


# What another session would have to know


def test_the_conversation_is_kept_in_order_and_a_cut_answer_is_cut() -> None:
    talk = Talk()
    talk.hear("input_audio_buffer.committed", item_id="item_u", previous_item_id=None)
    talk.begin()
    item = {"id": "item_a", "type": "message", "role": "assistant", "content": []}
    talk.hear("conversation.item.added", item=item, previous_item_id="item_u")
    said = {"response_id": "resp_1", "item_id": "item_a"}
    talk.hear("response.output_audio_transcript.delta", delta="One two three four", **said)
    talk.speak("item_a", 100)
    completed = "conversation.item.input_audio_transcription.completed"
    talk.hear(completed, item_id="item_u", transcript="Count.")
    talk.dialect.truncate({"item_a": 50})

    seeded = [message["item"] for message in sent(talk.dialect.seed(talk.history.items()))]

    assert [(item["role"], item["content"][0]["text"]) for item in seeded] == [
        ("user", "Count."),
        ("assistant", "One two"),
    ]
    assert len({message["event_id"] for message in sent(talk.dialect.seed(talk.history.items()))}) == 2


def test_nothing_is_owed_between_turns() -> None:
    talk = Talk()
    talk.hear("input_audio_buffer.committed", item_id="item_u", previous_item_id=None)
    talk.begin()
    talk.hear("response.output_audio_transcript.done", response_id="resp_1", item_id="item_a", transcript="Hello.")
    talk.finish()

    talk.dialect.lose()
    assert not talk.owed.is_open


def test_a_turn_without_its_answer_is_owed() -> None:
    for until in ("started", "committed", "created"):
        talk = Talk()
        talk.hear("input_audio_buffer.speech_started", item_id="item_u")
        if until != "started":
            talk.hear("input_audio_buffer.committed", item_id="item_u", previous_item_id=None)
        if until == "created":
            talk.begin()
        talk.dialect.lose()
        assert types(Talk(talk.owed).dialect.go_on()) == ["response.create"]


def test_a_greeting_of_which_nothing_was_heard_is_owed_as_it_was() -> None:
    talk = Talk()
    greet(talk.dialect, "Say hello.")

    talk.dialect.lose()

    assert sent(Talk(talk.owed).dialect.go_on())[0]["response"] == {"instructions": "Say hello."}


def test_items_of_another_session_are_told_with_ids_of_their_own() -> None:
    talk = Talk()
    items = [PastMessage(Role.CALLER, "Hi.")] * 2

    first, second = sent(talk.dialect.seed(items))

    assert (
        first["item"]
        == second["item"]
        == {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "Hi."}],
        }
    )
    assert first["event_id"] != second["event_id"]
