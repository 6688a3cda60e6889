"""Steps that call somebody else, refuse or redirect."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.call import actions as do
from gateway.call import events as ev
from gateway.call.machine.ivr import Redirect, RefuseCall
from gateway.call.machine.machine import CallMachine
from gateway.call.machine.phase import Phase
from gateway.call.outcome import EndReason, Outcome, Side
from tests.unit.call.machine.plans import (
    AGENT,
    ANSWERED,
    BELL,
    BUSY,
    BYE,
    CALL,
    CANCEL,
    DESK,
    EARLY,
    GONE,
    HELLO,
    MENU,
    READY,
    ROUTED,
    UP,
    after,
    fired,
    key,
    orders,
    planned,
    played,
    told,
)
from tests.unit.call.machine.talks import outcome_of

pytestmark = pytest.mark.unit

# Somebody else


def test_somebody_else_is_called_while_the_caller_rings_and_both_are_joined() -> None:
    machine = CallMachine()
    assert machine.handle(planned(BELL)) == (
        told("dial", "+15550100"),
        do.Ring(),
        do.CallSecond("+15550100", "out", {"X-Campaign": "spring"}),
        do.StartTimer("second", 20),
    )
    assert machine.handle(ANSWERED) == (do.CancelTimer("second"), do.Answer(), do.StartTimer("setup", 8))
    assert machine.handle(UP) == (do.StartTimer("max_length", 600), do.CancelTimer("setup"), do.JoinLegs())
    assert machine.phase is Phase.JOINED


@pytest.mark.parametrize("last", [GONE, BYE])
def test_whoever_of_the_two_hangs_up_ends_the_other(last: ev.CallEvent) -> None:
    machine = after(BELL, ANSWERED, UP)
    actions = machine.handle(last)
    assert (do.DropSecond() in actions) is (last is BYE)
    assert (do.HangUp(200, "Connected") in actions) is (last is GONE)
    assert outcome_of(machine, actions) == Outcome(EndReason.CONNECTED, "+15550100", 200)


def test_an_answered_caller_hears_the_filler_meanwhile() -> None:
    machine = after(MENU, UP)
    assert orders(machine.handle(key("2"))) == [
        do.FlushPlayout(),
        do.StartFiller(),
        do.CallSecond("sip:desk@192.0.2.7"),
    ]
    assert machine.handle(ANSWERED) == (do.CancelTimer("second"), do.StopFiller(), do.JoinLegs())


@pytest.mark.parametrize(
    ("closed", "reason", "told"),
    [
        (BUSY, EndReason.BUSY, 486),
        (ev.SecondClosed(CALL, 404, "Not Found"), EndReason.NO_SUCH_NUMBER, 404),
        (ev.SecondClosed(CALL, 407, "Proxy Authentication Required"), EndReason.UNREACHABLE, 503),
        (ev.SecondClosed(CALL, 302, "Moved Temporarily"), EndReason.REDIRECTED, 480),
        (ev.SecondClosed(CALL, 487, "Request Terminated"), EndReason.NO_ANSWER, 480),
        (ev.SecondClosed(CALL, 480, "Temporarily Unavailable", cause=34), EndReason.CONGESTION, 480),
        (ev.SecondClosed(CALL, 500, "Server Internal Error", cause=17), EndReason.BUSY, 486),
        (ev.SecondClosed(CALL, 500, "Server Internal Error", cause=19), EndReason.NO_ANSWER, 480),
    ],
)
def test_a_caller_is_told_why_somebody_else_could_not_be_had(
    closed: ev.SecondClosed, reason: EndReason, told: int
) -> None:
    machine = after(BELL)
    actions = machine.handle(closed)
    (hung_up,) = (action for action in actions if isinstance(action, do.HangUp))
    assert (hung_up.code, hung_up.cause) == (told, 23 if reason is EndReason.REDIRECTED else closed.cause)
    outcome = outcome_of(machine, actions)
    assert (outcome.reason, outcome.sip_code, outcome.ended_by) == (reason, closed.code, Side.GATEWAY)


def test_where_a_redirection_leads_is_written_down_and_nobody_goes_there() -> None:
    machine = after(BELL)
    actions = machine.handle(ev.SecondClosed(CALL, 302, "Moved Temporarily", contacts=("sip:2003@192.0.2.9",)))
    assert outcome_of(machine, actions).detail == "302 Moved Temporarily to sip:2003@192.0.2.9"
    (hung_up,) = (action for action in actions if isinstance(action, do.HangUp))
    assert (hung_up.reason, hung_up.contacts) == ("Redirected", ())


def test_the_cause_of_the_end_is_handed_on_to_a_joined_caller() -> None:
    machine = after(BELL, ANSWERED, UP)
    actions = machine.handle(ev.SecondClosed(CALL, 200, "", cause=41))
    assert do.HangUp(200, "Connected", cause=41) in actions


def test_nobody_who_answers_in_time_leads_to_the_next_step() -> None:
    machine = after(replace(BELL, otherwise=AGENT))
    actions = machine.handle(fired("second"))
    assert actions == (
        do.DropSecond(),
        told("agent", "reception", "480 no answer within 20 s"),
        do.ChooseAgent(AGENT),
    )
    # The leg that was dropped may have been answered at the same moment.
    assert machine.handle(ANSWERED) == ()
    machine.handle(ROUTED)
    assert machine.handle(ANSWERED) == machine.handle(GONE) == ()
    assert machine.handle(READY) == (do.Answer(),)


def test_a_hunt_calls_one_after_the_other_and_never_two_at_once() -> None:
    machine = after(replace(BELL, otherwise=replace(DESK, otherwise=AGENT)))
    assert orders(machine.handle(fired("second"))) == [do.DropSecond()]
    assert machine.handle(ANSWERED) == ()
    assert machine.handle(ev.SecondClosed(CALL, 487, "Request Terminated")) == (
        do.CancelTimer("second"),
        do.CallSecond("sip:desk@192.0.2.7"),
        do.StartTimer("second", 20),
    )
    assert machine.handle(BUSY)[-1] == do.ChooseAgent(AGENT)


def test_a_leg_that_does_not_end_is_not_waited_for_without_limit() -> None:
    machine = after(replace(BELL, otherwise=DESK), fired("second"))
    actions = machine.handle(fired("second"))
    assert do.DropSecond() not in actions
    assert outcome_of(machine, actions).reason is EndReason.NO_ANSWER


def test_somebody_who_answers_and_leaves_before_the_caller_is_there_was_connected() -> None:
    machine = after(replace(BELL, otherwise=AGENT), ANSWERED)
    assert outcome_of(machine, machine.handle(GONE)).reason is EndReason.CONNECTED


def test_a_caller_who_gives_up_while_somebody_else_rings_lets_go_of_them() -> None:
    machine = after(BELL)
    actions = machine.handle(CANCEL)
    assert actions == (
        do.CancelTimer("second"),
        do.DropSecond(),
        do.Finish(Outcome(EndReason.CALLER_CANCELLED, "487 Request Terminated", 487)),
    )


# Redirects and refusals


def test_a_refusal_has_its_own_code_and_words() -> None:
    machine = CallMachine()
    actions = machine.handle(planned(RefuseCall(486, "All lines busy")))
    assert orders(actions) == [do.HangUp(486, "All lines busy")]
    outcome = outcome_of(machine, actions)
    assert (outcome.reason, outcome.detail, outcome.sip_code) == (EndReason.REJECTED, "486 All lines busy", 486)


def test_a_refusal_without_words_leaves_them_to_the_sip_side() -> None:
    assert do.HangUp(603, "") in CallMachine().handle(planned(RefuseCall(603)))


@pytest.mark.parametrize("missing", [False, True])
def test_a_refusal_is_announced_before_it_as_far_as_the_network_lets_it(missing: bool) -> None:
    machine = CallMachine()
    assert orders(machine.handle(planned(RefuseCall(480, "", "sorry.wav")))) == [do.Progress()]
    if not missing:
        assert orders(machine.handle(EARLY)) == [do.Play(("sorry.wav",)), do.AwaitPlayedOut(1)]
    actions = machine.handle(fired("setup") if missing else played())
    assert orders(actions) == [do.HangUp(480, "")]


def test_a_refusal_of_a_caller_who_was_answered_is_played_and_ends_with_bye() -> None:
    machine = after(replace(HELLO, then=RefuseCall(403, "Closed", "sorry.wav")), UP)
    assert orders(machine.handle(played())) == [do.Play(("sorry.wav",)), do.AwaitPlayedOut(2)]
    assert orders(machine.handle(played(2))) == [do.HangUp(403, "Closed")]


def test_a_redirect_gives_the_contacts_in_a_302() -> None:
    contacts = ("sip:a@192.0.2.7", "sip:b@192.0.2.7")
    machine = CallMachine()
    actions = machine.handle(planned(Redirect(contacts)))
    assert orders(actions) == [do.HangUp(302, "Moved Temporarily", contacts)]
    assert outcome_of(machine, actions).reason is EndReason.REDIRECTED


def test_a_caller_who_was_answered_is_redirected_by_refer_to_the_first_who_takes_them() -> None:
    machine = after(replace(HELLO, then=Redirect(("sip:a@192.0.2.7", "sip:b@192.0.2.7"))), UP)
    assert orders(machine.handle(played())) == [do.Transfer("sip:a@192.0.2.7")]
    assert orders(machine.handle(ev.TransferEnded(CALL, 486, "Busy Here"))) == [do.Transfer("sip:b@192.0.2.7")]
    actions = machine.handle(ev.TransferEnded(CALL, 200, "OK"))
    assert outcome_of(machine, actions) == Outcome(EndReason.REDIRECTED, "sip:b@192.0.2.7", 200)


@pytest.mark.parametrize(
    ("event", "reason"),
    [(ev.TransferEnded(CALL, 486, "Busy Here"), EndReason.BUSY), (fired("transfer"), EndReason.NO_ANSWER)],
)
def test_a_redirect_by_refer_that_fails_ends_the_call(event: ev.CallEvent, reason: EndReason) -> None:
    machine = after(replace(HELLO, then=Redirect(("sip:a@192.0.2.7",))), UP, played())
    assert outcome_of(machine, machine.handle(event)).reason is reason
