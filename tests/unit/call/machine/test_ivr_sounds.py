"""Steps that play something: announcements and menus."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.call import actions as do
from gateway.call import events as ev
from gateway.call.machine.machine import CallMachine
from gateway.call.outcome import EndReason, Outcome, Side
from tests.unit.call.machine.plans import (
    AGENT,
    BYE,
    CALL,
    EARLY,
    HELLO,
    MENU,
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

# Announcements


def test_an_announcement_answers_plays_and_hangs_up() -> None:
    machine = CallMachine()
    assert machine.handle(planned(HELLO)) == (
        told("announce", "hello.wav, hours.wav"),
        do.Answer(),
        do.StartTimer("setup", 8),
    )
    assert machine.handle(UP) == (
        do.StartTimer("max_length", 600),
        do.CancelTimer("setup"),
        do.Play(("hello.wav", "hours.wav")),
        do.AwaitPlayedOut(1),
    )
    actions = machine.handle(played())
    assert orders(actions) == [do.HangUp(200, "Completed")]
    outcome = outcome_of(machine, actions)
    assert outcome == Outcome(EndReason.COMPLETED, "the announcement was played", 200)
    assert outcome.ended_by is Side.GATEWAY


def test_an_early_announcement_is_heard_unanswered_and_then_an_agent_rings_no_more() -> None:
    machine = after(replace(HELLO, early=True, then=AGENT))
    assert machine.handle(EARLY) == (do.CancelTimer("setup"), do.Play(("hello.wav", "hours.wav")), do.AwaitPlayedOut(1))
    assert machine.handle(played())[-1] == do.ChooseAgent(AGENT)
    assert orders(machine.handle(ROUTED)) == [do.OpenAgent()]
    assert machine.handle(READY) == (do.Answer(),)


def test_an_early_announcement_with_nothing_after_it_refuses_the_call() -> None:
    machine = after(replace(HELLO, early=True), EARLY)
    assert do.HangUp(480, "Completed") in machine.handle(played())


def test_a_network_that_lets_no_early_sound_through_does_not_stop_the_call() -> None:
    machine = after(replace(HELLO, early=True, then=AGENT))
    assert machine.handle(fired("setup"))[-1] == do.ChooseAgent(AGENT)
    machine.handle(ROUTED)
    assert machine.handle(EARLY) == ()
    assert machine.handle(READY) == (do.Answer(),)


def test_early_media_is_asked_for_once() -> None:
    machine = after(replace(HELLO, early=True, then=replace(SORRY, early=True)))
    assert orders(machine.handle(fired("setup"))) == []
    assert orders(machine.handle(EARLY)) == [do.Play(("sorry.wav",)), do.AwaitPlayedOut(1)]


def test_an_early_announcement_to_a_caller_who_was_answered_is_just_played() -> None:
    machine = after(replace(SORRY, then=replace(HELLO, early=True)), UP)
    assert orders(machine.handle(played())) == [do.Play(("hello.wav", "hours.wav")), do.AwaitPlayedOut(2)]


def test_an_answer_without_media_ends_the_call() -> None:
    machine = after(HELLO)
    assert outcome_of(machine, machine.handle(fired("setup"))).reason is EndReason.SETUP_TIMEOUT


def test_news_of_sounds_that_were_cut_off_is_not_taken_for_the_next_ones() -> None:
    machine = after(MENU, UP, key("3"))
    assert machine.handle(played(1)) == ()
    assert machine.handle(ev.PlayedOut(CALL)) == ()
    assert orders(machine.handle(played(2))) == [do.HangUp(200, "Completed")]


def test_an_announcement_pauses_on_hold() -> None:
    machine = after(HELLO, UP)
    assert machine.handle(ev.LegHeld(CALL)) == (do.PausePlayout(), do.StartTimer("hold", 90))
    assert machine.handle(ev.LegHeld(CALL)) == ()
    assert machine.handle(ev.MediaLost(CALL, 30)) == ()
    assert machine.handle(ev.LegResumed(CALL)) == (do.CancelTimer("hold"), do.ResumePlayout())
    assert machine.handle(ev.LegResumed(CALL)) == ()


def test_an_announcement_that_begins_on_hold_waits() -> None:
    machine = after(replace(SORRY, then=HELLO), UP, ev.LegHeld(CALL))
    assert orders(machine.handle(played())) == [
        do.FlushPlayout(),
        do.Play(("hello.wav", "hours.wav")),
        do.PausePlayout(),
        do.AwaitPlayedOut(2),
    ]


def test_an_agent_that_comes_while_the_caller_has_us_on_hold_waits_in_silence() -> None:
    machine = after(replace(HELLO, then=AGENT), UP, played(), ROUTED, ev.LegHeld(CALL))
    assert orders(machine.handle(READY)) == [do.StopFiller(), do.Greet(), do.MuteCaller(), do.PausePlayout()]
    assert "hold" in {action.name for action in machine.handle(BYE) if isinstance(action, do.CancelTimer)}


def test_a_hold_before_the_answer_counts_from_the_answer() -> None:
    machine = after(AGENT, ROUTED, ev.LegHeld(CALL), READY)
    assert do.StartTimer("hold", 90) in machine.handle(UP)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (fired("hold"), EndReason.HELD_TOO_LONG),
        (fired("max_length"), EndReason.MAX_LENGTH),
        (ev.StopAsked(CALL, "drain limit"), EndReason.SHUTDOWN),
        (BYE, EndReason.CALLER_HUNG_UP),
    ],
)
def test_the_limits_of_the_call_hold_in_an_announcement_too(event: ev.CallEvent, reason: EndReason) -> None:
    machine = after(HELLO, UP, ev.LegHeld(CALL))
    actions = machine.handle(event)
    assert do.FlushPlayout() in actions
    assert outcome_of(machine, actions).reason is reason


def test_silence_from_an_answered_caller_ends_an_announcement() -> None:
    machine = after(HELLO, UP)
    assert outcome_of(machine, machine.handle(ev.MediaLost(CALL, 30))).reason is EndReason.NO_RTP


# Menus


def test_a_key_counts_while_the_prompt_is_played() -> None:
    machine = after(MENU, UP)
    actions = machine.handle(key("1"))
    assert actions == (do.FlushPlayout(), told("agent", "reception", "key 1"), do.ChooseAgent(AGENT))


def test_silence_plays_the_prompt_again_and_then_ends_the_call() -> None:
    machine = after(MENU, UP)
    assert machine.handle(played(1)) == (do.StartTimer("menu", 4),)
    assert machine.handle(fired("menu")) == (do.Play(("choices.wav",)), do.AwaitPlayedOut(2))
    machine.handle(played(2))
    actions = machine.handle(fired("menu"))
    assert outcome_of(machine, actions) == Outcome(EndReason.COMPLETED, "no key was pressed", 200)


def test_another_key_plays_the_prompt_again_and_then_something_else_is_done() -> None:
    machine = after(replace(MENU, otherwise=SORRY), UP, played(1))
    assert machine.handle(key("9")) == (do.CancelTimer("menu"), do.Play(("choices.wav",)), do.AwaitPlayedOut(2))
    assert machine.handle(key("9")) == (
        do.FlushPlayout(),
        told("announce", "sorry.wav", "no key was pressed"),
        do.Play(("sorry.wav",)),
        do.AwaitPlayedOut(3),
    )


def test_a_key_is_not_awaited_from_hold_music() -> None:
    machine = after(MENU, UP, played(1))
    assert machine.handle(ev.LegHeld(CALL)) == (do.CancelTimer("menu"), do.StartTimer("hold", 90))
    assert machine.handle(key("1")) == ()
    assert machine.handle(fired("menu")) == ()
    assert machine.handle(ev.LegResumed(CALL)) == (do.CancelTimer("hold"), do.StartTimer("menu", 4))
    assert machine.handle(key("1"))[-1] == do.ChooseAgent(AGENT)


def test_a_prompt_that_was_heard_just_as_the_caller_held_awaits_its_key_afterwards() -> None:
    machine = after(MENU, UP, ev.LegHeld(CALL))
    assert machine.handle(played(1)) == ()
    assert machine.handle(ev.LegResumed(CALL)) == (do.CancelTimer("hold"), do.ResumePlayout(), do.StartTimer("menu", 4))


def test_keys_before_the_media_is_up_mean_nothing() -> None:
    assert after(MENU).handle(key("1")) == ()
