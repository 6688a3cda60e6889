"""Steps of a dialplan carried out: sounds in the playout, agents one after the other, and what is written down."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from gateway.call.actions import CallSecond
from gateway.call.builtin_tools import HangUpAsked
from gateway.call.events import (
    AgentReady,
    CallEvent,
    DigitPressed,
    EarlyMediaUp,
    Keypad,
    LegClosed,
    MediaUp,
    Noted,
    Planned,
    SecondClosed,
    SecondUp,
)
from gateway.call.machine.ivr import DialTo, Menu, PlaySounds, Redirect, RefuseCall
from gateway.call.machine.phase import Phase
from gateway.call.outcome import EndReason
from gateway.call.ports import AgentSetup
from gateway.call.session.session import QUIET_POLL_S, QUIET_S, CallSession, no_agents, no_sounds
from gateway.call.steps import Step, TalkTo
from gateway.errors import AgentLost, ConfigError, GatewayError
from gateway.ids import CallId
from tests.fakes.stage import ROUTED, SOUNDS, Stage, settle

pytestmark = pytest.mark.unit

CALL = CallId("call")
UP = MediaUp(CALL, "PCMU/8000")
BYE = LegClosed(CALL, by_caller=True, code=200, reason="OK")
HELLO = PlaySounds(("hello.wav", "sorry.wav"))
MENU = Menu("choices.wav", keys={"1": TalkTo("reception"), "2": DialTo("+15550100", trunk="out")})


async def begin(step: Step) -> Stage:
    plan = Planned(CALL, step, setup_limit_s=8, max_length_s=600, refusal_code=480)
    stage = Stage(planned=plan)
    stage.leg.obedient = True
    await stage.start()
    return stage


async def play_out(stage: Stage) -> None:
    """Let everything that is queued be heard."""
    for item_id in list(stage.playout.written):
        ms = len(stage.playout.written.pop(item_id)) // 16
        stage.playout.play(item_id, ms, of_ms=ms, first_at=stage.clock.monotonic())
        stage.clock.advance(ms / 1000)
        stage.playout.play_out()
    stage.playout.queued_ms = 0
    stage.clock.advance(QUIET_S + 2 * QUIET_POLL_S)
    await settle()


async def end(stage: Stage, event: CallEvent = BYE) -> Mapping[str, object]:
    """End the call and check that nothing is left of it."""
    if stage.session.outcome is None:
        stage.session.post(event)
    await stage.end()
    assert stage.clock.running == 0
    assert all(agent.closes == agent.opens for agent in stage.agents)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert stage.session.illegal_events == 0
    return stage.store.record()


def steps(stage: Stage) -> list[tuple[object, ...]]:
    noted = [fields for _, name, fields in stage.store.notes if name == "step"]
    return [(fields["action"], fields["target"], fields.get("detail")) for fields in noted]


async def test_an_announcement_is_played_in_order_and_written_down() -> None:
    stage = await begin(HELLO)
    assert stage.leg.orders == [("answer",)]
    assert list(stage.playout.written.values()) == [SOUNDS["hello.wav"], SOUNDS["sorry.wav"]]
    assert stage.playout.orders == ["play sound_1", "play sound_2"]
    await play_out(stage)
    record = await end(stage)
    assert (record["end_reason"], record["sip_code"]) == ("completed", 200)
    heard = [fields for _, name, fields in stage.store.notes if name == "announced"]
    assert [(note["sound"], note["played_ms"], note["cut"]) for note in heard] == [
        ("hello.wav", 100, False),
        ("sorry.wav", 200, False),
    ]
    assert "agent_heard" not in stage.store.events()
    assert stage.store.events()[:4] == ["routing", "step", "attending", "media_up"]
    assert {"answered_at", "setup_ms"} <= set(record)


async def test_a_sound_that_a_key_cuts_off_is_written_as_cut() -> None:
    stage = await begin(MENU)
    stage.playout.play("sound_1", 20, of_ms=50, first_at=stage.clock.monotonic())
    await stage.post(DigitPressed(CALL, "1"))
    heard = {"sound": "choices.wav", "played_ms": 20, "cut": True}
    assert stage.store.fields_of("announced").items() >= heard.items()
    assert steps(stage) == [("menu", "choices.wav", None), ("agent", "reception", "key 1")]
    assert stage.store.events()[-4:] == ["digit_pressed", "step", "announced", "waiting"]
    assert stage.chosen == ["reception"]
    assert stage.session.phase is Phase.WAITING
    assert stage.playout.filling
    stage.agent.ready()
    await settle()
    assert (stage.session.phase, stage.agent.greeted, stage.playout.filling) == (Phase.ACTIVE, 1, False)
    assert (await end(stage))["agent"] == "reception"


async def test_silence_after_a_prompt_plays_it_again() -> None:
    stage = await begin(MENU)
    await play_out(stage)
    stage.clock.advance(5)
    await settle()
    assert stage.playout.orders == ["play sound_1", "play sound_2"]
    await end(stage)


async def test_a_second_agent_follows_one_that_was_lost_and_hears_nothing_of_it() -> None:
    stage = await begin(TalkTo("reception", otherwise=TalkTo("night", prompt="Say that it is late.")))
    first = stage.agent
    first.close_gate = asyncio.Event()
    first.ready()
    await settle()
    phases = [stage.session.phase]
    emit = first._emit
    assert emit is not None
    first.fail(AgentLost("reset"))
    await settle()
    assert stage.agents == [first, stage.agent]
    emit(HangUpAsked(CALL, "tool", "done"))
    emit(AgentReady(CALL, "stale"))
    await settle()
    assert [*phases, stage.session.phase] == [Phase.ACTIVE, Phase.WAITING]
    stage.agent.ready("sess_2")
    await settle()
    assert stage.agent.prompts == ["Say that it is late."]
    stage.session.post(BYE)
    await settle()
    assert stage.task is not None
    assert not stage.task.done()  # the first one has not closed yet
    first.close_gate.set()
    record = await end(stage)
    assert record["upstream_session_id"] == "sess_2"
    assert steps(stage)[1] == ("agent", "night", "agent_lost: reset")


async def test_each_agents_tokens_are_counted_at_its_own_price() -> None:
    prices = {"day": 1.0, "night": 0.1}

    def priced(step: TalkTo) -> AgentSetup:
        return replace(choose(step), price=lambda used: prices[step.agent] * sum(used.values()))

    stage = Stage(planned=Planned(CALL, TalkTo("day", otherwise=TalkTo("night")), setup_limit_s=8, max_length_s=600))
    choose = stage.choose
    stage.session._choose = priced
    stage.leg.obedient = True
    await stage.start()
    stage.agent.ready()
    await settle()
    stage.agent.emit(Noted(CALL, "usage", {"text_in": 5, "audio_out": 2}))
    stage.agent.fail(AgentLost("reset"))
    await settle()
    stage.agent.ready()
    await settle()
    stage.agent.emit(Noted(CALL, "usage", {"text_in": 10}))
    record = await end(stage)
    assert (record["tokens_in"], record["tokens_out"], record["cost_usd"]) == (15, 2, 8.0)


async def test_an_agent_that_cannot_be_made_is_told_in_the_record() -> None:
    plan = Planned(CALL, TalkTo("reception"), setup_limit_s=8, max_length_s=600)
    stage = Stage(planned=plan)
    stage.leg.obedient = True
    stage.choice_raises = ConfigError("agent: 'digit' is undefined")
    await stage.start()
    record = await end(stage)
    assert (record["end_reason"], record["end_detail"]) == ("internal_error", "agent: 'digit' is undefined")
    assert stage.leg.hung_up == 500


async def test_a_fault_in_making_an_agent_ends_the_call_through_the_one_door() -> None:
    plan = Planned(CALL, TalkTo("reception", otherwise=HELLO), setup_limit_s=8, max_length_s=600)
    stage = Stage(planned=plan)
    stage.choice_raises = KeyError("reception")
    await stage.start()
    assert stage.task is not None
    with pytest.raises(KeyError):
        await stage.end()
    assert stage.leg.hung_up == 500
    assert stage.session.outcome is not None
    assert stage.session.outcome.reason is EndReason.INTERNAL_ERROR


async def test_keys_are_masked_as_soon_as_an_agent_wants_it() -> None:
    stage = await begin(MENU)
    stage.routed = replace(ROUTED, keypad=Keypad(masked=True))
    await stage.post(DigitPressed(CALL, "1"))
    stage.agent.ready()
    await settle()
    await stage.post(DigitPressed(CALL, "4"))
    pressed = [fields["digit"] for _, name, fields in stage.store.notes if name == "digit_pressed"]
    assert pressed == ["1", "*"]
    await end(stage)


async def test_only_an_agent_whose_profile_allows_it_records() -> None:
    stage = Stage(planned=Planned(CALL, TalkTo("day"), setup_limit_s=8, max_length_s=600))
    stage.leg.obedient = True
    stage.routed = replace(ROUTED, recording=True)
    choose = stage.choose
    stage.session._choose = lambda step: replace(choose(step), may_record=False)
    await stage.start()
    stage.agent.ready()
    await settle()
    assert stage.session.phase is Phase.ACTIVE
    assert stage.recorder.orders == []
    await end(stage)


async def test_somebody_else_is_called_through_a_trunk_and_joined() -> None:
    stage = await begin(DialTo("+15550100", trunk="out", headers={"X-Campaign": "spring"}))
    called = CallSecond("+15550100", "out", {"X-Campaign": "spring"})
    assert stage.leg.orders == [("ring",), ("call_second", called)]
    assert "ringing_at" in stage.store.record()
    await stage.post(SecondUp(CALL, "PCMU/8000"))
    assert stage.leg.orders[2:] == [("answer",), ("join",)]
    assert stage.session.phase is Phase.JOINED
    await stage.post(SecondClosed(CALL, 200, "OK"))
    record = await end(stage)
    assert (record["end_reason"], record["end_detail"]) == ("connected", "+15550100")


async def test_a_refusal_is_heard_before_the_answer() -> None:
    stage = await begin(RefuseCall(486, "All lines busy", "sorry.wav"))
    assert stage.leg.orders == [("progress",)]
    assert stage.store.fields_of("early_media_up") == {"codec": "PCMU/8000"}
    await play_out(stage)
    record = await end(stage)
    assert stage.leg.orders[1:] == [("hang_up", 486, "All lines busy")]
    assert (record["end_reason"], record["sip_code"], record.get("answered_at")) == ("rejected", 486, None)


async def test_a_redirect_carries_its_contacts() -> None:
    stage = await begin(Redirect(("sip:a@192.0.2.7",)))
    assert stage.leg.orders == [("hang_up", 302, "Moved Temporarily", ("sip:a@192.0.2.7",))]
    assert (await end(stage))["end_reason"] == "redirected"


async def test_without_agents_and_sounds_a_plan_that_names_them_fails_plainly() -> None:
    with pytest.raises(GatewayError, match="no agent night"):
        no_agents(TalkTo("night"))
    with pytest.raises(GatewayError, match=r"no sound hello\.wav"):
        no_sounds("hello.wav")


async def test_a_call_that_ends_before_its_agent_was_asked_closes_nothing() -> None:
    stage = Stage(planned=Planned(CALL, TalkTo("day"), setup_limit_s=8, max_length_s=600))
    stage.session.post(LegClosed(CALL, by_caller=True, code=487, reason="Request Terminated"))
    await stage.start()
    record = await end(stage)
    assert (record["end_reason"], stage.agent.opens, stage.agent.closes) == ("caller_cancelled", 0, 0)


async def test_early_media_after_the_end_changes_nothing() -> None:
    stage = await begin(Redirect(("sip:a@192.0.2.7",)))
    stage.session.post(EarlyMediaUp(CALL, "PCMU/8000"))
    await end(stage)
    assert isinstance(stage.session, CallSession)
