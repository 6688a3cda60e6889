"""A caller who puts us on hold: the agent neither talks into the music nor listens to it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.audio.played import PlayoutPosition
from gateway.call import actions as do
from gateway.call import builtin_tools as tool
from gateway.call import events as ev
from gateway.call.machine.phase import Phase
from gateway.call.outcome import EndReason, Outcome, Side
from gateway.errors import AgentLost
from tests.unit.call.machine.talks import CALL, GUARDED, READY, ROUTED, UP, after, outcome_of, talking

pytestmark = pytest.mark.unit

HELD, RESUMED = ev.LegHeld(CALL), ev.LegResumed(CALL)
ON_HOLD = (do.MuteCaller(), do.PausePlayout(), do.StartTimer("hold", 90))
OFF_HOLD = (do.CancelTimer("hold"), do.UnmuteCaller(), do.ResumePlayout())


def test_on_hold_the_agent_hears_nothing_and_what_it_says_waits() -> None:
    machine = talking()
    assert machine.handle(HELD) == ON_HOLD
    assert machine.handle(RESUMED) == OFF_HOLD
    assert machine.handle(HELD) == ON_HOLD


def test_a_hold_told_twice_and_a_resume_without_one_change_nothing() -> None:
    machine = talking()
    assert machine.handle(RESUMED) == ()
    machine.handle(HELD)
    assert machine.handle(HELD) == ()
    machine.handle(RESUMED)
    assert machine.handle(RESUMED) == ()


def test_nothing_interrupts_an_agent_on_hold() -> None:
    for routed in (ROUTED, GUARDED):
        machine = talking(HELD, routed=routed)
        assert machine.handle(ev.SpeechStarted(CALL, at=PlayoutPosition("item_1", 100), responding=True)) == ()
        assert machine.handle(ev.SpeechStopped(CALL)) == ()
        assert machine.handle(ev.DigitPressed(CALL, "5", at=PlayoutPosition("item_1", 100))) == ()


def test_speech_that_was_being_weighed_when_the_hold_came_lets_the_agent_go_on_after_it() -> None:
    machine = talking(ev.SpeechStarted(CALL, at=PlayoutPosition("item_1", 500)), routed=GUARDED)
    assert machine.handle(HELD) == (do.CancelTimer("guard"), do.MuteCaller(), do.StartTimer("hold", 90))
    assert machine.handle(ev.TimerFired(CALL, "guard", at=PlayoutPosition("item_1", 500))) == ()
    assert machine.handle(RESUMED) == OFF_HOLD


def test_a_hold_without_end_ends_the_call() -> None:
    machine = talking(HELD)
    outcome = outcome_of(machine, machine.handle(ev.TimerFired(CALL, "hold")))
    assert outcome == Outcome(EndReason.HELD_TOO_LONG, "on hold for 90 s")
    assert outcome.ended_by is Side.CALLER


def test_a_hold_that_ended_just_before_its_time_ends_nothing() -> None:
    assert talking(HELD, RESUMED).handle(ev.TimerFired(CALL, "hold")) == ()


@pytest.mark.parametrize("early", [(ROUTED, HELD, READY), (ROUTED, READY, HELD), (ROUTED, READY, HELD, HELD)])
def test_a_hold_before_the_media_is_up_takes_effect_when_it_is(early: tuple[ev.CallEvent, ...]) -> None:
    machine = after(*early)
    greeted = (do.CancelTimer("setup"), do.Greet(), *ON_HOLD, do.StartTimer("max_length", 600))
    assert machine.handle(UP) == greeted
    assert machine.handle(RESUMED) == OFF_HOLD


def test_a_hold_that_ended_before_the_media_is_up_is_forgotten() -> None:
    assert do.MuteCaller() not in after(ROUTED, READY, HELD, RESUMED).handle(UP)


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (ev.TimerFired(CALL, "max_length"), EndReason.MAX_LENGTH),
        (ev.AgentExpiring(CALL, 30), EndReason.SESSION_EXPIRED),
        (ev.AgentFailed(CALL, AgentLost("reset")), EndReason.AGENT_LOST),
    ],
)
def test_a_call_whose_time_is_over_on_hold_ends_without_a_goodbye(last: ev.CallEvent, reason: EndReason) -> None:
    machine = talking(HELD)
    assert outcome_of(machine, machine.handle(last)).reason is reason


def test_a_caller_without_audio_is_not_missed_on_hold() -> None:
    machine = talking(HELD)
    assert machine.handle(ev.MediaLost(CALL, 30)) == ()
    machine.handle(RESUMED)
    assert outcome_of(machine, machine.handle(ev.MediaLost(CALL, 30))).reason is EndReason.NO_RTP


def test_last_words_that_wait_on_hold_are_waited_for_only_so_long() -> None:
    machine = talking(tool.HangUpAsked(CALL, "call_1", "done"))
    assert machine.handle(HELD) == ON_HOLD
    assert outcome_of(machine, machine.handle(ev.TimerFired(CALL, "goodbye"))).reason is EndReason.AGENT_HUNG_UP


def test_a_phone_that_holds_us_while_it_obeys_a_transfer_comes_back_when_that_fails() -> None:
    machine = talking(tool.TransferAsked(CALL, "call_1", "sip:desk@192.0.2.7"), ev.PlayedOut(CALL))
    assert machine.handle(HELD) == ON_HOLD
    machine.handle(ev.TransferEnded(CALL, 486, "Busy Here"))
    assert machine.phase is Phase.ACTIVE
    assert machine.handle(RESUMED) == OFF_HOLD


def test_a_key_that_is_told_on_hold_leaves_the_agent_silent() -> None:
    machine = talking(ev.DigitPressed(CALL, "5"), HELD)
    (told,) = machine.handle(ev.TimerFired(CALL, "keys"))
    assert not getattr(told, "respond", True)


def test_hold_counts_in_a_call_that_we_placed_too() -> None:
    machine = after(replace(ROUTED, outbound=True), READY, HELD)
    assert machine.phase is Phase.DIALING
    assert set(ON_HOLD) <= set(machine.handle(UP))
