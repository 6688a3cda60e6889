"""Calls that we place: the agent first, then the far end, and what its refusals mean."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.audio.played import PlayoutPosition
from gateway.call import actions as do
from gateway.call import builtin_tools as tool
from gateway.call import events as ev
from gateway.call.machine.machine import CallMachine
from gateway.call.machine.phase import Phase
from gateway.call.outcome import EndReason, Outcome, Side
from gateway.errors import AgentLost, AgentRefused
from tests.unit.call.machine.talks import CALL, READY, ROUTED, UP, after, outcome_of

pytestmark = pytest.mark.unit

OUTBOUND = replace(ROUTED, outbound=True)
HEARD = ev.PlayedOut(CALL)


def dialing(*events: ev.CallEvent) -> CallMachine:
    machine = after(OUTBOUND, READY, *events)
    assert machine.phase is Phase.DIALING
    return machine


def test_the_far_end_is_called_only_when_the_agent_is_ready() -> None:
    machine = CallMachine()
    asked = (do.OpenAgent(), do.StartTimer("setup", 8))
    assert (machine.handle(OUTBOUND), machine.phase) == (asked, Phase.PREPARING)
    assert machine.handle(READY) == (do.CancelTimer("setup"), do.Dial(), do.StartTimer("ringing", 20))
    assert machine.phase is Phase.DIALING


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (ev.AgentFailed(CALL, AgentRefused("key")), EndReason.AGENT_REFUSED),
        (ev.TimerFired(CALL, "setup"), EndReason.SETUP_TIMEOUT),
    ],
)
def test_without_an_agent_nobody_is_called(end: ev.CallEvent, reason: EndReason) -> None:
    machine = after(OUTBOUND)
    actions = machine.handle(end)
    assert do.CloseAgent() in actions
    assert outcome_of(machine, actions).reason is reason


def test_the_agent_greets_after_the_answer_and_not_when_it_rings() -> None:
    machine = dialing()
    assert machine.handle(ev.LegRinging(CALL, 180)) == ()
    assert machine.handle(ev.LegRinging(CALL, 183)) == ()
    assert machine.handle(ev.SpeechStarted(CALL)) == ()
    assert machine.handle(UP) == (do.CancelTimer("ringing"), do.Greet(), do.StartTimer("max_length", 600))
    assert machine.phase is Phase.ACTIVE


def test_a_far_end_that_rings_too_long_is_given_up() -> None:
    machine = dialing(ev.LegRinging(CALL, 180))
    actions = machine.handle(ev.TimerFired(CALL, "ringing"))
    assert actions == (do.CloseAgent(), do.HangUp(487, "No answer"), do.StartTimer("ending", 5.0))
    outcome = outcome_of(machine, actions)
    assert outcome == Outcome(EndReason.NO_ANSWER, "no answer within 20 s", 487)
    assert outcome.ended_by is Side.CALLER


def test_a_redirection_is_told_with_its_target_and_not_followed() -> None:
    to = ("sip:2003@192.0.2.9", "sip:2002@192.0.2.9")
    closed = ev.LegClosed(CALL, by_caller=True, code=302, reason="Moved Temporarily", contacts=to)
    outcome = Outcome(EndReason.REDIRECTED, f"302 Moved Temporarily to {', '.join(to)}", 302, by=Side.CALLER, cause=23)
    assert dialing().handle(closed)[-1] == do.Finish(outcome)


@pytest.mark.parametrize(
    ("code", "cause", "reason"),
    [
        (480, 34, EndReason.CONGESTION),
        (500, 17, EndReason.BUSY),
        (500, 19, EndReason.NO_ANSWER),
        (503, 1, EndReason.NO_SUCH_NUMBER),
        (480, 21, EndReason.DECLINED),
        (480, 27, EndReason.UNREACHABLE),
        (486, 16, EndReason.BUSY),  # says nothing more
        (404, 127, EndReason.NO_SUCH_NUMBER),
    ],
)
def test_the_cause_of_the_telephone_network_counts_for_more_than_a_vague_status(
    code: int, cause: int, reason: EndReason
) -> None:
    closed = ev.LegClosed(CALL, by_caller=True, code=code, reason="Words", cause=cause)
    outcome = dialing().handle(closed)[-1].outcome  # type: ignore[attr-defined]
    assert (outcome.reason, outcome.sip_code, outcome.cause, outcome.ended_by) == (reason, code, cause, Side.CALLER)


def test_an_answer_that_is_of_no_use_is_ours_to_refuse() -> None:
    closed = ev.LegClosed(CALL, by_caller=False, code=488, reason="Not Acceptable Here")
    outcome = dialing().handle(closed)[-1].outcome  # type: ignore[attr-defined]
    assert (outcome.reason, outcome.ended_by) == (EndReason.NO_COMMON_MEDIA, Side.GATEWAY)


@pytest.mark.parametrize(
    ("codes", "reason"),
    [
        ((486, 600), EndReason.BUSY),
        ((408, 480, 487), EndReason.NO_ANSWER),
        ((403, 603, 607, 608), EndReason.DECLINED),
        ((404, 410, 484, 604), EndReason.NO_SUCH_NUMBER),
        ((400, 401, 488, 500, 503, 606), EndReason.UNREACHABLE),
    ],
)
def test_refusals_of_the_far_end_are_told_apart(codes: tuple[int, ...], reason: EndReason) -> None:
    for code in codes:
        actions = dialing().handle(ev.LegClosed(CALL, by_caller=True, code=code, reason="Words"))
        assert actions[:-1] == (do.CloseAgent(), do.CancelTimer("ringing"))
        outcome = actions[-1].outcome  # type: ignore[attr-defined]
        assert (outcome.reason, outcome.detail, outcome.sip_code) == (reason, f"{code} Words", code)


def test_a_far_end_that_answers_and_is_gone_at_once_hung_up() -> None:
    machine = dialing()
    actions = machine.handle(ev.LegClosed(CALL, by_caller=True, code=200, reason="OK"))
    assert outcome_of(machine, actions).reason is EndReason.CALLER_HUNG_UP


def test_an_agent_lost_while_it_rings_ends_the_call() -> None:
    machine = dialing(ev.AgentAway(CALL, "reset"), ev.AgentBack(CALL, "sess_2"))
    actions = machine.handle(ev.AgentFailed(CALL, AgentLost("reset")))
    assert outcome_of(machine, actions).reason is EndReason.AGENT_LOST


@pytest.mark.parametrize("way", [(ROUTED, READY), (OUTBOUND, READY)])
def test_an_agent_whose_session_expires_before_the_media_is_up_says_goodbye_then(way: tuple[ev.CallEvent, ...]) -> None:
    machine = after(*way)
    assert machine.handle(ev.AgentExpiring(CALL, 30)) == ()
    actions = machine.handle(UP)
    assert do.Greet() not in actions
    assert isinstance(actions[1], do.SayGoodbye)
    assert outcome_of(machine, machine.handle(HEARD)).reason is EndReason.SESSION_EXPIRED


# Voicemail


def test_a_message_is_left_in_one_go_and_ends_the_call() -> None:
    machine = after(OUTBOUND, READY, UP)
    words = "Say the message now, in one go; the call ends after it."
    assert machine.handle(tool.LeaveMessageAsked(CALL, "call_1")) == (
        do.MuteCaller(),
        do.AnswerTool("call_1", words, respond=True),
        do.AwaitPlayedOut(),
        do.StartTimer("goodbye", 120),
    )
    assert machine.handle(ev.SpeechStarted(CALL, at=PlayoutPosition("item_1", 500))) == ()
    assert machine.handle(ev.DigitPressed(CALL, "0", at=PlayoutPosition("item_1", 500))) == ()
    assert machine.handle(ev.MediaLost(CALL, 30)) == ()
    assert machine.handle(ev.TimerFired(CALL, "max_length")) == ()
    (refused,) = machine.handle(tool.HangUpAsked(CALL, "call_2", "done"))
    assert isinstance(refused, do.AnswerTool)
    outcome = outcome_of(machine, machine.handle(HEARD))
    assert outcome == Outcome(EndReason.MESSAGE_LEFT, "the agent left a message", 200)
    assert outcome.ended_by is Side.AGENT


def test_a_message_without_end_ends_all_the_same() -> None:
    machine = after(OUTBOUND, READY, UP, tool.LeaveMessageAsked(CALL, "call_1"))
    assert outcome_of(machine, machine.handle(ev.TimerFired(CALL, "goodbye"))).reason is EndReason.MESSAGE_LEFT


def test_a_message_is_asked_for_once() -> None:
    machine = after(OUTBOUND, READY, UP, tool.LeaveMessageAsked(CALL, "call_1"))
    assert machine.handle(tool.LeaveMessageAsked(CALL, "call_1")) == ()
    (refused,) = machine.handle(tool.LeaveMessageAsked(CALL, "call_2"))
    assert isinstance(refused, do.AnswerTool)
    assert refused.output.startswith("Error: ")
