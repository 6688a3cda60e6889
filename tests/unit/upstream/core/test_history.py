"""What was said in a call, in order, as far as a new session must know it."""

from __future__ import annotations

import pytest

from gateway.upstream.core.history import MAX_CHARACTERS, MAX_ENTRIES, History, PastMessage, Role

pytestmark = pytest.mark.unit

ROLES = {Role.CALLER: "user", Role.AGENT: "assistant", Role.GATEWAY: "system"}


def told(history: History) -> list[tuple[str, str]]:
    """What a new session is told, each as who and what."""
    lines = []
    for item in history.items():
        if isinstance(item, PastMessage):
            lines.append((ROLES[item.role], item.text))
        else:
            lines.append(("function_call", item.arguments))
            lines += [("function_call_output", item.output)] if item.output is not None else []
    return lines


def test_both_sides_are_told_in_their_order() -> None:
    history = History()
    history.agent_turn("a1")
    history.agent_said("a1", "Hello.")
    history.caller_turn("u1", "a1")
    history.agent_turn("a2", "u1")
    history.agent_said("a2", "It is noon.")
    history.caller_said("u1", "What time is it?")  # its transcript comes after the answer

    assert told(history) == [("assistant", "Hello."), ("user", "What time is it?"), ("assistant", "It is noon.")]
    assert not history.is_unanswered


def test_a_turn_is_placed_behind_the_item_the_service_names() -> None:
    history = History()
    history.agent_said("a1", "Hello.")
    history.agent_said("a2", "Anything else?")
    history.caller_turn("u1", "a1")
    history.caller_said("u1", "Hi.")

    assert told(history) == [("assistant", "Hello."), ("user", "Hi."), ("assistant", "Anything else?")]


def test_a_transcript_without_a_turn_is_kept_at_the_end() -> None:
    history = History()
    history.agent_said("a1", "Hello.")
    history.caller_turn("u2", "never heard of")
    history.caller_said("u2", "Hi.")
    history.caller_said("u3", "Are you there?")

    assert [who for who, _ in told(history)] == ["assistant", "user", "user"]


def test_turns_without_words_are_left_out() -> None:
    history = History()
    history.caller_turn("u1", None)
    history.caller_said("u1", "  ")
    history.agent_turn("a1")

    assert told(history) == []


def test_words_that_came_before_the_end_count() -> None:
    history = History()
    history.agent_says("a1", "The weather ")
    history.agent_says("a1", "is fine")

    assert told(history) == [("assistant", "The weather is fine")]
    assert not history.is_unanswered


def test_the_parts_of_an_item_and_its_sentences_are_one_text() -> None:
    history = History()
    history.agent_says("a1", "Third", 1)
    history.agent_says("a1", "Fir")
    history.agent_says("a1", "st.")
    history.agent_said("a1", "First. ", 0)
    history.agent_says("a1", " Seco")
    assert told(history) == [("assistant", "First. Seco Third")]

    history.agent_said("a1", "Second.", 0)
    history.agent_said("a1", "Third.", 1)
    history.agent_said("a1", "Third.", 1)
    assert told(history) == [("assistant", "First. Second. Third.")]
    assert history.cut("a1", 0.7) == "First. Second."


def test_ids_are_those_of_a_session_and_what_was_said_is_one_conversation() -> None:
    history = History()
    first = history.new_session()
    first.caller_said("item_1", "Hello?")
    first.agent_said("item_2", "Good day.")
    history.tool_called("item_3", "call_1", "find_table", "{}")
    history.tool_answered("call_1", "yes")

    second = history.new_session()
    second.agent_said("item_1", "I am back.")
    second.caller_turn("item_3", "item_1")
    second.caller_said("item_3", "Good.")
    history.tool_called("item_3", "call_2", "find_table", "{}")
    second.agent_says("item_2", "One moment")
    assert second.cut("item_2", 0.5) == "One"

    words = [("user", "Hello?"), ("assistant", "Good day."), ("function_call", "{}"), ("function_call_output", "yes")]
    words += [("assistant", "I am back."), ("user", "Good."), ("function_call", "{}"), ("assistant", "One")]
    assert told(history) == told(second) == words


def test_what_was_not_heard_is_cut_off_at_a_word() -> None:
    history = History()
    history.agent_said("a1", "One two three four five six")

    assert history.cut("a1", 0.5) == "One two three"
    history.agent_said("a1", "One two three four five six")
    history.agent_says("a1", " seven")
    assert told(history) == [("assistant", "One two three")]


@pytest.mark.parametrize(("share", "left"), [(0.0, ""), (0.01, ""), (1.0, "One two"), (7.0, "One two"), (-1.0, "")])
def test_a_cut_stays_within_what_was_said(share: float, left: str) -> None:
    history = History()
    history.agent_said("a1", "One two")

    assert history.cut("a1", share) == left
    assert history.cut("unknown", 0.5) == ""


def test_tools_are_told_with_their_outputs() -> None:
    history = History()
    history.caller_said("u1", "Is there a table?")
    history.tool_called("f1", "call_1", "find_table", '{"at":"noon"}')
    assert told(history)[-1] == ("function_call", '{"at":"noon"}')
    assert not history.is_unanswered

    history.tool_answered("call_1", "yes")

    assert told(history)[1:] == [("function_call", '{"at":"noon"}'), ("function_call_output", "yes")]
    assert history.is_unanswered


def test_messages_of_the_gateway_keep_their_place_and_are_no_turn() -> None:
    history = History()
    history.agent_said("a1", "Your number, please.")
    history.told("The caller pressed: 1 2")
    assert not history.is_unanswered, "nobody spoke"

    history.caller_turn("u1", "item the service gave the message")
    history.caller_said("u1", "Done.")
    history.told("The caller pressed: 3")

    assert [who for who, _ in told(history)] == ["assistant", "system", "user", "system"]
    assert told(history)[1] == ("system", "The caller pressed: 1 2")
    assert history.is_unanswered, "the caller spoke last"
    history.agent_said("a2", "Thank you.")
    assert not history.is_unanswered


def test_an_answer_to_an_unknown_tool_changes_nothing() -> None:
    history = History()
    history.tool_answered("call_1", "yes")

    assert told(history) == []


def test_the_caller_who_spoke_last_is_unanswered_and_may_wait_for_words() -> None:
    history = History()
    assert not history.is_unanswered
    assert not history.waits_for_words

    history.caller_turn("u1", None)
    assert history.is_unanswered
    assert history.waits_for_words

    history.caller_said("u1", "Hello?")
    assert history.is_unanswered
    assert not history.waits_for_words


def test_the_oldest_go_first() -> None:
    history = History()
    for number in range(1000):
        history.agent_said(f"a{number}", f"Sentence {number}.")

    assert len(told(history)) == MAX_ENTRIES
    assert told(history)[-1] == ("assistant", "Sentence 999.")


def test_a_new_session_is_not_flooded() -> None:
    history = History()
    for number in range(50):
        history.agent_said(f"a{number}", f"{number:02d}" + "x" * 2000)

    lines = told(history)
    assert sum(len(text) for _, text in lines) <= MAX_CHARACTERS
    assert lines[-1][1].startswith("49")
