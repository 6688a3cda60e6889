"""What the agent owes the caller: every way an answer can fail, and what is done about it."""

from __future__ import annotations

import pytest

from gateway.upstream.core.debts import (
    Ask,
    Came,
    Cause,
    GiveUp,
    Missed,
    Overdue,
    PlaySound,
    Policy,
    Renew,
    Said,
    Unsaid,
    Why,
    Wish,
)
from gateway.upstream.core.owed import CANCEL_S, DOUBT_S, MERGED_S, MOST_BUSY, PATIENCE_S, RETRY_S, Owed

pytestmark = pytest.mark.unit

GREETING = Ask("Say hello.")
NOTICE = Ask("Say that this call is recorded.", tools=False, alone=True)


class Caller:
    """The debts of one call, and what a session does about them."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.owed = Owed(policy)
        self.count = 0
        self.moves: list[object] = []

    def ask(self, *, listening: bool = False) -> Wish | None:
        wish = self.owed.next(listening=listening)
        self.moves += self.owed.take_moves()
        return wish

    def begin(self) -> str:
        self.count += 1
        self.owed.began(f"resp_{self.count}")
        return f"resp_{self.count}"

    def miss(self, why: Why = Why.FAILED, delay_s: float = 0.0) -> None:
        """Let a response begin and come to nothing."""
        debts, _, _ = self.owed.ended(self.begin())
        self.owed.missed(debts, why, "no", delay_s)
        self.moves += self.owed.take_moves()

    def answer(self) -> None:
        """Let a response begin and speak to its end."""
        response_id = self.begin()
        self.owed.moved(response_id, speech=True)
        debts, spoke, _ = self.owed.ended(response_id)
        self.owed.paid(debts, spoke=spoke)
        self.moves += self.owed.take_moves()

    def wait(self, *, queued_ms: int = 0, speaking: bool = False) -> str | None:
        """Let the alarm end."""
        stalled = self.owed.overdue(queued_ms=queued_ms, speaking=speaking)
        self.moves += self.owed.take_moves()
        return stalled

    def alarm_s(self) -> float | None:
        alarm = self.owed.take_alarm()
        assert alarm is not None, "the alarm was not set"
        return alarm[0]

    def of(self, kind: type) -> list[object]:
        return [move for move in self.moves if isinstance(move, kind)]


def greeted(policy: Policy | None = None) -> Caller:
    """Return a call whose greeting was asked for."""
    caller = Caller(policy)
    caller.owed.owe(Cause.GREETING, GREETING)
    wish = caller.ask()
    assert wish is not None
    assert wish.ask == GREETING
    return caller


def turned(policy: Policy | None = None) -> Caller:
    """Return a call whose caller has just said something."""
    caller = Caller(policy)
    caller.owed.turn_began()
    caller.owed.turn_ended(cut=True)
    return caller


@pytest.mark.parametrize("why", list(Why))
@pytest.mark.parametrize("begin", [greeted, turned])
def test_whatever_came_instead_is_asked_for_again_at_once(why: Why, begin: type[Caller]) -> None:
    caller = begin()

    caller.miss(why)

    wish = caller.ask()
    assert wish is not None
    assert [move.then for move in caller.of(Missed) if isinstance(move, Missed)] == ["asked again"]
    caller.answer()
    assert not caller.owed.is_open


def test_the_second_time_it_is_asked_for_after_a_delay_behind_which_the_caller_hears_something() -> None:
    caller = greeted()
    caller.miss()
    caller.ask()
    assert not caller.of(Overdue)

    caller.miss()

    assert caller.ask() is None
    assert caller.alarm_s() == RETRY_S
    assert caller.of(Overdue)
    caller.wait()
    assert caller.ask() is not None
    caller.answer()
    assert caller.of(Came)


def test_a_stated_delay_is_kept() -> None:
    caller = turned()

    caller.miss(delay_s=3)

    assert caller.ask() is None
    assert caller.alarm_s() == 3
    assert caller.of(Overdue)
    caller.wait()
    assert caller.ask() is not None


def test_a_delay_that_no_caller_would_wait_for_is_not_waited_for() -> None:
    caller = turned()

    caller.miss(delay_s=PATIENCE_S + 1)

    wish = caller.ask()
    assert wish is not None
    assert wish.ask is not None
    assert "Apologize" in wish.ask.task


def test_after_the_retries_come_an_apology_a_new_session_and_the_end() -> None:
    caller = greeted(Policy(retries=1))
    caller.miss()
    caller.ask()
    caller.miss()
    apology = caller.ask()
    assert apology is not None
    assert apology.ask is not None
    assert not apology.ask.tools
    caller.miss()
    [renew] = caller.of(Renew)
    assert isinstance(renew, Renew)
    assert "no answer: no" in renew.detail

    caller.owed.session_ended(unanswered=False)
    again = caller.ask()
    assert again is not None
    assert again.ask == GREETING, "the new session is asked for what was owed"
    caller.miss()

    assert caller.of(GiveUp)
    assert not caller.owed.is_open


def test_once_the_agent_was_heard_the_remedies_begin_anew() -> None:
    caller = turned(Policy(retries=0))
    for _ in range(5):
        caller.miss()
        assert caller.ask() is not None
        caller.answer()
        caller.owed.turn_began()
        caller.owed.turn_ended(cut=True)

    assert not caller.of(Renew)


def test_what_was_asked_for_together_is_missed_once() -> None:
    caller = Caller(Policy(retries=0))
    caller.owed.owe(Cause.TOOL)
    caller.owed.owe(Cause.MESSAGE)
    caller.ask()

    caller.miss()

    assert [move.then for move in caller.of(Missed) if isinstance(move, Missed)] == ["apologize"]
    assert caller.ask() is not None
    caller.answer()
    assert not caller.owed.is_open


def test_a_recorded_apology_pays_the_debt() -> None:
    caller = turned(Policy(retries=0, then=("play", "give_up"), sound="sorry.wav"))

    caller.miss()

    assert caller.of(PlaySound) == [PlaySound("sorry.wav")]
    assert not caller.owed.is_open


def test_a_part_that_was_heard_is_gone_on_from_once_and_then_has_to_do() -> None:
    caller = turned()
    for number in range(2):
        response_id = caller.begin()
        caller.owed.moved(response_id, speech=True)
        debts, _, _ = caller.owed.ended(response_id)
        caller.owed.missed(debts, Why.INCOMPLETE, "content_filter")
        wish = caller.ask()
        assert (wish is not None) is (number == 0)
        if wish is not None:
            assert "cut off" in wish.hint

    assert not caller.owed.is_open


def stall(caller: Caller) -> None:
    """Let a response begin to speak and go no further, until it is cancelled."""
    caller.owed.moved(caller.begin(), speech=True)
    caller.owed.ended(caller.wait() or "")


def test_a_service_that_goes_dead_in_the_middle_of_speech_again_is_not_let_off() -> None:
    caller = greeted(Policy(then=("reconnect",)))
    stall(caller)
    assert caller.ask() is not None
    stall(caller)

    assert caller.of(Renew)
    assert caller.ask() is not None
    stall(caller)
    assert not caller.owed.is_open
    assert caller.moves[-1] == Came()

    caller.owed.session_ended(unanswered=False)
    assert caller.ask() is not None, "the next session goes on"


def test_speech_that_came_whole_is_not_asked_for_again_because_the_end_of_its_response_is_not_told() -> None:
    caller = greeted()
    response_id = caller.begin()
    caller.owed.moved(response_id, speech=True)
    caller.owed.speech_ended(response_id, whole=True)

    assert caller.wait() == response_id
    caller.wait()
    assert caller.ask() is None
    assert not caller.owed.is_open
    assert [type(move) for move in caller.moves] == [Missed]


def test_a_response_that_goes_on_behind_its_speech_and_stalls_is_asked_for_again() -> None:
    caller = greeted()
    response_id = caller.begin()
    caller.owed.moved(response_id, speech=True)
    caller.owed.speech_ended(response_id, whole=True)
    caller.owed.moved(response_id)

    caller.owed.ended(caller.wait() or "")
    assert caller.ask() is not None


def test_the_filler_ends_where_nothing_more_is_to_come() -> None:
    caller = Caller(Policy(retries=0))
    caller.owed.owe(Cause.ANNOUNCEMENT, NOTICE)
    caller.ask()
    caller.wait()

    assert [type(move) for move in caller.moves] == [Overdue, Missed, Came, Unsaid]


def test_a_turn_before_a_goodbye_is_answered_by_the_goodbye() -> None:
    caller = Caller()
    caller.owed.turn_began()
    caller.owed.owe_goodbye(Ask("Say goodbye.", tools=False))
    assert caller.ask(listening=True) is None
    caller.owed.turn_ended(cut=True)

    assert caller.ask() is not None
    caller.answer()
    assert not caller.owed.is_open


def test_what_came_in_writing_is_asked_for_as_speech() -> None:
    caller = greeted()

    caller.miss(Why.WRITTEN)

    wish = caller.ask()
    assert wish is not None
    assert wish.ask == Ask("Say hello.", aloud=True)
    assert "aloud" in wish.hint


# Nothing comes


def test_a_response_that_does_not_begin_is_asked_for_again() -> None:
    caller = greeted()
    assert caller.alarm_s() == 5

    caller.wait()

    assert caller.of(Overdue)
    assert caller.ask() is not None


def test_a_turn_that_the_service_does_not_answer_is_asked_for() -> None:
    caller = turned()
    assert caller.ask() is None, "the service answers by itself"
    assert caller.alarm_s() == 5

    caller.wait()

    assert caller.ask() is not None


@pytest.mark.parametrize("spoke", [False, True])
def test_a_response_that_goes_no_further_is_cancelled_and_asked_for_again(*, spoke: bool) -> None:
    caller = greeted()
    response_id = caller.begin()
    if spoke:
        caller.owed.moved(response_id, speech=True)
        assert caller.wait(queued_ms=400) is None, "the caller hears it still"
        assert caller.alarm_s() == 0.4

    assert caller.wait() == response_id

    assert caller.ask() is None, "it is not over yet"
    assert caller.owed.ended(response_id) == ([], spoke, True)
    assert caller.ask() is not None


def test_a_stuck_response_that_is_deaf_to_its_cancel_is_left_behind_with_its_session() -> None:
    caller = greeted()
    caller.begin()
    caller.wait()
    assert caller.alarm_s() == CANCEL_S

    caller.wait()

    assert caller.of(Renew)
    caller.owed.session_ended(unanswered=False)
    wish = caller.ask()
    assert wish is not None
    assert wish.ask == GREETING


def test_a_response_that_we_gave_up_holds_nothing_up_though_its_end_is_not_told() -> None:
    caller = greeted()
    caller.begin()
    caller.owed.give_up_active()
    caller.owed.owe(Cause.MESSAGE)
    assert caller.ask() is None

    caller.wait()

    assert caller.ask() is not None
    assert not caller.of(Renew)


@pytest.mark.parametrize("begin", [greeted, turned])
def test_a_session_that_says_nothing_at_all_is_left_after_the_second_time_without_an_apology(
    begin: type[Caller],
) -> None:
    caller = begin()
    caller.wait()
    assert caller.ask() is not None
    assert not caller.of(Renew)

    caller.wait()

    assert caller.of(Renew)


def test_time_does_not_run_while_the_caller_speaks() -> None:
    caller = greeted()
    caller.owed.turn_began()

    caller.wait(speaking=True)

    assert not caller.of(Missed)
    assert caller.ask(listening=True) is None


# The caller's turns


def test_a_wish_is_never_sent_over_the_caller_and_the_answer_to_the_turn_pays_it() -> None:
    caller = Caller()
    caller.owed.turn_began()
    caller.owed.owe(Cause.TOOL)
    assert caller.ask(listening=True) is None

    caller.owed.turn_ended(cut=True)

    assert caller.ask() is None
    caller.answer()
    assert not caller.owed.is_open


def test_a_wish_comes_back_when_the_turn_is_not_answered() -> None:
    caller = Caller()
    caller.owed.turn_began()
    caller.owed.owe(Cause.MESSAGE)
    caller.owed.turn_ended(cut=True)
    assert caller.alarm_s() == 2

    caller.wait()

    assert caller.ask() is not None
    assert caller.ask() is None, "one response for both"


def test_an_announcement_the_caller_cut_off_is_owed_again_behind_the_answer_to_the_turn() -> None:
    caller = Caller()
    caller.owed.owe(Cause.ANNOUNCEMENT, NOTICE)
    caller.ask()
    response_id = caller.begin()
    caller.owed.moved(response_id, speech=True)
    caller.owed.turn_began()
    debts, _, _ = caller.owed.ended(response_id)
    caller.owed.turned(debts, speaking=True)
    assert caller.ask(listening=True) is None
    caller.owed.turn_ended(cut=True)
    assert caller.ask() is None

    caller.answer()

    wish = caller.ask()
    assert wish is not None
    assert wish.ask == NOTICE
    caller.answer()
    assert caller.of(Said) == [Said(Cause.ANNOUNCEMENT)]


def test_an_announcement_that_fails_for_good_is_told_as_unsaid() -> None:
    caller = Caller(Policy(retries=1))
    caller.owed.owe(Cause.ANNOUNCEMENT, NOTICE)
    for _ in range(2):
        assert caller.ask() is not None
        caller.miss()

    assert caller.of(Unsaid) == [Unsaid(Cause.ANNOUNCEMENT, "no")]
    assert not caller.owed.is_open


def test_a_greeting_the_caller_talked_over_is_not_said_again() -> None:
    caller = greeted()
    response_id = caller.begin()
    caller.owed.turn_began()
    debts, _, _ = caller.owed.ended(response_id)
    caller.owed.turned(debts, speaking=True)
    caller.owed.turn_ended(cut=True)

    caller.answer()

    assert not caller.owed.is_open


def test_a_turn_whose_end_the_service_does_not_tell_waits_no_longer_for_its_answer() -> None:
    caller = Caller()
    caller.owed.turn_began()
    caller.owed.turn_ended(cut=True, told=False)

    assert caller.alarm_s() == MERGED_S


def test_a_cancellation_for_a_turn_that_never_came_is_no_end() -> None:
    caller = greeted()
    debts, _, _ = caller.owed.ended(caller.begin())

    caller.owed.turned(debts, speaking=False)

    assert caller.owed.is_open
    assert caller.alarm_s() == MERGED_S
    caller.wait()
    assert caller.ask() is not None


def test_behind_an_error_about_something_unsaid_a_response_has_little_time_to_begin() -> None:
    caller = greeted()
    caller.owed.hurry()

    assert caller.alarm_s() == DOUBT_S
    caller.wait()
    assert caller.ask() is not None


# Another response at work


def test_a_wish_that_met_another_response_is_sent_behind_it() -> None:
    caller = Caller()
    caller.owed.owe(Cause.TOOL)
    wish = caller.ask()
    assert wish is not None
    response_id = caller.begin()
    assert caller.owed.refused(wish.event_id, "busy", busy=True)
    caller.owed.moved(response_id, speech=True)
    debts, spoke, _ = caller.owed.ended(response_id)
    caller.owed.paid(debts, spoke=spoke)

    assert caller.ask() is not None


@pytest.mark.parametrize("named", [True, False])
def test_a_refusal_that_comes_behind_the_other_response_counts_all_the_same(*, named: bool) -> None:
    caller = Caller()
    caller.owed.owe(Cause.MESSAGE)
    wish = caller.ask()
    assert wish is not None
    caller.answer()

    assert caller.owed.refused(wish.event_id if named else None, "busy", busy=True)

    caller.wait()
    assert caller.ask() is not None
    caller.answer()
    assert not caller.owed.is_open


def test_a_service_that_is_always_busy_is_not_asked_for_ever() -> None:
    caller = Caller(Policy(then=("give_up",)))
    caller.owed.owe(Cause.TOOL)
    for _ in range(MOST_BUSY + 1):
        wish = caller.ask()
        assert wish is not None
        caller.owed.refused(wish.event_id, "busy", busy=True)
        caller.moves += caller.owed.take_moves()
        caller.wait()

    assert caller.of(GiveUp)


def test_a_caller_hears_something_while_a_service_is_busy_again_and_again() -> None:
    caller = greeted()
    for _ in range(2):
        caller.owed.refused(None, "busy", busy=True)
        caller.wait()
        assert caller.ask() is not None

    assert caller.of(Overdue)


def test_the_end_of_a_response_that_another_outran_is_not_the_end_of_what_was_asked_for_since() -> None:
    caller = greeted()
    outrun = caller.begin()
    caller.miss(Why.EMPTY)
    assert caller.ask() is not None

    assert caller.owed.ended(outrun) == ([], False, False)
    assert caller.owed._asked_id is not None


@pytest.mark.parametrize("event_id", ["cut-1", "respond-7", None])
def test_an_error_about_something_else_is_no_refusal(event_id: str | None) -> None:
    caller = greeted()
    caller.begin()

    assert not caller.owed.refused(event_id, "no", busy=False)
    assert not caller.owed.take_moves()


def test_a_goodbye_takes_the_place_of_all_else_and_of_an_answer_the_service_begins() -> None:
    caller = greeted()
    caller.owed.owe_goodbye(Ask("Bye.", tools=False))

    assert caller.owed.began("resp_1"), "what was asked for before is cancelled"
    caller.owed.give_up_active()
    caller.owed.ended("resp_1")
    assert caller.owed.began("resp_2"), "so is what the service begins by itself"
    caller.owed.give_up_active()
    caller.owed.ended("resp_2")

    wish = caller.ask()
    assert wish is not None
    assert wish.ask == Ask("Bye.", tools=False)


def test_a_response_told_twice_begins_once() -> None:
    caller = greeted()
    response_id = caller.begin()

    assert not caller.owed.began(response_id)

    caller.owed.moved(response_id, speech=True)
    debts, spoke, _ = caller.owed.ended(response_id)
    caller.owed.paid(debts, spoke=spoke)
    assert not caller.owed.is_open


def test_a_response_whose_end_is_never_told_hands_its_debts_on_to_the_next() -> None:
    caller = greeted()
    caller.begin()

    caller.answer()

    assert not caller.owed.is_open
