"""A talk as the session carries it out: last words, tools, what is held, what is written down of it all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.audio.played import PlayoutPosition
from gateway.call.builtin_tools import DigitsAsked, HangUpAsked, TransferAsked, WaitAsked
from gateway.call.events import (
    AgentAway,
    AgentBack,
    AgentExpiring,
    AgentSpoke,
    AnswerCame,
    AnswerLate,
    ApologyAsked,
    CallerSpoke,
    LegClosed,
    LegHeld,
    Noted,
    Routed,
    SpeechStarted,
    SpeechStopped,
    ToolAsked,
    TransferEnded,
)
from gateway.call.machine.phase import Phase
from gateway.call.outcome import EndReason
from gateway.call.ports import AgentSetup
from gateway.call.session.session import QUIET_POLL_S, QUIET_S, CallSession
from tests.fakes.stage import CALL, ROUTED, Stage, settle

pytestmark = pytest.mark.unit

BYE = LegClosed(CALL, by_caller=True, code=200, reason="OK")


@pytest.fixture
def routed() -> Routed:
    return replace(ROUTED, guard_ms=400, goodbye_limit_s=7, tool_filler_after_s=2)


async def emit(stage: Stage, *events: object) -> None:
    for event in events:
        stage.agent.emit(event)  # type: ignore[arg-type]
    await settle()


async def hang_up(stage: Stage) -> None:
    stage.session.post(BYE)
    await stage.end()


# Last words


async def test_the_call_is_hung_up_when_the_last_words_were_heard(stage: Stage) -> None:
    await stage.talk()
    stage.leg.obedient = True
    stage.agent.responding, stage.playout.queued_ms = True, 800
    await emit(stage, HangUpAsked(CALL, "call_1", "done"))
    assert stage.agent.answers == [("call_1", "ok", False)]
    stage.clock.advance(1)
    stage.agent.responding = False
    stage.clock.advance(1)
    stage.playout.queued_ms = 0
    stage.clock.advance(QUIET_S)
    await settle()
    assert stage.leg.hung_up is None, "the last frames are still on their way"
    stage.clock.advance(2 * QUIET_POLL_S)
    outcome = await stage.end()
    assert (outcome.reason, outcome.detail) == (EndReason.AGENT_HUNG_UP, "done")
    assert stage.store.record()["ended_by"] == "agent"
    assert stage.store.fields_of("hang_up_asked") == {"tool_call_id": "call_1", "reason": "done"}


async def test_a_pause_between_two_sentences_is_not_the_end_of_the_last_words(stage: Stage) -> None:
    await stage.talk()
    await emit(stage, HangUpAsked(CALL, "call_1", "done"))
    for _ in range(20):
        stage.clock.advance(QUIET_S - QUIET_POLL_S)
        stage.playout.queued_ms = 20 - stage.playout.queued_ms
    await settle()
    assert stage.session.phase is Phase.ACTIVE
    await hang_up(stage)


async def test_last_words_that_never_end_are_waited_for_only_so_long(stage: Stage) -> None:
    await stage.talk()
    stage.leg.obedient = True
    stage.playout.queued_ms = 60_000
    await emit(stage, HangUpAsked(CALL, "call_1", "done"))
    stage.clock.advance(6.9)
    await settle()
    assert stage.session.phase is Phase.ACTIVE
    stage.clock.advance(0.2)
    assert (await stage.end()).reason is EndReason.AGENT_HUNG_UP


async def test_a_call_that_gets_too_long_says_goodbye_before_it_ends(stage: Stage) -> None:
    await stage.talk()
    stage.leg.obedient = True
    stage.clock.advance(600)
    await settle()
    assert len(stage.agent.goodbyes) == 1
    assert stage.session.phase is Phase.ACTIVE
    stage.agent.responding = False
    stage.clock.advance(0.3)
    assert (await stage.end()).reason is EndReason.MAX_LENGTH


async def test_an_expiring_session_says_goodbye_before_it_ends(stage: Stage) -> None:
    await stage.talk()
    stage.leg.obedient = True
    await emit(stage, AgentExpiring(CALL, 30))
    assert len(stage.agent.goodbyes) == 1
    stage.clock.advance(7)
    assert (await stage.end()).reason is EndReason.SESSION_EXPIRED
    assert stage.store.fields_of("agent_expiring") == {"left_s": 30}


async def test_a_transfer_is_sent_when_the_last_words_were_heard_and_ends_the_call(stage: Stage) -> None:
    await stage.talk()
    stage.leg.obedient = True
    await emit(stage, TransferAsked(CALL, "call_1", "sip:desk@192.0.2.7"))
    assert ("transfer", "sip:desk@192.0.2.7") not in stage.leg.orders
    stage.clock.advance(0.3)
    await settle()
    assert stage.leg.orders[-1] == ("transfer", "sip:desk@192.0.2.7")
    stage.session.post(TransferEnded(CALL, 200, "OK"))
    assert (await stage.end()).reason is EndReason.TRANSFERRED
    assert stage.store.events()[-3:] == ["transfer_asked", "ending", "ended"]


async def test_a_transfer_that_fails_is_told_to_the_agent(stage: Stage) -> None:
    await stage.talk()
    await emit(stage, TransferAsked(CALL, "call_1", "sip:desk@192.0.2.7"))
    stage.clock.advance(0.3)
    await settle()
    stage.session.post(TransferEnded(CALL, 486, "Busy Here"))
    await settle()
    assert stage.agent.answers == [("call_1", "The transfer failed: 486 Busy Here. The caller is still here.", True)]
    assert stage.store.fields_of("transfer_ended") == {"code": 486, "reason": "Busy Here", "refused": False}
    await hang_up(stage)


# Tools and the filler


async def test_a_slow_tool_is_run_answered_and_bridged_by_the_filler(stage: Stage) -> None:
    await stage.talk()
    await emit(stage, ToolAsked(CALL, "call_1", "weather", '{"city": "Rome"}'))
    assert stage.tools.asked == [("call_1", "weather", '{"city": "Rome"}')]
    stage.clock.advance(2)
    await settle()
    assert stage.playout.filling
    stage.tools.finish("call_1", "weather", "sunny", took_ms=2300)
    await settle()
    assert not stage.playout.filling
    assert stage.agent.answers == [("call_1", "sunny", True)]
    assert stage.store.fields_of("tool_finished") == {
        "tool_call_id": "call_1",
        "name": "weather",
        "output": "sunny",
        "failed": False,
        "took_ms": 2300,
    }
    await hang_up(stage)


async def test_digits_are_sent_and_waiting_is_acknowledged(stage: Stage) -> None:
    await stage.talk()
    await emit(stage, DigitsAsked(CALL, "call_1", "12#"), WaitAsked(CALL, "call_2"))
    assert stage.leg.orders[-1] == ("send_digits", "12#")
    assert stage.agent.answers == [("call_1", "sent", True), ("call_2", "waiting", False)]
    assert stage.store.events()[-2:] == ["digits_asked", "wait_asked"]
    await hang_up(stage)


async def test_an_agent_that_was_away_and_is_back_has_its_new_session_on_record(stage: Stage) -> None:
    await stage.talk()
    await emit(stage, AgentAway(CALL, "reset"))
    assert stage.playout.filling
    await emit(stage, AgentBack(CALL, "sess_2"))
    assert not stage.playout.filling
    assert stage.store.fields_of("agent_away") == {"detail": "reset"}
    assert stage.store.record()["upstream_session_id"] == "sess_2"
    await hang_up(stage)


async def test_an_answer_that_does_not_come_is_bridged_and_counted_in_the_record(stage: Stage) -> None:
    await stage.talk()
    missing: dict[str, str | int | float] = {
        "owed_for": "turn",
        "why": "failed",
        "detail": "no",
        "tries": 1,
        "then": "asked again",
    }
    await emit(stage, Noted(CALL, "answer_missing", missing), AnswerLate(CALL))
    assert stage.playout.filling
    await emit(stage, Noted(CALL, "answer_missing", missing | {"why": "stalled"}), AnswerCame(CALL))
    assert not stage.playout.filling
    assert (stage.store.record()["answers_missing"], stage.store.record()["answer_missing_why"]) == (2, "stalled")
    await hang_up(stage)


async def test_a_recorded_apology_is_played_to_the_caller_and_not_to_one_on_hold(stage: Stage) -> None:
    await stage.talk()
    await emit(stage, ApologyAsked(CALL, "sorry.wav"))
    played = [order for order in stage.playout.orders if "sound_1" in str(order)]
    assert played
    stage.session.post(LegHeld(CALL))
    await emit(stage, ApologyAsked(CALL, "sorry.wav"))
    assert not [order for order in stage.playout.orders if "sound_2" in str(order)]
    await hang_up(stage)


async def test_a_profile_without_tools_of_its_own_answers_that_there_is_none(stage: Stage) -> None:
    stage.session = CallSession(
        call_id=CALL,
        leg=stage.leg,
        playout=stage.playout,
        store=stage.store,
        clock=stage.clock,
        begins=AgentSetup(stage.agent, ROUTED),
        first_fields={},
    )
    await stage.talk()
    await emit(stage, ToolAsked(CALL, "call_1", "weather", "{}"))
    assert stage.agent.answers == [("call_1", "Error: there is no tool named weather.", True)]
    await hang_up(stage)
    await stage.tools.close()
    await stage.recorder.close()


# Held speech


async def test_a_cough_only_holds_the_agent_up(stage: Stage) -> None:
    await stage.talk()
    stage.playout.play("item_1", 300, of_ms=4000, first_at=stage.clock.monotonic())
    await emit(stage, SpeechStarted(CALL))
    assert stage.playout.held
    stage.clock.advance(0.3)
    await emit(stage, SpeechStopped(CALL))
    assert stage.playout.orders == ["pause", "resume"]
    assert stage.agent.cancels == 0
    assert stage.store.events()[-3:] == ["speech_started", "speech_stopped", "false_start"]
    stage.playout.play_out()
    await settle()
    assert "turn" not in stage.store.events(), "nobody waited for this"
    await hang_up(stage)


async def test_real_speech_cuts_the_agent_where_it_was_held(stage: Stage) -> None:
    await stage.talk()
    began = stage.clock.monotonic()
    stage.clock.advance(1)
    stage.playout.play("item_1", 1000, of_ms=4000, first_at=began, last_at=began + 1.015)
    await emit(stage, SpeechStarted(CALL))
    stage.clock.advance(0.4)
    await settle()
    assert (stage.agent.cancels, stage.agent.truncated) == (1, [("item_1", 1000)])
    cut = {"item_id": "item_1", "played_ms": 1000, "interruption_ms": 15}
    assert stage.store.fields_of("interruption") == cut
    await hang_up(stage)


async def test_an_answer_that_came_while_it_was_held_is_cut_before_its_first_word(stage: Stage) -> None:
    await stage.talk()
    stage.agent.responding = True
    await emit(stage, SpeechStarted(CALL))
    assert stage.playout.held
    stage.playout.playing = PlayoutPosition("item_1", 0)
    stage.clock.advance(0.4)
    await settle()
    assert (stage.agent.cancels, stage.agent.truncated) == (1, [("item_1", 0)])
    assert "interruption" not in stage.store.events()
    await hang_up(stage)
    assert "agent_heard" not in stage.store.events()


# What is written down


async def test_what_the_caller_heard_is_written_as_soon_as_it_was_heard(stage: Stage) -> None:
    await stage.talk()
    stage.playout.play("item_1", 20, of_ms=1500, first_at=stage.clock.monotonic())
    await emit(stage, AgentSpoke(CALL, "item_1", "Hello, how can I help?"))
    assert stage.store.events()[-1] == "agent_spoke"
    stage.playout.play_out()
    await settle()
    began = stage.clock.now()
    heard = {"item_id": "item_1", "text": "Hello, how can I help?", "played_ms": 1500, "cut": False}
    when = {"began_at": began, "over_at": began + 0.02}
    assert stage.store.fields_of("agent_heard") == {**heard, **when}
    await hang_up(stage)
    assert stage.store.events().count("agent_heard") == 1


async def test_a_caller_who_hangs_up_leaves_the_part_that_was_heard(stage: Stage) -> None:
    await stage.talk()
    stage.playout.play("item_1", 600, of_ms=1200, first_at=stage.clock.monotonic())
    await emit(stage, AgentSpoke(CALL, "item_1", "one two three"))
    await emit(stage, AgentSpoke(CALL, "item_1", "four five six"))
    await hang_up(stage)
    heard = {"item_id": "item_1", "text": "one two three", "played_ms": 600, "cut": True}
    assert stage.store.fields_of("agent_heard").items() >= heard.items()
    assert stage.store.events()[-2:] == ["agent_heard", "ended"]


async def test_a_turn_is_measured_from_the_callers_last_word_to_the_agents_first_frame(stage: Stage) -> None:
    await stage.talk()
    await emit(stage, SpeechStarted(CALL, interrupts=False))
    stage.clock.advance(1)
    await emit(stage, SpeechStopped(CALL))
    stage.playout.play("item_1", 20, of_ms=1500, first_at=stage.clock.monotonic() + 0.64)
    stage.playout.play_out()
    await settle()
    assert stage.store.fields_of("turn") == {"item_id": "item_1", "turn_latency_ms": 640}
    stage.playout.play("item_2", 20, of_ms=1500, first_at=stage.clock.monotonic() + 5)
    stage.playout.play_out()
    await settle()
    assert stage.store.events().count("turn") == 1, "only the first item answers"
    await hang_up(stage)


async def test_a_turn_the_caller_took_up_again_counts_from_its_end(stage: Stage) -> None:
    await stage.talk()
    for _ in range(2):
        await emit(stage, SpeechStarted(CALL, interrupts=False), SpeechStopped(CALL))
        stage.clock.advance(1)
    stage.playout.play("item_1", 20, of_ms=1500, first_at=stage.clock.monotonic())
    stage.playout.play_out()
    await settle()
    assert stage.store.fields_of("turn")["turn_latency_ms"] == 1000
    await hang_up(stage)


async def test_what_was_heard_at_the_end_is_written_without_a_transcript_too(stage: Stage) -> None:
    await stage.talk()
    stage.playout.play("item_1", 500, of_ms=1000, first_at=stage.clock.monotonic())
    stage.session.post(LegClosed(CALL, by_caller=True, code=200, reason="OK"))
    await stage.end()
    assert stage.store.fields_of("agent_heard")["text"] == ""


async def test_what_has_no_transcript_is_written_before_what_the_caller_said_next(stage: Stage) -> None:
    await stage.talk()
    stage.playout.play("item_1", 1000, of_ms=1000, first_at=stage.clock.monotonic())
    stage.playout.play_out()
    await settle()
    assert "agent_heard" not in stage.store.events()
    await emit(stage, CallerSpoke(CALL, "item_2", "Hello?"))
    assert stage.store.events()[-2:] == ["agent_heard", "caller_spoke"]
    stage.playout.play("item_3", 1000, of_ms=1000, first_at=stage.clock.monotonic())
    stage.playout.play_out()
    await settle()
    await emit(stage, AgentSpoke(CALL, "item_3", "Yes."))
    assert stage.store.events()[-2:] == ["agent_spoke", "agent_heard"]
    assert stage.store.fields_of("agent_heard")["text"] == "Yes."
    await hang_up(stage)


async def test_what_is_only_for_the_record_goes_into_the_stream(stage: Stage) -> None:
    await stage.ring()
    await emit(stage, Noted(CALL, "session_open", {"took_ms": 80}))
    assert stage.store.fields_of("session_open") == {"took_ms": 80}
    assert stage.session.phase is Phase.RINGING
    await hang_up(stage)


async def test_the_record_sums_up_tokens_and_their_cost() -> None:
    stage = Stage(price=lambda used: used["audio_in"] * 0.001)
    await stage.talk()
    stage.session.post(Noted(CALL, "usage", {"text_in": 5, "audio_in": 20, "audio_out": 7}))
    stage.session.post(Noted(CALL, "usage", {"audio_in": 10, "text_out": 1}))
    stage.session.post(LegClosed(CALL, by_caller=True, code=200, reason="OK"))
    await stage.end()
    record = stage.store.record()
    assert (record["tokens_in"], record["tokens_out"], record["cost_usd"]) == (35, 8, 0.03)


async def test_the_record_has_the_cost_so_far_with_each_usage() -> None:
    stage = Stage(price=lambda used: used["audio_in"] * 0.001)
    await stage.talk()
    await emit(stage, Noted(CALL, "usage", {"audio_in": 20, "audio_out": 7}))
    assert stage.store.record()["cost_usd"] == 0.02
    await emit(stage, Noted(CALL, "usage", {"audio_in": 10}))
    assert stage.store.fields_of("usage") | {"cost_usd": 0.03, "tokens_in": 30} == stage.store.fields_of("usage")
    await hang_up(stage)


async def test_a_call_whose_prices_are_not_known_has_tokens_but_no_cost() -> None:
    stage = Stage()
    await stage.talk()
    stage.session.post(Noted(CALL, "usage", {"audio_in": 20}))
    stage.session.post(LegClosed(CALL, by_caller=True, code=200, reason="OK"))
    await stage.end()
    assert stage.store.record()["tokens_in"] == 20
    assert "cost_usd" not in stage.store.record()


async def test_a_setup_that_took_too_long_says_what_the_agent_failed_of() -> None:
    stage = Stage()
    await stage.ring()
    stage.session.post(Noted(CALL, "agent_retry", {"detail": "the service answered HTTP 503"}))
    await settle()
    stage.clock.advance(9)
    await settle()
    stage.session.post(LegClosed(CALL, by_caller=False, code=503, reason="Setup timeout"))
    await stage.end()
    assert stage.store.record()["end_detail"] == "no agent within 8 s: the service answered HTTP 503"
