"""What an operator's commands do, phase by phase."""

from __future__ import annotations

from dataclasses import replace

import pytest

from docs.generate.samples import WAYS
from gateway.audio.played import PlayoutPosition
from gateway.call import actions as do
from gateway.call import builtin_tools as tool
from gateway.call import commands as given
from gateway.call import events as ev
from gateway.call.machine.control import ENDING, NO_AGENT, ON_HOLD, WHISPERED
from gateway.call.machine.machine import CallMachine
from gateway.call.machine.phase import CallStage, Phase
from gateway.call.machine.take_over import AWAY, BACK
from gateway.call.outcome import EndReason, Side
from gateway.errors import AgentLost
from tests.unit.call.machine.talks import BYE, CALL, READY, ROUTED, UP, after, outcome_of, talking

pytestmark = pytest.mark.unit

AT = PlayoutPosition("item", 300)
DESK, ANN = "sip:desk@192.0.2.7", "sip:ann@192.0.2.7"
HANG_UP = given.HangUpCommanded(CALL, "c1", "ann")
GOODBYE = given.HangUpCommanded(CALL, "c1", "ann", goodbye=True)
TRANSFER = given.TransferCommanded(CALL, "c1", "ann", DESK, at=AT)
DIGITS = given.DigitsCommanded(CALL, "c1", "ann", "12#")
SAY = given.SayCommanded(CALL, "c1", "ann", "One moment, please.", at=AT)
WHISPER = given.WhisperCommanded(CALL, "c1", "ann", "Offer a discount.")
TAKE_OVER = given.TakeOverCommanded(CALL, "c1", "ann", ANN)
GIVE_BACK = given.GiveBackCommanded(CALL, "c2", "ann")
TRACE = given.TraceCommanded(CALL, "c1", "ann")
SECOND_UP = ev.SecondUp(CALL, "PCMU/8000", at=AT)
BUSY = ev.SecondClosed(CALL, 486, "Busy Here")
GONE = ev.SecondClosed(CALL, 200, "OK")
LOST = ev.AgentFailed(CALL, AgentLost("gone"))
HELD = ev.LegHeld(CALL)
BRIDGED = replace(ROUTED, transfers="bridge")
DONE = do.AnswerCommand("c1", done=True)
BEFORE_AN_ANSWER = (Phase.ROUTING, Phase.RINGING, Phase.ANSWERING, Phase.PREPARING, Phase.DIALING)


def refused(detail: str, command_id: str = "c1") -> do.AnswerCommand:
    return do.AnswerCommand(command_id, done=False, detail=detail)


def answers(actions: tuple[do.CallAction, ...]) -> list[do.AnswerCommand]:
    return [each for each in actions if isinstance(each, do.AnswerCommand)]


def in_phase(phase: Phase) -> CallMachine:
    return after(*WAYS[phase])


def taken_over(*events: ev.CallEvent, routed: ev.Routed = ROUTED) -> CallMachine:
    machine = talking(TAKE_OVER, SECOND_UP, *events, routed=routed)
    assert machine.stage is CallStage.TAKEN_OVER
    return machine


# Hang up


@pytest.mark.parametrize("phase", [each for each in Phase if each not in (Phase.ENDING, Phase.ENDED)])
@pytest.mark.parametrize("command", [HANG_UP, GOODBYE])
def test_an_operator_ends_a_call_in_any_phase(phase: Phase, command: given.HangUpCommanded) -> None:
    machine = in_phase(phase)
    actions = machine.handle(command)
    assert [each.done for each in answers(actions)] == [True]
    if command.goodbye and phase is Phase.ACTIVE:
        assert machine.phase is Phase.ACTIVE
        actions = machine.handle(ev.PlayedOut(CALL))
    outcome = outcome_of(machine, actions)
    assert (outcome.reason, outcome.ended_by, outcome.detail) == (EndReason.OPERATOR_HUNG_UP, Side.OPERATOR, "by ann")


def test_a_caller_who_was_not_answered_is_declined_without_a_word_of_the_operator() -> None:
    actions = in_phase(Phase.RINGING).handle(HANG_UP)
    assert do.HangUp(603, "") in actions


def test_an_answered_call_ends_in_the_ordinary_way() -> None:
    assert do.HangUp(200, "") in talking().handle(HANG_UP)


def test_the_agent_says_goodbye_first_where_that_is_wanted() -> None:
    machine = talking()
    actions = machine.handle(GOODBYE)
    assert do.SayGoodbye("an operator ends it") in actions
    assert answers(actions) == [do.AnswerCommand("c1", done=True, detail="the agent says goodbye first")]


def test_a_goodbye_waits_for_the_transfer_under_way() -> None:
    machine = talking(tool.TransferAsked(CALL, "t", DESK))
    assert answers(machine.handle(GOODBYE))[0].done
    assert machine.state.leaving is None
    machine.handle(ev.PlayedOut(CALL))
    assert do.SayGoodbye("an operator ends it") in machine.handle(ev.TransferEnded(CALL, 486, "Busy Here"))


@pytest.mark.parametrize("happened", [(HELD,), (TAKE_OVER, SECOND_UP), (TAKE_OVER, LOST)])
def test_no_goodbye_is_said_that_the_caller_would_not_hear(happened: tuple[ev.CallEvent, ...]) -> None:
    machine = talking(*happened)
    actions = machine.handle(replace(GOODBYE, command_id="c9"))
    assert machine.phase is Phase.ENDING
    assert not any(isinstance(each, do.SayGoodbye) for each in actions)


# What comes too late, or too early


@pytest.mark.parametrize("phase", [Phase.ENDING, Phase.ENDED])
@pytest.mark.parametrize("command", [HANG_UP, TRANSFER, DIGITS, SAY, WHISPER, TAKE_OVER, GIVE_BACK, TRACE])
def test_a_call_that_ends_takes_no_command(phase: Phase, command: given.CommandGiven) -> None:
    assert in_phase(phase).handle(command) == (refused(ENDING, command.command_id),)


@pytest.mark.parametrize("command", [TRANSFER, SAY, TAKE_OVER])
@pytest.mark.parametrize("phase", [*BEFORE_AN_ANSWER, Phase.ATTENDING, Phase.WAITING])
def test_what_needs_an_agent_is_refused_without_one(phase: Phase, command: given.CommandGiven) -> None:
    assert in_phase(phase).handle(command) == (refused(NO_AGENT),)


@pytest.mark.parametrize("command", [TRANSFER, SAY, TAKE_OVER])
def test_two_people_who_talk_are_left_alone(command: given.CommandGiven) -> None:
    words = "the caller speaks with somebody else, not with an agent"
    assert in_phase(Phase.JOINED).handle(command) == (refused(words),)


@pytest.mark.parametrize("command", [TRANSFER, SAY, TAKE_OVER, DIGITS])
def test_a_caller_on_hold_is_left_alone(command: given.CommandGiven) -> None:
    assert talking(HELD).handle(command) == (refused(ON_HOLD),)


@pytest.mark.parametrize("command", [TRANSFER, SAY, TAKE_OVER])
@pytest.mark.parametrize(
    ("happened", "words"),
    [
        (tool.HangUpAsked(CALL, "t", "done"), ENDING),
        (tool.TransferAsked(CALL, "t", DESK), "a transfer is under way already"),
    ],
)
def test_an_end_or_a_transfer_under_way_goes_first(
    command: given.CommandGiven, happened: ev.CallEvent, words: str
) -> None:
    assert talking(happened).handle(command) == (refused(words),)


# Keys, sentences, instructions, traces


@pytest.mark.parametrize("phase", [Phase.ATTENDING, Phase.WAITING, Phase.ACTIVE, Phase.JOINED])
def test_keys_are_sent_to_a_call_that_is_up(phase: Phase) -> None:
    assert in_phase(phase).handle(DIGITS) == (do.SendDigits("12#"), DONE)


@pytest.mark.parametrize("phase", BEFORE_AN_ANSWER)
def test_no_keys_are_sent_before_the_answer(phase: Phase) -> None:
    assert in_phase(phase).handle(DIGITS) == (refused("the call is not answered yet"),)


def test_a_sentence_takes_the_place_of_what_the_agent_says() -> None:
    assert talking().handle(SAY) == (
        do.CancelResponse(),
        do.FlushPlayout(),
        do.Truncate("item", 300),
        do.Say("One moment, please."),
        DONE,
    )


def test_a_sentence_does_not_cost_the_caller_the_announcement_of_the_recording() -> None:
    announced = replace(ROUTED, recording=True, announces=True, can_record=True)
    machine = talking(ev.AnnouncementSaid(CALL), routed=announced)
    assert do.AwaitPlayedOut() in machine.handle(SAY)
    assert do.AnnounceRecording() in machine.handle(ev.PlayedOut(CALL))


def test_an_instruction_is_for_the_agent_alone() -> None:
    assert talking().handle(WHISPER) == (do.Whisper(f"{WHISPERED} Offer a discount."), DONE)


@pytest.mark.parametrize(
    "happened", [(), (HELD,), (TAKE_OVER,), (TAKE_OVER, SECOND_UP), (tool.HangUpAsked(CALL, "t", ""),)]
)
def test_an_agent_can_be_instructed_at_any_time(happened: tuple[ev.CallEvent, ...]) -> None:
    assert answers(talking(*happened).handle(replace(WHISPER, command_id="c9")))[0].done


@pytest.mark.parametrize("phase", [Phase.ROUTING, Phase.ATTENDING, Phase.JOINED])
def test_nobody_is_instructed_where_there_is_no_agent(phase: Phase) -> None:
    assert in_phase(phase).handle(WHISPER) == (refused(NO_AGENT),)


@pytest.mark.parametrize("phase", [Phase.RINGING, Phase.ANSWERING, Phase.PREPARING, Phase.DIALING, Phase.WAITING])
def test_an_agent_that_is_on_its_way_is_instructed_already(phase: Phase) -> None:
    assert answers(in_phase(phase).handle(WHISPER)) == [DONE]


def test_an_agent_that_is_lost_is_not_instructed() -> None:
    machine = talking(tool.HangUpAsked(CALL, "t", ""), LOST)
    assert machine.handle(WHISPER) == (refused(NO_AGENT),)


@pytest.mark.parametrize("phase", [each for each in Phase if each not in (Phase.ENDING, Phase.ENDED)])
def test_a_call_is_traced_from_any_phase_on(phase: Phase) -> None:
    assert in_phase(phase).handle(TRACE) == (do.TraceCall(), DONE)


# Transfers


def test_a_transfer_cuts_the_agent_off_and_is_answered_when_it_is_accepted() -> None:
    machine = talking()
    actions = machine.handle(TRANSFER)
    assert actions[:3] == (do.CancelResponse(), do.FlushPlayout(), do.Truncate("item", 300))
    assert do.Transfer(DESK) in actions
    assert answers(actions) == []
    actions = machine.handle(ev.TransferEnded(CALL, 200, "OK"))
    assert answers(actions) == [DONE]
    outcome = outcome_of(machine, actions)
    assert (outcome.reason, outcome.ended_by) == (EndReason.TRANSFERRED, Side.OPERATOR)


def test_a_transfer_over_a_second_leg_is_answered_when_the_two_are_joined() -> None:
    machine = talking(routed=BRIDGED)
    assert do.CallSecond(DESK) in machine.handle(TRANSFER)
    assert answers(machine.handle(SECOND_UP)) == [DONE]
    assert machine.phase is Phase.JOINED


def test_a_transfer_that_fails_is_refused_with_what_the_target_said_and_the_agent_goes_on() -> None:
    machine = talking(TRANSFER)
    actions = machine.handle(ev.TransferEnded(CALL, 486, "Busy Here"))
    assert answers(actions) == [refused("486 Busy Here")]
    assert do.TellAgent("The transfer failed: 486 Busy Here. The caller is still here.", respond=True) in actions


def test_a_caller_who_leaves_before_the_transfer_leaves_it_undone() -> None:
    machine = talking(TRANSFER)
    assert answers(machine.handle(BYE)) == [refused("the call ended before")]


def test_a_transfer_of_the_agents_own_answers_no_command() -> None:
    machine = talking(tool.TransferAsked(CALL, "t", DESK), ev.PlayedOut(CALL))
    actions = machine.handle(ev.TransferEnded(CALL, 200, "OK"))
    assert answers(actions) == []
    assert outcome_of(machine, actions).ended_by is Side.AGENT


# Take over and give back


def test_caller_and_agent_talk_on_while_the_person_is_called() -> None:
    machine = talking()
    actions = machine.handle(TAKE_OVER)
    assert actions == (do.CallSecond(ANN, diverted_from="nobody"), do.StartTimer("second", 20))
    assert machine.stage is CallStage.SUMMONING
    assert machine.handle(ev.SpeechStarted(CALL, at=AT))[-1] == do.Truncate("item", 300)


def test_the_person_who_answers_speaks_with_the_caller_and_the_agent_is_deaf_and_dumb() -> None:
    machine = talking(TAKE_OVER)
    actions = machine.handle(SECOND_UP)
    for order in (
        do.CancelResponse(),
        do.FlushPlayout(),
        do.MuteCaller(),
        do.JoinLegs(),
        do.TellAgent(AWAY, respond=False),
        DONE,
    ):
        assert order in actions
    assert actions.index(do.MuteCaller()) < actions.index(do.JoinLegs())
    assert do.CloseAgent() not in actions
    assert do.Note("taken_over", {"target": ANN}) in actions
    assert machine.phase is Phase.ACTIVE


@pytest.mark.parametrize("event", [BUSY, ev.TimerFired(CALL, "second")])
def test_a_person_who_cannot_be_reached_leaves_the_call_as_it_was(event: ev.CallEvent) -> None:
    machine = talking(TAKE_OVER)
    actions = machine.handle(event)
    assert [each.done for each in answers(actions)] == [False]
    assert machine.stage is CallStage.NONE
    quiet = (do.AnswerCommand, do.CancelTimer, do.DropSecond)
    assert all(isinstance(each, quiet) for each in actions), "the agent and the caller notice nothing"
    words = "486 Busy Here" if event is BUSY else "no answer within 20 s"
    assert answers(actions)[0].detail == words


@pytest.mark.parametrize("event", [GIVE_BACK, GONE])
def test_the_caller_is_back_with_the_agent(event: ev.CallEvent) -> None:
    machine = taken_over()
    actions = machine.handle(event)
    for order in (do.FlushPlayout(), do.TalkToCaller(), do.UnmuteCaller(), do.TellAgent(BACK, respond=True)):
        assert order in actions
    assert (do.DropSecond() in actions) is (event is GIVE_BACK)
    assert machine.stage is CallStage.NONE
    assert answers(actions) == ([do.AnswerCommand("c2", done=True)] if event is GIVE_BACK else [])


def test_a_call_can_be_taken_over_again_once_the_person_before_is_gone() -> None:
    machine = talking(TAKE_OVER, SECOND_UP, GIVE_BACK)
    words = "the call to somebody else before it is still being ended"
    assert machine.handle(TAKE_OVER) == (refused(words),)
    machine.handle(GONE)
    assert do.CallSecond(ANN, diverted_from="nobody") in machine.handle(TAKE_OVER)


def test_one_person_at_a_time_takes_a_call_over() -> None:
    once_more = replace(TAKE_OVER, command_id="c9")
    assert talking(TAKE_OVER).handle(once_more) == (refused("a person is being called to take the call over", "c9"),)
    assert taken_over().handle(once_more) == (refused("a person has taken the call over", "c9"),)


def test_a_call_to_the_person_is_given_up_on_request() -> None:
    machine = talking(TAKE_OVER)
    actions = machine.handle(GIVE_BACK)
    assert answers(actions) == [refused("given back by ann"), do.AnswerCommand("c2", done=True)]
    assert do.DropSecond() in actions


@pytest.mark.parametrize("phase", [each for each in Phase if each not in (Phase.ENDING, Phase.ENDED)])
def test_nothing_is_given_back_that_was_not_taken(phase: Phase) -> None:
    assert in_phase(phase).handle(GIVE_BACK) == (refused("nobody has taken the call over", "c2"),)


@pytest.mark.parametrize(
    "event",
    [
        ev.SpeechStarted(CALL),
        ev.DigitPressed(CALL, "0"),
        ev.DigitPressed(CALL, "5"),
        ev.SecondDigit(CALL, "2"),
        ev.PlayedOut(CALL),
        ev.AnswerLate(CALL),
        ev.AgentAway(CALL, ""),
        ev.AgentExpiring(CALL, 20),
    ],
)
def test_the_agent_takes_no_part_in_what_two_people_talk(event: ev.CallEvent) -> None:
    assert taken_over().handle(event) == ()


@pytest.mark.parametrize(
    "asked", [tool.HangUpAsked(CALL, "t", ""), tool.TransferAsked(CALL, "t", DESK), tool.LeaveMessageAsked(CALL, "t")]
)
@pytest.mark.parametrize("with_person", [False, True])
def test_the_agent_cannot_end_a_call_that_is_taken_over(asked: ev.CallEvent, with_person: bool) -> None:
    machine = taken_over() if with_person else talking(TAKE_OVER)
    words = "Error: a person of the staff takes this call over."
    assert machine.handle(asked) == (do.AnswerTool("t", words, respond=False),)


def test_a_tool_that_ends_meanwhile_makes_the_agent_say_nothing() -> None:
    machine = talking(ev.ToolAsked(CALL, "t", "weather", "{}"), TAKE_OVER, SECOND_UP)
    finished = ev.ToolFinished(CALL, "t", "weather", "rain", failed=False, took_ms=5)
    assert machine.handle(finished) == (do.AnswerTool("t", "rain", respond=False),)


def test_what_people_say_is_not_recorded_and_the_recording_goes_on_with_the_agent() -> None:
    recorded = replace(ROUTED, recording=True, can_record=True)
    machine = talking(TAKE_OVER, routed=recorded)
    assert do.PauseRecording() in machine.handle(SECOND_UP)
    wish = machine.handle(tool.RecordingAsked(CALL, "t", on=True))
    assert wish == (do.AnswerTool("t", "Error: this call cannot be recorded."),)
    assert do.StartRecording() in machine.handle(GONE)


def test_an_announcement_that_was_not_heard_is_given_up() -> None:
    announced = replace(ROUTED, recording=True, announces=True, can_record=True)
    machine = talking(TAKE_OVER, SECOND_UP, routed=announced)
    assert machine.handle(ev.AnnouncementSaid(CALL)) == ()
    assert do.StartRecording() not in machine.handle(GONE)


def test_an_agent_that_is_lost_is_missed_only_when_the_person_leaves() -> None:
    machine = taken_over(LOST)
    refusal = answers(machine.handle(GIVE_BACK))
    assert [each.done for each in refusal] == [False]
    actions = machine.handle(GONE)
    assert outcome_of(machine, actions).reason is EndReason.AGENT_LOST


def test_an_agent_that_is_lost_while_the_person_is_called_is_bridged_until_they_answer() -> None:
    machine = talking(TAKE_OVER)
    assert machine.handle(LOST) == (do.StartFiller(),)
    actions = machine.handle(SECOND_UP)
    assert do.StopFiller() in actions
    assert do.JoinLegs() in actions
    assert answers(actions) == [DONE]


def test_the_longest_time_of_a_call_holds_for_a_person_too() -> None:
    machine = taken_over()
    actions = machine.handle(ev.TimerFired(CALL, "max_length"))
    assert outcome_of(machine, actions).reason is EndReason.MAX_LENGTH


def test_a_call_that_got_too_long_while_the_person_was_called_has_the_same_time_once_more() -> None:
    machine = talking(TAKE_OVER)
    assert machine.handle(ev.TimerFired(CALL, "max_length")) == ()
    assert do.StartTimer("max_length", 600) in machine.handle(SECOND_UP)
    assert not any(isinstance(each, do.SayGoodbye) for each in machine.handle(GONE))


def test_a_call_that_has_to_end_ends_when_the_person_was_not_reached() -> None:
    machine = talking(TAKE_OVER, ev.TimerFired(CALL, "max_length"))
    assert any(isinstance(each, do.SayGoodbye) for each in machine.handle(BUSY))


def test_a_caller_on_hold_finds_the_agent_paused_when_the_person_has_left() -> None:
    machine = taken_over(HELD)
    actions = machine.handle(GONE)
    assert do.PausePlayout() in actions
    assert do.UnmuteCaller() not in actions


def test_a_caller_who_hangs_up_ends_the_call_of_the_person() -> None:
    machine = taken_over()
    actions = machine.handle(BYE)
    assert do.DropSecond() in actions
    assert outcome_of(machine, actions).reason is EndReason.CALLER_HUNG_UP


def test_a_call_that_ends_while_the_person_is_called_refuses_the_take_over() -> None:
    assert answers(talking(TAKE_OVER).handle(BYE)) == [refused("the call ended before")]


def test_the_machine_knows_the_agent_and_its_limits_as_before() -> None:
    machine = after(ROUTED, READY, UP, TAKE_OVER, SECOND_UP, GONE)
    assert machine.phase is Phase.ACTIVE
    assert machine.state.agent.open
    assert not machine.state.agent.muted
