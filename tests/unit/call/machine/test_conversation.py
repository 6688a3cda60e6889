"""What happens in a talk whose phase does not change: interruptions, last words, tools, an agent that is away."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.audio.played import PlayoutPosition
from gateway.call.actions import (
    AnswerTool,
    AwaitPlayedOut,
    CallAction,
    CancelResponse,
    CancelTimer,
    CloseAgent,
    FlushPlayout,
    HangUp,
    PausePlayout,
    ResumePlayout,
    RunTool,
    SayGoodbye,
    SendDigits,
    StartFiller,
    StartTimer,
    StopFiller,
    Transfer,
    Truncate,
)
from gateway.call.builtin_tools import DigitsAsked, HangUpAsked, TransferAsked, WaitAsked
from gateway.call.events import (
    AgentAway,
    AgentBack,
    AgentClosed,
    AgentExpiring,
    AgentFailed,
    AgentReady,
    CallEvent,
    LegClosed,
    McpCallBegan,
    McpCallEnded,
    MediaUp,
    PlayedOut,
    Routed,
    SpeechStarted,
    SpeechStopped,
    TimerFired,
    ToolAsked,
    ToolFinished,
    TransferEnded,
)
from gateway.call.machine.machine import CallMachine
from gateway.call.machine.phase import Phase
from gateway.call.outcome import EndReason, Outcome, Side
from gateway.errors import AgentLost
from gateway.ids import CallId

pytestmark = pytest.mark.unit

CALL = CallId("call")
ROUTED = Routed(CALL, setup_limit_s=8, max_length_s=600, goodbye_limit_s=7, tool_filler_after_s=2)
GUARDED = replace(ROUTED, guard_ms=400)
PLAYED_OUT = PlayedOut(CALL)
HANG_UP = HangUpAsked(CALL, "call_1", "the caller said goodbye")
TRANSFER = TransferAsked(CALL, "call_2", "sip:desk@192.0.2.7")
MAX_LENGTH = TimerFired(CALL, "max_length")
SPEAKS = SpeechStarted(CALL, at=PlayoutPosition("item_1", 500))
LOST = AgentFailed(CALL, AgentLost("reset"))
LAST_WORDS = (AwaitPlayedOut(), StartTimer("goodbye", 7))


def talking(*events: CallEvent, routed: Routed = ROUTED) -> CallMachine:
    machine = CallMachine()
    for event in (routed, AgentReady(CALL, "sess_1"), MediaUp(CALL, "PCMU/8000"), *events):
        machine.handle(event)
    assert machine.phase is Phase.ACTIVE
    return machine


def tool(number: int) -> ToolAsked:
    return ToolAsked(CALL, f"tool_{number}", "weather", "{}")


def done(number: int) -> ToolFinished:
    return ToolFinished(CALL, f"tool_{number}", "weather", f"answer {number}", failed=False, took_ms=5)


def end_of(machine: CallMachine, actions: tuple[CallAction, ...]) -> Outcome:
    """Check that the call is being hung up; return its outcome."""
    assert actions[0] == CloseAgent()
    assert isinstance(actions[-2], HangUp)
    assert machine.phase is Phase.ENDING
    finish = machine.handle(LegClosed(CALL, by_caller=False, code=200, reason="OK"))[-1]
    outcome = getattr(finish, "outcome", None)
    assert isinstance(outcome, Outcome)
    return outcome


# Interruption


def test_an_agent_that_may_not_be_interrupted_plays_on() -> None:
    speaks = SpeechStarted(CALL, at=PlayoutPosition("item_1", 500), interrupts=False)
    assert talking().handle(speaks) == ()
    assert talking(routed=GUARDED).handle(speaks) == ()


def test_a_guarded_interruption_holds_the_agent_first() -> None:
    machine = talking(routed=GUARDED)
    assert machine.handle(SPEAKS) == (PausePlayout(), StartTimer("guard", 0.4))
    assert machine.handle(SPEAKS) == ()


def test_speech_shorter_than_the_guard_lets_the_agent_go_on() -> None:
    machine = talking(SPEAKS, routed=GUARDED)
    assert machine.handle(SpeechStopped(CALL)) == (CancelTimer("guard"), ResumePlayout())
    assert machine.handle(SpeechStopped(CALL)) == ()
    assert machine.handle(TimerFired(CALL, "guard", at=PlayoutPosition("item_1", 500))) == ()


def test_speech_longer_than_the_guard_cuts_the_agent_where_it_was_held() -> None:
    machine = talking(SPEAKS, routed=GUARDED)
    cut = (CancelResponse(), FlushPlayout(), Truncate("item_1", 500))
    assert machine.handle(TimerFired(CALL, "guard", at=PlayoutPosition("item_1", 500))) == cut
    assert machine.handle(SpeechStopped(CALL)) == ()
    again = SpeechStarted(CALL, at=PlayoutPosition("item_2", 20))
    assert machine.handle(again) == (PausePlayout(), StartTimer("guard", 0.4))


def test_a_guard_holds_an_answer_that_is_only_being_generated() -> None:
    machine = talking(routed=GUARDED)
    assert machine.handle(SpeechStarted(CALL, responding=True)) == (PausePlayout(), StartTimer("guard", 0.4))
    assert machine.handle(TimerFired(CALL, "guard")) == (CancelResponse(), FlushPlayout())


def test_a_guard_holds_nothing_when_the_agent_is_silent() -> None:
    assert talking(routed=GUARDED).handle(SpeechStarted(CALL)) == ()


# Last words


@pytest.mark.parametrize("last", [PLAYED_OUT, TimerFired(CALL, "goodbye")])
def test_the_agent_hangs_up_when_its_last_words_are_heard_or_take_too_long(last: CallEvent) -> None:
    machine = talking()
    assert machine.handle(HANG_UP) == (AnswerTool("call_1", "ok", respond=False), *LAST_WORDS)
    outcome = end_of(machine, machine.handle(last))
    assert outcome == Outcome(EndReason.AGENT_HUNG_UP, "the caller said goodbye", 200)
    assert outcome.ended_by is Side.AGENT


@pytest.mark.parametrize("second", [replace(HANG_UP, tool_call_id="call_9"), replace(TRANSFER, tool_call_id="call_9")])
@pytest.mark.parametrize("first", [HANG_UP, TRANSFER])
def test_a_second_ending_is_answered_with_an_error(first: CallEvent, second: CallEvent) -> None:
    (answer,) = talking(first).handle(second)
    assert isinstance(answer, AnswerTool)
    assert (answer.tool_call_id, answer.respond) == ("call_9", False)
    assert answer.output.startswith("Error: ")


def test_a_tool_call_reported_twice_is_answered_once() -> None:
    for asked in (HANG_UP, TRANSFER, tool(1), DigitsAsked(CALL, "call_3", "1"), WaitAsked(CALL, "call_4")):
        assert talking(asked).handle(asked) == ()


def test_speech_that_ran_out_long_ago_ends_nothing() -> None:
    assert talking().handle(PLAYED_OUT) == ()


def test_a_transfer_goes_out_when_the_last_words_are_heard() -> None:
    machine = talking()
    assert machine.handle(TRANSFER) == LAST_WORDS
    assert machine.handle(TransferEnded(CALL, 200, "too early")) == ()
    sent = (CancelTimer("goodbye"), Transfer("sip:desk@192.0.2.7"), StartTimer("transfer", 30))
    assert machine.handle(PLAYED_OUT) == sent
    assert machine.handle(PLAYED_OUT) == ()
    outcome = end_of(machine, machine.handle(TransferEnded(CALL, 202, "Accepted")))
    assert outcome == Outcome(EndReason.TRANSFERRED, "sip:desk@192.0.2.7", 200)
    assert outcome.ended_by is Side.AGENT


def test_a_transfer_goes_out_when_the_last_words_take_too_long() -> None:
    sent = (Transfer("sip:desk@192.0.2.7"), StartTimer("transfer", 30))
    assert talking(TRANSFER).handle(TimerFired(CALL, "goodbye")) == sent


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        (TransferEnded(CALL, 486, "Busy Here"), "486 Busy Here"),
        (TransferEnded(CALL, 603, ""), "603"),
        (TimerFired(CALL, "transfer"), "no answer within 30 s"),
    ],
)
def test_a_transfer_that_fails_leaves_the_caller_with_the_agent(end: CallEvent, cause: str) -> None:
    machine = talking(TRANSFER, PLAYED_OUT)
    actions = machine.handle(end)
    assert actions[-1] == AnswerTool("call_2", f"The transfer failed: {cause}. The caller is still here.")
    assert (actions[0] == CancelTimer("transfer")) is isinstance(end, TransferEnded)
    assert machine.phase is Phase.ACTIVE
    if isinstance(end, TransferEnded):  # told once: what comes after it is about another
        assert machine.handle(TransferEnded(CALL, 200, "late")) == ()
    again = replace(TRANSFER, tool_call_id="call_5")
    assert machine.handle(again) == LAST_WORDS


def test_a_call_that_gets_too_long_says_goodbye_first() -> None:
    machine = talking()
    goodbye, *rest = machine.handle(MAX_LENGTH)
    assert isinstance(goodbye, SayGoodbye)
    assert tuple(rest) == LAST_WORDS
    outcome = end_of(machine, machine.handle(TimerFired(CALL, "goodbye")))
    assert outcome == Outcome(EndReason.MAX_LENGTH, "longer than 600 s")


def test_a_session_that_expires_ends_with_a_goodbye() -> None:
    machine = talking()
    goodbye, *rest = machine.handle(AgentExpiring(CALL, 45))
    assert isinstance(goodbye, SayGoodbye)
    assert tuple(rest) == LAST_WORDS
    outcome = end_of(machine, machine.handle(PLAYED_OUT))
    assert (outcome.reason, outcome.ended_by) == (EndReason.SESSION_EXPIRED, Side.AGENT)


def test_what_ends_a_call_that_is_ending_already_is_the_first_cause() -> None:
    machine = talking(HANG_UP)
    assert machine.handle(MAX_LENGTH) == ()
    assert machine.handle(AgentExpiring(CALL, 10)) == ()
    assert end_of(machine, machine.handle(PLAYED_OUT)).reason is EndReason.AGENT_HUNG_UP


def test_a_call_that_got_too_long_in_a_failed_transfer_ends_after_it() -> None:
    machine = talking(TRANSFER, PLAYED_OUT)
    assert machine.handle(MAX_LENGTH) == ()
    assert machine.handle(AgentExpiring(CALL, 10)) == ()
    timer, answer, goodbye, *rest = machine.handle(TransferEnded(CALL, 480, "Unavailable"))
    assert timer == CancelTimer("transfer")
    assert isinstance(answer, AnswerTool)
    assert not answer.respond
    assert isinstance(goodbye, SayGoodbye)
    assert tuple(rest) == LAST_WORDS
    assert end_of(machine, machine.handle(PLAYED_OUT)).reason is EndReason.MAX_LENGTH


@pytest.mark.parametrize("loss", [LOST, AgentClosed(CALL, 1000, "")])
def test_last_words_are_heard_even_if_the_agent_is_gone_by_then(loss: CallEvent) -> None:
    machine = talking(HANG_UP)
    assert machine.handle(loss) == ()
    assert end_of(machine, machine.handle(PLAYED_OUT)).reason is EndReason.AGENT_HUNG_UP


def test_a_transfer_goes_through_without_the_agent() -> None:
    machine = talking(TRANSFER)
    assert machine.handle(LOST) == ()
    machine.handle(PLAYED_OUT)
    assert end_of(machine, machine.handle(TransferEnded(CALL, 200, "OK"))).reason is EndReason.TRANSFERRED


def test_a_transfer_that_fails_without_the_agent_ends_the_call() -> None:
    machine = talking(TRANSFER, PLAYED_OUT, LOST)
    outcome = end_of(machine, machine.handle(TransferEnded(CALL, 486, "Busy Here")))
    assert outcome == Outcome(EndReason.AGENT_LOST, "reset", 503)


# An agent that is away


def test_the_caller_hears_a_filler_while_the_agent_is_away_and_what_is_queued_before() -> None:
    machine = talking()
    assert machine.handle(AgentAway(CALL, "reset")) == (StartFiller(),)
    assert machine.handle(AgentBack(CALL, "sess_2")) == (StopFiller(),)
    assert machine.handle(AgentBack(CALL, "sess_2")) == ()


def test_an_agent_that_does_not_come_back_ends_the_call() -> None:
    machine = talking(AgentAway(CALL, "reset"))
    actions = machine.handle(LOST)
    assert StopFiller() in actions
    assert end_of(machine, actions).reason is EndReason.AGENT_LOST


def test_held_speech_goes_on_when_nobody_is_left_to_tell_the_end_of_the_callers() -> None:
    machine = talking(SPEAKS, routed=GUARDED)
    assert machine.handle(AgentAway(CALL, "reset")) == (CancelTimer("guard"), ResumePlayout(), StartFiller())
    machine = talking(HANG_UP, SPEAKS, routed=GUARDED)
    assert machine.handle(LOST) == (CancelTimer("guard"), ResumePlayout(), AwaitPlayedOut())


def test_an_agent_lost_before_the_media_is_up_is_waited_for() -> None:
    machine = CallMachine()
    for event in (ROUTED, AgentReady(CALL, "sess_1")):
        machine.handle(event)
    assert machine.handle(AgentAway(CALL, "reset")) == (StartFiller(),)
    machine.handle(MediaUp(CALL, "PCMU/8000"))
    assert machine.handle(AgentBack(CALL, "sess_2")) == (StopFiller(),)


# Tools


def test_a_tool_is_run_and_its_output_given_to_the_model() -> None:
    machine = talking()
    assert machine.handle(tool(1)) == (RunTool("tool_1", "weather", "{}"), StartTimer("filler", 2))
    assert machine.handle(done(1)) == (AnswerTool("tool_1", "answer 1"), CancelTimer("filler"))
    assert machine.handle(done(1)) == ()


def test_slow_tools_let_the_caller_hear_a_filler_until_the_last_has_finished() -> None:
    machine = talking(tool(1))
    assert machine.handle(tool(2)) == (RunTool("tool_2", "weather", "{}"),)
    assert machine.handle(TimerFired(CALL, "filler")) == (StartFiller(),)
    assert machine.handle(tool(3)) == (RunTool("tool_3", "weather", "{}"),)
    assert machine.handle(done(2)) == (AnswerTool("tool_2", "answer 2"),)
    assert machine.handle(done(1)) == (AnswerTool("tool_1", "answer 1"),)
    assert machine.handle(done(3)) == (AnswerTool("tool_3", "answer 3"), StopFiller())
    assert machine.handle(tool(4)) == (RunTool("tool_4", "weather", "{}"), StartTimer("filler", 2))


def test_without_a_limit_tools_run_in_silence() -> None:
    machine = talking(routed=replace(ROUTED, tool_filler_after_s=None))
    assert machine.handle(tool(1)) == (RunTool("tool_1", "weather", "{}"),)


def test_a_slow_tool_that_the_service_runs_lets_the_caller_hear_the_filler_too() -> None:
    machine = talking()
    ended = McpCallEnded(CALL, "item_1", "manuals", "search", failed=False)
    began = McpCallBegan(CALL, "item_1", "manuals", "search")

    assert machine.handle(began) == (StartTimer("filler", 2),)
    assert machine.handle(TimerFired(CALL, "filler")) == (StartFiller(),)
    assert machine.handle(tool(1)) == (RunTool("tool_1", "weather", "{}"),)
    assert machine.handle(ended) == ()
    assert machine.handle(done(1)) == (AnswerTool("tool_1", "answer 1"), StopFiller())
    assert machine.handle(ended) == ()


def test_the_filler_of_an_absent_agent_outlasts_that_of_a_tool() -> None:
    machine = talking(tool(1), TimerFired(CALL, "filler"))
    assert machine.handle(AgentAway(CALL, "reset")) == ()
    assert machine.handle(done(1)) == (AnswerTool("tool_1", "answer 1"),)
    assert machine.handle(AgentBack(CALL, "sess_2")) == (StopFiller(),)


def test_the_filler_of_a_slow_tool_outlasts_that_of_an_absent_agent() -> None:
    machine = talking(tool(1), AgentAway(CALL, "reset"))
    assert machine.handle(TimerFired(CALL, "filler")) == ()
    assert machine.handle(AgentBack(CALL, "sess_2")) == ()
    assert machine.handle(done(1)) == (AnswerTool("tool_1", "answer 1"), StopFiller())


def test_digits_are_sent_and_waiting_is_only_acknowledged() -> None:
    machine = talking()
    assert machine.handle(DigitsAsked(CALL, "call_3", "12#")) == (SendDigits("12#"), AnswerTool("call_3", "sent"))
    assert machine.handle(WaitAsked(CALL, "call_4")) == (AnswerTool("call_4", "waiting", respond=False),)


def test_a_tool_that_finishes_after_the_call_answers_nobody() -> None:
    machine = talking(tool(1))
    machine.handle(LegClosed(CALL, by_caller=True, code=200, reason="OK"))
    assert machine.handle(done(1)) == ()
