"""Transfers over a second leg: blind, warm, and when REFER is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.audio.played import PlayoutPosition
from gateway.call import actions as do
from gateway.call import builtin_tools as tool
from gateway.call import events as ev
from gateway.call.machine.machine import CallMachine
from gateway.call.machine.phase import Phase
from gateway.call.outcome import EndReason, Outcome
from gateway.errors import AgentLost
from tests.unit.call.machine.talks import BYE, CALL, ROUTED, outcome_of, talking

pytestmark = pytest.mark.unit

DESK = "sip:desk@192.0.2.7"
BRIDGE = replace(ROUTED, transfers="bridge")
REFER = replace(ROUTED, transfers="refer")
ASKED = tool.TransferAsked(CALL, "call_1", DESK)
WARM = tool.TransferAsked(CALL, "call_1", DESK, warm=True, summary="A caller about order 7.")
HEARD = ev.PlayedOut(CALL)
UP = ev.SecondUp(CALL, "PCMA/8000")
LOST = ev.AgentFailed(CALL, AgentLost("reset"))
TRANSFERRED = Outcome(EndReason.TRANSFERRED, DESK, 200)
CALLED = (
    *(do.CallSecond(DESK), do.StartTimer("second", 20)),
    *(do.CancelResponse(), do.FlushPlayout(), do.TalkToSecond(), do.MuteCaller()),
)


def failed(cause: str, *, respond: bool = True) -> do.AnswerTool:
    return do.AnswerTool("call_1", f"The transfer failed: {cause}. The caller is still here.", respond)


def calling(*events: ev.CallEvent) -> CallMachine:
    return talking(ASKED, HEARD, *events, routed=BRIDGE)


def briefing(*events: ev.CallEvent) -> CallMachine:
    return talking(WARM, HEARD, ev.SecondUp(CALL, "PCMA/8000", at=PlayoutPosition("item_1", 300)), *events)


def joined(*events: ev.CallEvent) -> CallMachine:
    machine = calling()
    for event in (UP, *events):
        machine.handle(event)
    assert machine.phase is Phase.JOINED
    return machine


# Blind, over a second leg


def test_a_bridged_transfer_calls_the_target_when_the_last_words_were_heard() -> None:
    machine = talking(routed=BRIDGE)
    assert machine.handle(ASKED) == (do.AwaitPlayedOut(), do.StartTimer("goodbye", 7))
    assert machine.handle(HEARD) == (do.CancelTimer("goodbye"), *CALLED)
    assert machine.handle(ev.SecondRinging(CALL, 180)) == ()


def test_last_words_that_take_too_long_are_cut_where_they_were() -> None:
    machine = talking(ASKED, routed=BRIDGE)
    actions = machine.handle(ev.TimerFired(CALL, "goodbye", at=PlayoutPosition("item_1", 900)))
    assert actions[:5] == (*CALLED[:4], do.Truncate("item_1", 900))


def test_the_caller_is_joined_with_whoever_answers_and_the_agent_is_closed() -> None:
    machine = calling()
    assert machine.handle(UP) == (do.CancelTimer("second"), do.FlushPlayout(), do.JoinLegs(), do.CloseAgent())
    assert machine.phase is Phase.JOINED


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        (ev.SecondClosed(CALL, 486, "Busy Here"), "486 Busy Here"),
        (ev.SecondClosed(CALL, 603, ""), "603"),
    ],
)
def test_a_target_that_cannot_be_had_leaves_the_caller_with_the_agent(end: ev.CallEvent, cause: str) -> None:
    machine = calling()
    assert machine.handle(end) == (do.CancelTimer("second"), do.TalkToCaller(), do.UnmuteCaller(), failed(cause))
    assert machine.handle(UP) == ()
    assert machine.handle(replace(ASKED, tool_call_id="call_2")) == (do.AwaitPlayedOut(), do.StartTimer("goodbye", 7))
    assert machine.handle(HEARD) == (do.CancelTimer("goodbye"), *CALLED)


def test_a_target_that_does_not_answer_is_given_up() -> None:
    machine = calling()
    back = (do.TalkToCaller(), do.UnmuteCaller(), do.DropSecond(), failed("no answer within 20 s"))
    assert machine.handle(ev.TimerFired(CALL, "second")) == back
    assert machine.handle(ev.SecondClosed(CALL, 487, "Request Terminated")) == ()
    assert machine.phase is Phase.ACTIVE


def test_one_second_leg_at_a_time() -> None:
    machine = calling(ev.TimerFired(CALL, "second"), replace(ASKED, tool_call_id="call_2"))
    timer, answer = machine.handle(HEARD)
    assert timer == do.CancelTimer("goodbye")
    assert isinstance(answer, do.AnswerTool)
    assert "still being ended" in answer.output
    machine.handle(ev.SecondClosed(CALL, 487, ""))
    machine.handle(replace(ASKED, tool_call_id="call_3"))
    assert do.CallSecond(DESK) in machine.handle(HEARD)


def test_a_caller_who_hangs_up_takes_the_second_leg_with_them() -> None:
    machine = calling()
    actions = machine.handle(BYE)
    assert do.DropSecond() in actions
    assert outcome_of(machine, actions).reason is EndReason.CALLER_HUNG_UP


def test_keys_and_speech_of_a_caller_who_waits_are_not_for_the_agent() -> None:
    machine = calling()
    assert machine.handle(ev.DigitPressed(CALL, "0")) == ()
    assert machine.handle(ev.SpeechStarted(CALL, at=PlayoutPosition("item_1", 20))) == ()


def test_a_blind_transfer_goes_through_without_the_agent() -> None:
    machine = calling()
    assert machine.handle(LOST) == ()
    assert do.JoinLegs() in machine.handle(UP)


def test_a_blind_transfer_that_fails_without_the_agent_ends_the_call_and_its_second_leg() -> None:
    machine = calling(LOST)
    actions = machine.handle(ev.TimerFired(CALL, "second"))
    assert do.DropSecond() in actions
    assert outcome_of(machine, actions).reason is EndReason.AGENT_LOST


# When REFER is refused


def test_a_refused_refer_calls_the_target_instead() -> None:
    machine = talking(ASKED)
    assert do.Transfer(DESK) in machine.handle(HEARD)
    assert machine.handle(ev.TransferEnded(CALL, 603, "Decline", refused=True)) == (do.CancelTimer("transfer"), *CALLED)


def test_a_target_that_was_called_by_refer_and_is_busy_is_not_called_again() -> None:
    machine = talking(ASKED, HEARD)
    answer = (do.CancelTimer("transfer"), failed("486 Busy Here"))
    assert machine.handle(ev.TransferEnded(CALL, 486, "Busy Here")) == answer


def test_where_only_refer_is_wanted_a_refused_one_fails() -> None:
    machine = talking(ASKED, HEARD, routed=REFER)
    answer = (do.CancelTimer("transfer"), failed("405 Method Not Allowed"))
    assert machine.handle(ev.TransferEnded(CALL, 405, "Method Not Allowed", refused=True)) == answer


def test_a_transfer_by_nobodys_tool_is_told_instead_of_answered() -> None:
    machine = talking(replace(ASKED, tool_call_id=""), HEARD, routed=BRIDGE)
    *_, told = machine.handle(ev.SecondClosed(CALL, 486, "Busy Here"))
    assert told == do.TellAgent("The transfer failed: 486 Busy Here. The caller is still here.", True)


# Warm


def test_a_warm_transfer_calls_the_target_whatever_the_trunk_does_and_the_caller_hears_the_filler() -> None:
    for routed in (ROUTED, BRIDGE, REFER):
        machine = talking(WARM, routed=routed)
        ringing = (do.CallSecond(DESK), do.StartTimer("second", 20), do.StartFiller())
        assert machine.handle(HEARD) == (do.CancelTimer("goodbye"), *ringing)


def test_the_agent_speaks_with_whoever_answers_first() -> None:
    machine = talking(WARM, HEARD)
    *orders, told, timer = machine.handle(ev.SecondUp(CALL, "PCMA/8000", at=PlayoutPosition("item_1", 300)))
    stopped = [
        do.CancelTimer("second"),
        do.StopFiller(),
        do.CancelResponse(),
        do.FlushPlayout(),
        do.Truncate("item_1", 300),
    ]
    assert orders == [*stopped, do.TalkToSecond()]
    assert isinstance(told, do.TellAgent)
    assert told.respond
    assert "A caller about order 7." in told.text
    assert "1 to take" in told.text
    assert timer == do.StartTimer("briefing", 60)


def test_a_warm_transfer_without_a_summary_says_what_to_tell() -> None:
    machine = talking(replace(WARM, summary=""), HEARD)
    assert any("who is calling" in order.text for order in machine.handle(UP) if isinstance(order, do.TellAgent))


def test_who_takes_the_call_with_1_is_joined_with_the_caller() -> None:
    machine = briefing()
    assert machine.handle(ev.SecondDigit(CALL, "5")) == ()
    taken = (do.CancelTimer("briefing"), do.FlushPlayout(), do.JoinLegs(), do.CloseAgent())
    assert machine.handle(ev.SecondDigit(CALL, "1", at=PlayoutPosition("item_2", 40))) == taken
    assert machine.phase is Phase.JOINED


@pytest.mark.parametrize(
    ("end", "orders", "cause"),
    [
        (
            ev.SecondDigit(CALL, "2", at=PlayoutPosition("item_2", 40)),
            [do.CancelTimer("briefing")],
            "they declined the call",
        ),
        (
            ev.SecondClosed(CALL, 200, "OK", at=PlayoutPosition("item_2", 40)),
            [do.CancelTimer("briefing")],
            "they hung up",
        ),
        (
            ev.TimerFired(CALL, "briefing", at=PlayoutPosition("item_2", 40)),
            [],
            "they did not take the call within 60 s",
        ),
    ],
)
def test_who_does_not_take_the_call_leaves_the_caller_with_the_agent(
    end: ev.CallEvent, orders: list[object], cause: str
) -> None:
    machine = briefing()
    drop = [] if isinstance(end, ev.SecondClosed) else [do.DropSecond()]
    cut = [do.CancelResponse(), do.FlushPlayout(), do.Truncate("item_2", 40), do.TalkToCaller()]
    words = f"The transfer failed: {cause}. You speak with the caller again."
    assert list(machine.handle(end)) == [*orders, *cut, *drop, do.AnswerTool("call_1", words)]
    assert machine.phase is Phase.ACTIVE


def test_whoever_the_agent_speaks_with_can_interrupt_it() -> None:
    machine = briefing()
    speaks = ev.SpeechStarted(CALL, at=PlayoutPosition("item_2", 700))
    assert machine.handle(speaks) == (do.FlushPlayout(), do.Truncate("item_2", 700))


def test_a_caller_on_hold_does_not_keep_the_agent_from_the_second_leg() -> None:
    machine = talking(WARM, HEARD, ev.LegHeld(CALL))
    orders = machine.handle(UP)
    assert do.UnmuteCaller() in orders
    orders = machine.handle(ev.SecondDigit(CALL, "2"))
    assert do.MuteCaller() in orders
    assert do.UnmuteCaller() in machine.handle(ev.LegResumed(CALL))


def test_a_caller_who_hangs_up_during_the_briefing_ends_it_all() -> None:
    machine = briefing()
    actions = machine.handle(BYE)
    assert do.DropSecond() in actions
    assert outcome_of(machine, actions).reason is EndReason.CALLER_HUNG_UP


def test_the_agent_cannot_hang_up_in_the_midst_of_a_transfer() -> None:
    (answer,) = briefing().handle(tool.HangUpAsked(CALL, "call_9", "done"))
    assert isinstance(answer, do.AnswerTool)
    assert answer.output.startswith("Error: ")


@pytest.mark.parametrize("loss", [LOST, ev.AgentClosed(CALL, 1000, "")])
def test_an_agent_lost_while_it_briefs_somebody_leaves_the_two_to_each_other(loss: ev.CallEvent) -> None:
    machine = briefing()
    assert machine.handle(loss) == (do.CancelTimer("briefing"), do.FlushPlayout(), do.JoinLegs(), do.CloseAgent())
    assert machine.phase is Phase.JOINED


def test_an_agent_lost_while_the_target_rings_leaves_the_two_to_each_other_too() -> None:
    machine = talking(WARM, HEARD)
    assert machine.handle(LOST) == ()
    assert machine.handle(UP) == (
        do.CancelTimer("second"),
        do.StopFiller(),
        do.FlushPlayout(),
        do.JoinLegs(),
        do.CloseAgent(),
    )


def test_a_call_that_got_too_long_meanwhile_ends_when_the_target_declines() -> None:
    machine = briefing(ev.TimerFired(CALL, "max_length"))
    actions = machine.handle(ev.SecondDigit(CALL, "2"))
    assert actions[-1] == do.StartTimer("goodbye", 7)
    assert outcome_of(machine, machine.handle(HEARD)).reason is EndReason.MAX_LENGTH


# Joined


def test_either_side_hanging_up_ends_a_joined_call_as_transferred() -> None:
    machine = joined()
    actions = machine.handle(BYE)
    assert actions[:2] == (do.CancelTimer("max_length"), do.DropSecond())
    assert outcome_of(machine, actions) == TRANSFERRED
    machine = joined()
    actions = machine.handle(ev.SecondClosed(CALL, 200, "OK"))
    assert do.HangUp(200, "Transferred") in actions
    assert do.DropSecond() not in actions
    assert outcome_of(machine, actions) == TRANSFERRED


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (ev.StopAsked(CALL, "drain"), EndReason.SHUTDOWN),
        (ev.MediaLost(CALL, 30), EndReason.NO_RTP),
        (ev.TimerFired(CALL, "max_length"), EndReason.MAX_LENGTH),
        (ev.LegClosed(CALL, by_caller=False, code=500, reason=""), EndReason.SIP_ERROR),
    ],
)
def test_what_else_ends_a_joined_call_drops_the_second_leg(end: ev.CallEvent, reason: EndReason) -> None:
    machine = joined()
    actions = machine.handle(end)
    assert do.DropSecond() in actions
    assert outcome_of(machine, actions).reason is reason


def test_a_joined_call_that_got_too_long_before_has_its_time_once_more() -> None:
    machine = briefing(ev.TimerFired(CALL, "max_length"))
    assert do.StartTimer("max_length", 600) in machine.handle(ev.SecondDigit(CALL, "1"))
    assert outcome_of(machine, machine.handle(ev.TimerFired(CALL, "max_length"))).reason is EndReason.MAX_LENGTH


def test_a_joined_caller_on_hold_is_waited_for_only_so_long() -> None:
    machine = joined()
    assert machine.handle(ev.LegHeld(CALL)) == (do.StartTimer("hold", 90),)
    assert machine.handle(ev.LegResumed(CALL)) == (do.CancelTimer("hold"),)
    machine.handle(ev.LegHeld(CALL))
    assert outcome_of(machine, machine.handle(ev.TimerFired(CALL, "hold"))).reason is EndReason.HELD_TOO_LONG


def test_a_hold_that_began_before_the_join_still_counts() -> None:
    machine = calling(ev.LegHeld(CALL))
    machine.handle(UP)
    assert machine.handle(ev.LegResumed(CALL)) == (do.CancelTimer("hold"),)


def test_what_is_late_of_the_agent_and_the_keys_they_press_change_nothing() -> None:
    machine = joined()
    for event in (
        LOST,
        ev.AgentClosed(CALL, 1000, ""),
        HEARD,
        ev.DigitPressed(CALL, "0"),
        ev.SecondDigit(CALL, "2"),
        UP,
    ):
        assert machine.handle(event) == ()
    assert machine.phase is Phase.JOINED


def test_a_transfer_that_is_told_late_was_one() -> None:
    machine = talking(ASKED, HEARD, routed=REFER)
    assert machine.handle(ev.TimerFired(CALL, "transfer")) != ()
    assert machine.handle(ev.TransferEnded(CALL, 408, "Request Timeout")) == ()
    actions = machine.handle(ev.TransferEnded(CALL, 200, "OK"))
    assert outcome_of(machine, actions) == TRANSFERRED
