"""What the agent is asked to say on its own account."""

from __future__ import annotations

import pytest

from gateway.dialplan.model.agent import AgentProfile, RecordingRules
from gateway.upstream.core.debts import Ask
from gateway.upstream.core.prompts import announcement, goodbye, greeting

pytestmark = pytest.mark.unit

RECORDING = RecordingRules(mode="on", announcement="This call is recorded.")


def test_the_greeting_is_said_as_the_profile_has_it() -> None:
    ask = greeting(AgentProfile(instructions="You are Ada.", greeting="Hello."))

    assert ask == Ask("The call was just answered.\nSay this now, then wait: Hello.")


@pytest.mark.parametrize("words", [None, "Hello, Ada here."])
def test_a_prompt_is_read_out_in_place_of_the_greeting(words: str | None) -> None:
    ask = greeting(AgentProfile(instructions="You are Ada.", greeting=words), "Press 1 for sales.")

    assert ask is not None
    assert ask.task.endswith("Press 1 for sales.")
    assert "Ada here" not in ask.task


@pytest.mark.parametrize("profile", [{}, {"recording": RECORDING}])
def test_without_a_greeting_the_caller_speaks_first(profile: dict[str, RecordingRules]) -> None:
    assert greeting(AgentProfile(instructions="Be brief.", **profile)) is None


def test_the_announcement_is_said_alone_and_word_for_word() -> None:
    ask = announcement(AgentProfile(instructions="You are Ada.", recording=RECORDING))

    assert ask is not None
    assert ask.task == "Say exactly this sentence, word for word, and nothing else: This call is recorded."
    assert (ask.alone, ask.tools) == (True, False)
    assert announcement(AgentProfile(instructions="You are Ada.")) is None


def test_the_goodbye_says_why_and_calls_no_tool() -> None:
    ask = goodbye(AgentProfile(instructions="You are Ada.", goodbye="Say bye."), "the time is over")

    assert "the time is over" in ask.task
    assert ask.task.endswith("Say bye.")
    assert not ask.tools
