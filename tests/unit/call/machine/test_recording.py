"""What is recorded, and that nothing is before the caller knows of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from docs.generate.samples import planned
from gateway.audio.played import PlayoutPosition
from gateway.call import actions as do
from gateway.call import builtin_tools as tool
from gateway.call import events as ev
from gateway.call.machine.ivr import PlaySounds
from gateway.call.machine.machine import CallMachine
from gateway.call.steps import TalkTo
from tests.unit.call.machine.talks import CALL, READY, ROUTED, UP, after, talking

pytestmark = pytest.mark.unit

ANNOUNCED = replace(ROUTED, recording=True, announces=True, can_record=True)
GUARDED = replace(ANNOUNCED, guard_ms=400)
BY_TOOL = replace(ANNOUNCED, recording=False)
SAID = ev.AnnouncementSaid(CALL)
HEARD = ev.PlayedOut(CALL)
SPEAKS, STOPS = ev.SpeechStarted(CALL, at=PlayoutPosition("item_1", 300)), ev.SpeechStopped(CALL)
KEY = ev.DigitPressed(CALL, "5", at=PlayoutPosition("item_1", 300))
ON, OFF = tool.RecordingAsked(CALL, "call_1", on=True), tool.RecordingAsked(CALL, "call_2", on=False)
RECORDED = (do.StartRecording(), do.Note("announcement_heard", {"announcement": "heard"}))
CUT = (do.FlushPlayout(), do.Truncate("item_1", 300))


def announcing(attempt: int) -> tuple[do.CallAction, ...]:
    return (
        do.Note("announcing", {"announcement": "not_heard", "attempt": attempt}),
        do.AnnounceRecording(),
        do.AwaitPlayedOut(),
    )


def withheld(detail: str) -> do.Note:
    return do.Note("recording_withheld", {"detail": detail})


# From the answer on


def test_a_call_is_recorded_and_greeted_only_when_the_announcement_was_heard() -> None:
    machine = after(ANNOUNCED, READY)
    assert machine.handle(UP) == (do.CancelTimer("setup"), *announcing(1), do.StartTimer("max_length", 600))
    assert machine.handle(SAID) == (do.AwaitPlayedOut(),)
    assert machine.handle(HEARD) == (*RECORDED, do.Greet())
    assert machine.handle(HEARD) == machine.handle(SAID) == ()


def test_what_the_dialplan_has_read_out_follows_the_announcement() -> None:
    greeted = planned(PlaySounds(("hello.wav",), then=TalkTo("reception", prompt="Press 5.")))
    machine = after(greeted, UP, ev.PlayedOut(CALL, 1), ANNOUNCED, READY, SAID)
    assert machine.handle(HEARD) == (*RECORDED, do.Greet("Press 5."))


def test_without_an_announcement_the_recording_runs_from_the_answer() -> None:
    machine = after(replace(ANNOUNCED, announces=False), READY)
    assert machine.handle(UP)[1:3] == (do.StartRecording(), do.Greet())


@pytest.mark.parametrize("routed", [replace(ANNOUNCED, can_record=False), BY_TOOL])
def test_nothing_is_announced_where_nothing_is_recorded_from_the_answer(routed: ev.CallEvent) -> None:
    assert after(routed, READY).handle(UP)[1] == do.Greet()


@pytest.mark.parametrize("before", [(SPEAKS,), (SAID, SPEAKS)], ids=["while it is said", "while it is heard"])
def test_an_announcement_that_was_cut_off_is_said_again_when_the_caller_was_answered(
    before: tuple[ev.CallEvent, ...],
) -> None:
    machine = talking(*before[:-1], routed=ANNOUNCED)
    assert machine.handle(before[-1]) == CUT
    assert machine.handle(HEARD) == (), "the caller speaks"
    assert machine.handle(STOPS) == (do.AwaitPlayedOut(),), "the agent may answer"
    assert machine.handle(HEARD) == announcing(2)
    assert machine.handle(SAID) == (do.AwaitPlayedOut(),)
    assert machine.handle(HEARD) == (*RECORDED, do.Greet())


def test_a_cough_within_the_guard_does_not_cut_the_announcement_off() -> None:
    machine = talking(SAID, routed=GUARDED)
    assert machine.handle(SPEAKS) == (do.PausePlayout(), do.StartTimer("guard", 0.4))
    machine.handle(STOPS)
    assert machine.handle(HEARD) == (*RECORDED, do.Greet())


def test_speech_beyond_the_guard_does() -> None:
    machine = talking(SPEAKS, routed=GUARDED)
    assert machine.handle(ev.TimerFired(CALL, "guard", at=PlayoutPosition("item_1", 300))) == (
        do.CancelResponse(),
        *CUT,
    )
    assert machine.handle(SAID) == (do.AwaitPlayedOut(),), "told before the response was cancelled"
    machine.handle(STOPS)
    assert machine.handle(HEARD) == announcing(2)


def test_a_key_cuts_it_off_and_it_is_said_again_once_the_number_is_complete() -> None:
    machine = talking(SAID, routed=ANNOUNCED)
    assert machine.handle(KEY) == (do.CancelResponse(), *CUT, do.StartTimer("keys", 1.5), do.AwaitPlayedOut())
    assert machine.handle(HEARD) == ()
    assert machine.handle(KEY)[-1] == do.AwaitPlayedOut()
    told = do.TellAgent("The caller pressed: 5 5", respond=True)
    assert machine.handle(ev.TimerFired(CALL, "keys")) == (told, do.AwaitPlayedOut())
    assert machine.handle(HEARD) == announcing(2)


def test_an_announcement_that_is_never_heard_leaves_the_call_unrecorded() -> None:
    machine = talking(routed=ANNOUNCED)
    for attempt in (2, 3):
        assert machine.handle(HEARD) == announcing(attempt)
    assert machine.handle(HEARD) == (withheld("said 3 times and never heard to its end"), do.Greet())
    assert machine.handle(SAID) == machine.handle(HEARD) == ()


def test_an_announcement_that_fails_for_good_leaves_the_call_unrecorded() -> None:
    machine = talking(routed=ANNOUNCED)
    assert machine.handle(ev.AnnouncementFailed(CALL, "server_error")) == (withheld("server_error"), do.Greet())
    assert machine.handle(ev.AnnouncementFailed(CALL, "server_error")) == ()


def test_a_session_lost_in_the_announcement_is_made_good_by_another() -> None:
    machine = talking(routed=ANNOUNCED)
    assert machine.handle(ev.AgentAway(CALL, "reset")) == (do.StartFiller(),)
    machine.handle(ev.AgentBack(CALL, "sess_2"))
    assert machine.handle(HEARD) == announcing(2)


def test_an_announcement_that_was_said_goes_on_behind_a_hold() -> None:
    machine = talking(SAID, ev.LegHeld(CALL), ev.LegResumed(CALL), routed=ANNOUNCED)
    assert machine.handle(HEARD) == (*RECORDED, do.Greet())


def test_an_announcement_waits_for_the_end_of_a_transfer_that_failed() -> None:
    shortcut = replace(KEY, digit="0")
    machine = talking(SAID, routed=replace(ANNOUNCED, transfers="refer"))
    assert do.Transfer("sip:desk@192.0.2.7") in machine.handle(shortcut)
    assert machine.handle(HEARD) == ()
    failed = machine.handle(ev.TransferEnded(CALL, 486, "Busy Here"))
    assert isinstance(failed[-2], do.TellAgent)
    assert failed[-1] == do.AwaitPlayedOut()
    assert machine.handle(HEARD) == announcing(2)


def test_a_call_that_ends_before_is_not_recorded() -> None:
    machine = talking(SPEAKS, STOPS, tool.HangUpAsked(CALL, "call_9", "done"), routed=ANNOUNCED)
    assert do.CloseAgent() in machine.handle(HEARD)


def test_an_agent_without_time_announces_nothing_and_records_nothing() -> None:
    machine = after(ANNOUNCED, READY, ev.AgentExpiring(CALL, 20))
    _, goodbye, *_ = machine.handle(UP)
    assert isinstance(goodbye, do.SayGoodbye)
    plain = after(replace(ANNOUNCED, announces=False), READY, ev.AgentExpiring(CALL, 20))
    assert plain.handle(UP)[1] == do.StartRecording()


# As the agent asks


def _asked() -> CallMachine:
    machine = talking(routed=BY_TOOL)
    answer, *rest = machine.handle(ON)
    assert isinstance(answer, do.AnswerTool)
    assert (answer.tool_call_id, answer.respond) == ("call_1", False)
    assert tuple(rest) == announcing(1)
    return machine


def test_a_recording_that_the_agent_asks_for_is_announced_too() -> None:
    machine = _asked()
    machine.handle(SAID)
    told = do.TellAgent("The caller heard that the call is recorded. The recording runs.", respond=True)
    assert machine.handle(HEARD) == (*RECORDED, told)
    assert machine.handle(OFF) == (do.PauseRecording(), do.AnswerTool("call_2", "The recording is paused."))
    again = replace(ON, tool_call_id="call_3")
    assert machine.handle(again) == (do.StartRecording(), do.AnswerTool("call_3", "The recording runs."))


def test_the_agent_is_told_when_the_announcement_was_not_heard_and_may_ask_again() -> None:
    machine = _asked()
    told = do.TellAgent("The caller did not hear that the call is recorded, so nothing is recorded.", respond=True)
    assert machine.handle(ev.AnnouncementFailed(CALL, "server_error")) == (withheld("server_error"), told)
    assert machine.handle(replace(ON, tool_call_id="call_3"))[1:] == announcing(1)


def test_a_recording_asked_for_while_it_is_announced_is_announced_once() -> None:
    machine = talking(SPEAKS, STOPS, routed=ANNOUNCED)
    (answer,) = machine.handle(ON)
    assert isinstance(answer, do.AnswerTool)
    machine.handle(HEARD)
    machine.handle(SAID)
    told = do.TellAgent("The caller heard that the call is recorded. The recording runs.", respond=False)
    assert machine.handle(HEARD) == (*RECORDED, told, do.Greet())


def test_a_caller_who_does_not_want_to_be_recorded_is_not_told_again() -> None:
    machine = talking(SPEAKS, STOPS, routed=ANNOUNCED)
    paused = do.AnswerTool("call_2", "The recording is paused.", respond=False)
    assert machine.handle(OFF) == (do.PauseRecording(), paused, withheld("the agent paused the recording"), do.Greet())
    assert machine.handle(HEARD) == ()


def test_a_recording_that_failed_is_not_announced() -> None:
    machine = talking(SAID, HEARD, ev.RecordingFailed(CALL, "disk full"), routed=ANNOUNCED)
    assert machine.handle(ON) == (do.AnswerTool("call_1", "Error: this call cannot be recorded."),)
