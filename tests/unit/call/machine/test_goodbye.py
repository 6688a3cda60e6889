"""The caller speaks over the agent's last words, or right behind them: nobody is hung up on in the middle of a word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.audio.played import PlayoutPosition
from gateway.call import actions as do
from gateway.call import builtin_tools as tool
from gateway.call import events as ev
from gateway.call.machine.barge_in import ENDS_ALL_THE_SAME, GOES_ON
from gateway.call.machine.ending import OVER_BUDGET
from gateway.call.machine.phase import Phase
from gateway.call.machine.rules import WIND_UP
from gateway.call.outcome import EndReason
from gateway.errors import AgentLost
from tests.unit.call.machine.talks import CALL, GUARDED, ROUTED, outcome_of, talking

pytestmark = pytest.mark.unit

HANG_UP = tool.HangUpAsked(CALL, "call_1", "done")
AGAIN = replace(HANG_UP, tool_call_id="call_2")
TRANSFER = tool.TransferAsked(CALL, "call_3", "sip:desk@192.0.2.7")
MAX_LENGTH = ev.TimerFired(CALL, "max_length")
EXPIRING = ev.AgentExpiring(CALL, 30)
LOW = ev.BudgetLow(CALL, 0.9, "max_usd 1")
USED_UP = ev.BudgetUsedUp(CALL, 1.01, "max_usd 1")
LOST = ev.AgentFailed(CALL, AgentLost("reset"))
SPEAKS = ev.SpeechStarted(CALL, at=PlayoutPosition("item_1", 900))
SPEAKS_IN_A_PAUSE = ev.SpeechStarted(CALL)
SPEAKS_IN_VAIN = ev.SpeechStarted(CALL, at=PlayoutPosition("item_1", 900), interrupts=False)
STOPS = ev.SpeechStopped(CALL)
HEARD = ev.PlayedOut(CALL)
OVERDUE = ev.TimerFired(CALL, "goodbye")
CUT = (do.FlushPlayout(), do.Truncate("item_1", 900))
GIVEN_UP = (do.CancelTimer("goodbye"), do.Note("hang_up_given_up", {}), do.TellAgent(GOES_ON, respond=False))


# A hang-up that the agent wants


@pytest.mark.parametrize(("speaks", "cut"), [(SPEAKS, CUT), (SPEAKS_IN_A_PAUSE, (do.FlushPlayout(),))])
def test_a_caller_who_interrupts_the_goodbye_keeps_the_call(
    speaks: ev.SpeechStarted, cut: tuple[do.CallAction, ...]
) -> None:
    machine = talking(HANG_UP)
    assert machine.handle(speaks) == (*cut, *GIVEN_UP)
    for event in (HEARD, STOPS, HEARD, OVERDUE):
        assert machine.handle(event) == ()
    assert machine.phase is Phase.ACTIVE


def test_the_agent_may_hang_up_again_and_be_interrupted_again() -> None:
    machine = talking(HANG_UP, SPEAKS, STOPS)
    last_words = (do.AwaitPlayedOut(), do.StartTimer("goodbye", 7))
    assert machine.handle(AGAIN) == (do.AnswerTool("call_2", "ok", respond=False), *last_words)
    assert machine.handle(SPEAKS) == (*CUT, *GIVEN_UP)
    machine.handle(STOPS)
    machine.handle(replace(HANG_UP, tool_call_id="call_4"))
    assert outcome_of(machine, machine.handle(HEARD)).reason is EndReason.AGENT_HUNG_UP


def test_a_cough_within_the_guard_leaves_the_hang_up_standing() -> None:
    machine = talking(HANG_UP, routed=GUARDED)
    assert machine.handle(SPEAKS) == (do.PausePlayout(), do.StartTimer("guard", 0.4))
    assert machine.handle(HEARD) == (), "whether it is a cough is not known yet"
    assert machine.handle(STOPS) == (do.CancelTimer("guard"), do.ResumePlayout(), do.AwaitPlayedOut())
    assert outcome_of(machine, machine.handle(HEARD)).reason is EndReason.AGENT_HUNG_UP


@pytest.mark.parametrize("speaks", [SPEAKS, SPEAKS_IN_A_PAUSE], ids=["over the goodbye", "right behind it"])
def test_speech_beyond_the_guard_keeps_the_call(speaks: ev.SpeechStarted) -> None:
    machine = talking(HANG_UP, routed=GUARDED)
    assert machine.handle(speaks) == (do.PausePlayout(), do.StartTimer("guard", 0.4))
    orders = machine.handle(ev.TimerFired(CALL, "guard", at=speaks.at))
    assert orders[0] == do.CancelResponse()
    assert orders[-3:] == GIVEN_UP
    assert machine.handle(HEARD) == machine.handle(STOPS) == ()


@pytest.mark.parametrize("before", [(HANG_UP, SPEAKS_IN_VAIN), (SPEAKS_IN_VAIN, HANG_UP)])
def test_a_goodbye_that_may_not_be_interrupted_is_finished_but_the_caller_too(before: tuple[ev.CallEvent, ...]) -> None:
    machine = talking(*before)
    assert machine.handle(HEARD) == ()
    assert machine.handle(STOPS) == (do.AwaitPlayedOut(),), "the agent may answer"
    assert machine.handle(STOPS) == ()
    assert outcome_of(machine, machine.handle(HEARD)).reason is EndReason.AGENT_HUNG_UP


def test_a_caller_who_does_not_stop_is_waited_for_as_long_as_a_goodbye_may_take() -> None:
    machine = talking(HANG_UP, SPEAKS_IN_VAIN, HEARD)
    assert outcome_of(machine, machine.handle(OVERDUE)).reason is EndReason.AGENT_HUNG_UP


def test_a_message_for_a_voicemail_is_not_interrupted() -> None:
    machine = talking(SPEAKS)
    assert do.MuteCaller() in machine.handle(tool.LeaveMessageAsked(CALL, "call_1"))
    assert machine.handle(SPEAKS) == machine.handle(STOPS) == ()
    assert outcome_of(machine, machine.handle(HEARD)).reason is EndReason.MESSAGE_LEFT


# A call that must end


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (MAX_LENGTH, EndReason.MAX_LENGTH),
        (EXPIRING, EndReason.SESSION_EXPIRED),
        (USED_UP, EndReason.BUDGET_USED_UP),
    ],
)
def test_a_call_that_must_end_ends_when_the_caller_was_answered(cause: ev.CallEvent, reason: EndReason) -> None:
    machine = talking(cause)
    assert machine.handle(SPEAKS) == (*CUT, do.TellAgent(ENDS_ALL_THE_SAME, respond=False))
    assert machine.handle(SPEAKS) == CUT, "told once a turn"
    assert machine.handle(HEARD) == ()
    assert machine.handle(STOPS) == (do.AwaitPlayedOut(),)
    assert machine.handle(SPEAKS) == (*CUT, do.TellAgent(ENDS_ALL_THE_SAME, respond=False))
    assert machine.handle(STOPS) == (do.AwaitPlayedOut(),)
    assert outcome_of(machine, machine.handle(HEARD)).reason is reason


def test_a_call_that_must_end_does_not_wait_longer_than_a_goodbye_may_take() -> None:
    machine = talking(MAX_LENGTH, SPEAKS)
    assert outcome_of(machine, machine.handle(OVERDUE)).reason is EndReason.MAX_LENGTH


def test_a_caller_who_speaks_already_is_heard_before_the_call_ends() -> None:
    machine = talking(SPEAKS)
    goodbye, *rest = machine.handle(MAX_LENGTH)
    assert isinstance(goodbye, do.SayGoodbye)
    assert rest == [do.AwaitPlayedOut(), do.StartTimer("goodbye", 7)]
    assert machine.handle(HEARD) == ()
    assert machine.handle(STOPS) == (do.AwaitPlayedOut(),)
    assert outcome_of(machine, machine.handle(HEARD)).reason is EndReason.MAX_LENGTH


def test_a_hang_up_given_up_on_a_call_that_got_too_long_meanwhile_still_ends_it() -> None:
    machine = talking(HANG_UP, MAX_LENGTH)
    assert machine.handle(SPEAKS) == (
        *CUT,
        do.Note("hang_up_given_up", {}),
        do.TellAgent(ENDS_ALL_THE_SAME, respond=False),
    )
    assert machine.handle(STOPS) == (do.AwaitPlayedOut(),)
    assert outcome_of(machine, machine.handle(HEARD)).reason is EndReason.MAX_LENGTH


@pytest.mark.parametrize(
    ("gone", "orders"),
    [
        (LOST, (do.AwaitPlayedOut(),)),
        (ev.AgentAway(CALL, "reset"), (do.AwaitPlayedOut(), do.StartFiller())),
        (ev.LegHeld(CALL), (do.MuteCaller(), do.PausePlayout(), do.AwaitPlayedOut(), do.StartTimer("hold", 90))),
    ],
    ids=["lost", "away", "on hold"],
)
def test_a_turn_whose_end_nobody_can_tell_any_more_is_not_waited_for(
    gone: ev.CallEvent, orders: tuple[do.CallAction, ...]
) -> None:
    machine = talking(MAX_LENGTH, SPEAKS, HEARD)
    assert machine.handle(gone) == orders
    assert outcome_of(machine, machine.handle(HEARD)).reason is EndReason.MAX_LENGTH


# Last words before a transfer


def test_a_transfer_waits_for_a_caller_who_speaks_over_the_last_words() -> None:
    machine = talking(TRANSFER)
    assert machine.handle(SPEAKS) == CUT
    assert machine.handle(HEARD) == ()
    assert machine.handle(STOPS) == (do.AwaitPlayedOut(),)
    assert do.Transfer("sip:desk@192.0.2.7") in machine.handle(HEARD)


def test_a_transfer_waits_no_longer_than_last_words_may_take() -> None:
    machine = talking(TRANSFER, SPEAKS, HEARD)
    assert do.Transfer("sip:desk@192.0.2.7") in machine.handle(OVERDUE)


def test_a_cough_before_a_transfer_only_holds_it_up() -> None:
    machine = talking(TRANSFER, routed=replace(ROUTED, guard_ms=400))
    assert machine.handle(SPEAKS_IN_A_PAUSE) == (do.PausePlayout(), do.StartTimer("guard", 0.4))
    assert machine.handle(HEARD) == ()
    assert machine.handle(STOPS) == (do.CancelTimer("guard"), do.ResumePlayout(), do.AwaitPlayedOut())
    assert do.Transfer("sip:desk@192.0.2.7") in machine.handle(HEARD)


# A budget


def test_an_agent_whose_budget_is_nearly_spent_is_told_to_come_to_an_end() -> None:
    machine = talking()
    assert machine.handle(LOW) == (do.TellAgent(WIND_UP, respond=False),)
    assert machine.phase is Phase.ACTIVE


@pytest.mark.parametrize("wish", [HANG_UP, TRANSFER])
def test_an_agent_that_is_leaving_already_is_told_nothing_of_its_budget(wish: ev.CallEvent) -> None:
    assert talking(wish).handle(LOW) == ()


def test_a_call_over_its_budget_says_so_at_its_end() -> None:
    machine = talking()
    goodbye, *_ = machine.handle(USED_UP)
    assert goodbye == do.SayGoodbye(OVER_BUDGET)
    outcome = outcome_of(machine, machine.handle(HEARD))
    assert outcome.reason is EndReason.BUDGET_USED_UP
    assert outcome.detail == "max_usd 1: 1.01 US dollars spent"
    assert outcome.code(answered=True) == 200


def test_a_hang_up_given_up_on_a_call_over_its_budget_still_ends_it() -> None:
    machine = talking(HANG_UP, USED_UP, SPEAKS, STOPS)
    assert outcome_of(machine, machine.handle(HEARD)).reason is EndReason.BUDGET_USED_UP
