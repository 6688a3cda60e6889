"""Steps with an agent: how it is chosen and waited for, and what follows when it is not there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.call import actions as do
from gateway.call import builtin_tools as tool
from gateway.call import events as ev
from gateway.call.machine.ending import OVER_BUDGET
from gateway.call.machine.ivr import RefuseCall
from gateway.call.machine.machine import CallMachine
from gateway.call.machine.phase import Phase
from gateway.call.outcome import EndReason, Fault
from gateway.call.steps import TalkTo
from gateway.errors import AgentLost, AgentRefused, SessionsFull
from tests.unit.call.machine.plans import (
    AGENT,
    BUSY,
    CALL,
    DESK,
    GONE,
    HELLO,
    LOST,
    READY,
    ROUTED,
    SORRY,
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


def test_an_agent_is_chosen_first_and_its_call_begins_as_ever() -> None:
    machine = CallMachine()
    assert machine.handle(planned(AGENT)) == (told("agent", "reception"), do.ChooseAgent(AGENT))
    assert machine.phase is Phase.ROUTING
    assert machine.handle(ROUTED) == (do.Ring(), do.OpenAgent(), do.StartTimer("setup", 8))
    assert machine.handle(READY) == (do.Answer(),)
    assert machine.handle(UP) == (do.CancelTimer("setup"), do.Greet(), do.StartTimer("max_length", 600))


def test_the_plan_says_how_a_caller_is_refused_whose_agent_cannot_be_had() -> None:
    machine = after(AGENT, ROUTED)
    actions = machine.handle(LOST)
    assert do.HangUp(480, "Agent lost") in actions
    assert outcome_of(machine, actions).reason is EndReason.AGENT_LOST


def test_a_model_without_a_free_session_takes_the_step_for_that() -> None:
    full = ev.AgentFailed(CALL, SessionsFull("m has 2 sessions"))
    machine = after(replace(AGENT, otherwise=SORRY, full=RefuseCall(486)), ROUTED)
    actions = machine.handle(full)
    assert told("reject", "486", "sessions_full: m has 2 sessions") in actions
    assert do.HangUp(486, "") in actions
    machine = after(replace(AGENT, otherwise=SORRY), ROUTED)
    assert told("announce", "sorry.wav", "sessions_full: m has 2 sessions") in machine.handle(full)
    machine = after(AGENT, ROUTED)
    assert outcome_of(machine, machine.handle(full)).reason is EndReason.SESSIONS_FULL
    machine = after(replace(AGENT, otherwise=SORRY, full=RefuseCall(486)), ROUTED)
    assert told("announce", "sorry.wav", "agent_lost: gone") in machine.handle(ev.AgentFailed(CALL, AgentLost("gone")))


def test_an_agent_that_cannot_be_made_refuses_the_caller() -> None:
    machine = after(AGENT)
    actions = machine.handle(ev.ChoiceFailed(CALL, "agent: no such value"))
    assert actions == (do.HangUp(500, "Internal error"), do.StartTimer("ending", 5))
    outcome = outcome_of(machine, actions)
    assert (outcome.reason, outcome.detail, outcome.sip_code) == (
        EndReason.INTERNAL_ERROR,
        "agent: no such value",
        500,
    )
    assert outcome.fault is Fault.CONFIGURATION


def test_an_agent_that_cannot_be_made_leaves_the_call_to_the_next_step() -> None:
    machine = after(replace(AGENT, otherwise=SORRY))
    actions = machine.handle(ev.ChoiceFailed(CALL, "no such value"))
    assert actions[0] == told("announce", "sorry.wav", "internal_error: no such value")
    assert orders(actions) == [do.Answer()]


def test_a_ready_agent_waits_until_the_caller_has_rung_long_enough() -> None:
    machine = after(replace(AGENT, answer_after_s=3))
    assert do.StartTimer("patience", 3) in machine.handle(ROUTED)
    assert machine.handle(READY) == (do.CancelTimer("setup"),)
    assert machine.handle(fired("patience")) == (do.Answer(), do.StartTimer("setup", 8))
    machine.handle(UP)
    assert machine.phase is Phase.ACTIVE


def test_a_caller_who_has_rung_long_enough_is_answered_as_soon_as_the_agent_is_ready() -> None:
    machine = after(replace(AGENT, answer_after_s=3), ROUTED)
    assert machine.handle(fired("patience")) == ()
    assert machine.handle(READY) == (do.Answer(),)


def test_a_caller_who_was_answered_hears_the_filler_until_the_agent_is_ready() -> None:
    machine = after(replace(HELLO, then=replace(AGENT, prompt="Ask for the number.")), UP, played())
    asked = (do.StartFiller(), do.OpenAgent(), do.StartTimer("setup", 8))
    assert (machine.handle(ROUTED), machine.phase) == (asked, Phase.WAITING)
    actions = machine.handle(READY)
    assert actions == (do.CancelTimer("setup"), do.StopFiller(), do.Greet("Ask for the number."))
    assert machine.phase is Phase.ACTIVE


@pytest.mark.parametrize(
    "event", [ev.AgentFailed(CALL, AgentRefused("key")), ev.AgentClosed(CALL, 1000, ""), fired("setup")]
)
def test_a_waiting_caller_whose_agent_does_not_come_goes_on_with_the_next_step(event: ev.CallEvent) -> None:
    machine = after(replace(HELLO, then=replace(AGENT, otherwise=SORRY)), UP, played(), ROUTED)
    actions = machine.handle(event)
    assert orders(actions) == [do.StopFiller(), do.CloseAgent(), do.Play(("sorry.wav",)), do.AwaitPlayedOut(2)]
    assert machine.phase is Phase.ATTENDING


def test_an_agent_that_is_lost_in_a_talk_leaves_the_caller_to_another() -> None:
    machine = after(replace(AGENT, otherwise=TalkTo("night")), replace(ROUTED, recording=True, can_record=True), READY)
    machine.handle(UP)
    actions = machine.handle(LOST)
    assert orders(actions) == [do.FlushPlayout(), do.PauseRecording(), do.CloseAgent(), do.ChooseAgent(TalkTo("night"))]
    assert told("agent", "night", "agent_lost: reset") in actions
    assert orders(machine.handle(ROUTED)) == [do.StartFiller(), do.OpenAgent()]
    assert orders(machine.handle(READY)) == [do.StopFiller(), do.Greet()]
    assert outcome_of(machine, machine.handle(LOST)).reason is EndReason.AGENT_LOST


def test_what_is_late_of_an_agent_that_was_closed_changes_nothing() -> None:
    machine = after(replace(AGENT, otherwise=TalkTo("night")), ROUTED, LOST)
    for late in (READY, LOST, ev.AgentClosed(CALL, 1000, "")):
        assert machine.handle(late) == ()
    assert machine.handle(ROUTED)[0] == do.OpenAgent()
    assert machine.phase is Phase.RINGING


def test_an_agent_lost_while_the_answer_is_on_its_way_is_followed_by_another_who_waits_for_the_media() -> None:
    machine = after(replace(AGENT, otherwise=TalkTo("night")), ROUTED, READY, LOST)
    assert orders(machine.handle(ROUTED)) == [do.StartFiller(), do.OpenAgent()]
    assert machine.handle(READY) == ()
    assert machine.handle(UP) == (
        do.CancelTimer("setup"),
        do.StopFiller(),
        do.Greet(),
        do.StartTimer("max_length", 600),
    )
    assert machine.phase is Phase.ACTIVE


def test_missing_media_is_no_fault_of_an_agent_and_ends_the_call() -> None:
    machine = after(replace(AGENT, otherwise=SORRY), ROUTED, READY)
    outcome = outcome_of(machine, machine.handle(fired("setup")))
    assert (outcome.reason, outcome.detail, outcome.fault) == (
        EndReason.SETUP_TIMEOUT,
        "no media within 8 s",
        Fault.CARRIER,
    )


def test_an_agent_whose_time_is_over_says_so_and_no_other_step_is_taken() -> None:
    machine = after(replace(AGENT, otherwise=SORRY), ROUTED, READY, UP, ev.AgentExpiring(CALL, 30))
    assert outcome_of(machine, machine.handle(ev.PlayedOut(CALL))).reason is EndReason.SESSION_EXPIRED


def test_the_agent_after_one_that_spent_the_budget_says_nothing_but_goodbye() -> None:
    spent = ev.BudgetUsedUp(CALL, 1.01, "max_usd 1")
    machine = after(replace(AGENT, keys={"5": AGENT}), ROUTED, READY, UP, key("5"), spent, ROUTED)
    assert machine.phase is Phase.WAITING
    actions = machine.handle(READY)
    assert do.SayGoodbye(OVER_BUDGET) in actions
    assert not any(isinstance(action, do.Greet) for action in actions)
    assert outcome_of(machine, machine.handle(ev.PlayedOut(CALL))).reason is EndReason.BUDGET_USED_UP


def test_a_caller_who_talks_with_a_person_is_not_cut_off_by_a_budget() -> None:
    machine = after(DESK, ev.SecondUp(CALL, "PCMU/8000"), UP)
    assert machine.phase is Phase.JOINED
    assert machine.handle(ev.BudgetUsedUp(CALL, 1.01, "usd_per_day 20")) == ()
    assert machine.phase is Phase.JOINED


def test_a_key_of_a_step_ends_the_agent_and_takes_what_it_is_for() -> None:
    machine = after(replace(AGENT, keys={"5": HELLO}), ROUTED, READY, UP)
    actions = machine.handle(key("5"))
    assert orders(actions) == [
        do.FlushPlayout(),
        do.CloseAgent(),
        do.Play(("hello.wav", "hours.wav")),
        do.AwaitPlayedOut(1),
    ]
    assert told("announce", "hello.wav, hours.wav", "key 5") in actions


def test_a_key_in_the_midst_of_a_number_belongs_to_the_number() -> None:
    machine = after(replace(AGENT, keys={"5": HELLO}), ROUTED, READY, UP, key("7"))
    machine.handle(key("5"))
    assert machine.phase is Phase.ACTIVE


def test_a_key_while_the_agent_says_goodbye_does_nothing_any_more() -> None:
    machine = after(replace(AGENT, keys={"5": HELLO}), ROUTED, READY, UP, fired("max_length"))
    assert machine.handle(key("5")) == ()


def test_an_agent_lost_while_the_target_of_a_transfer_rings_gives_the_caller_back_when_it_fails() -> None:
    machine = after(replace(AGENT, otherwise=DESK), ROUTED, READY, UP)
    machine.handle(tool.TransferAsked(CALL, "tool", "sip:other@192.0.2.7"))
    machine.handle(ev.PlayedOut(CALL))
    machine.handle(LOST)
    actions = machine.handle(fired("second"))
    assert orders(actions) == [do.FlushPlayout(), do.TalkToCaller(), do.DropSecond(), do.CloseAgent(), do.StartFiller()]
    # The leg before is still being ended: the next one waits for that.
    assert orders(machine.handle(GONE)) == [do.CallSecond("sip:desk@192.0.2.7")]


def test_a_call_that_got_too_long_meanwhile_takes_no_other_step() -> None:
    machine = after(replace(AGENT, otherwise=DESK), ROUTED, READY, UP)
    machine.handle(tool.TransferAsked(CALL, "tool", "sip:other@192.0.2.7"))
    for event in (ev.PlayedOut(CALL), fired("max_length"), LOST):
        machine.handle(event)
    assert outcome_of(machine, machine.handle(BUSY)).reason is EndReason.MAX_LENGTH


def test_a_recording_that_broke_off_is_not_begun_again_by_the_next_agent() -> None:
    recorded = replace(ROUTED, recording=True, can_record=True)
    machine = after(replace(AGENT, otherwise=AGENT), recorded, READY, UP, LOST, ev.RecordingFailed(CALL, "full"))
    machine.handle(recorded)
    assert orders(machine.handle(READY)) == [do.StopFiller(), do.Greet()]


def test_an_agent_that_nobody_waits_for_is_not_opened() -> None:
    machine = after(HELLO, UP)
    assert machine.handle(ROUTED) == machine.handle(ev.ChoiceFailed(CALL, "late")) == ()
    assert machine.phase is Phase.ATTENDING


def test_a_recording_that_fails_while_the_next_agent_is_opened_is_not_announced_by_it() -> None:
    recorded = replace(ROUTED, recording=True, announces=True, can_record=True)
    machine = after(replace(HELLO, then=AGENT), UP, played(), recorded, ev.RecordingFailed(CALL, "disk full"))
    assert orders(machine.handle(READY)) == [do.StopFiller(), do.Greet()]
