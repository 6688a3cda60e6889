"""An operator's commands in a session: what reaches the leg and the agent, what is answered and written down."""

from __future__ import annotations

import pytest

from gateway.call import actions as do
from gateway.call import commands as given
from gateway.call.events import DigitPressed, Keypad, LegClosed, Routed, SecondClosed, SecondUp
from gateway.call.machine.control import WHISPERED
from gateway.call.machine.phase import Phase
from tests.fakes.stage import CALL, ROUTED, Stage

pytestmark = pytest.mark.unit

ANN = "sip:ann@192.0.2.7"
CLOSED = LegClosed(CALL, by_caller=True, code=200, reason="OK")


def notes(stage: Stage, *names: str) -> list[dict[str, object]]:
    return [dict(fields) for _, name, fields in stage.store.notes if name in names]


async def talking(routed: Routed = ROUTED) -> tuple[Stage, list[do.AnswerCommand]]:
    stage = Stage(routed)
    answers: list[do.AnswerCommand] = []
    stage.session._orders[do.AnswerCommand] = answers.append
    await stage.talk()
    return stage, answers


async def test_commands_reach_the_leg_and_the_agent() -> None:
    stage, answers = await talking()
    await stage.post(
        given.WhisperCommanded(CALL, "c1", "ann", "Be brief."),
        given.SayCommanded(CALL, "c2", "ann", "One moment."),
        given.DigitsCommanded(CALL, "c3", "ann", "12"),
        given.TraceCommanded(CALL, "c4", "ann"),
    )
    assert stage.agent.told == [(f"{WHISPERED} Be brief.", False)]
    assert stage.agent.sentences == ["One moment."]
    assert stage.leg.orders[-2:] == [("send_digits", "12"), ("trace",)]
    assert [each.command_id for each in answers if each.done] == ["c1", "c2", "c3", "c4"]
    await stage.post(CLOSED)
    await stage.end()


async def test_a_command_is_written_down_with_who_gave_it_and_what_became_of_it() -> None:
    stage, _ = await talking()
    await stage.post(given.WhisperCommanded(CALL, "c1", "ann", "Be brief."), given.GiveBackCommanded(CALL, "c2", "bob"))
    assert notes(stage, "command", "command_done", "command_refused") == [
        {"command": "whisper", "command_id": "c1", "by": "ann", "text": "Be brief."},
        {"command_id": "c1"},
        {"command": "give_back", "command_id": "c2", "by": "bob"},
        {"command_id": "c2", "detail": "nobody has taken the call over"},
    ]
    await stage.post(CLOSED)
    await stage.end()


async def test_a_hang_up_is_written_down_before_the_end_it_brings() -> None:
    stage, answers = await talking()
    stage.leg.obedient = True
    await stage.post(given.HangUpCommanded(CALL, "c1", "ann"))
    outcome = await stage.end()
    assert (outcome.reason, outcome.ended_by) == ("operator_hung_up", "operator")
    assert stage.store.events()[-4:] == ["command", "command_done", "ending", "ended"]
    assert notes(stage, "ending") == [{"state": "ending"}]
    assert notes(stage, "ended")[0]["end_detail"] == "by ann"
    assert answers == [do.AnswerCommand("c1", done=True)]


async def test_a_take_over_joins_the_legs_and_gives_back_the_same_agent() -> None:
    stage, answers = await talking()
    await stage.post(given.TakeOverCommanded(CALL, "c1", "ann", ANN))
    assert answers == []
    await stage.post(SecondUp(CALL, "PCMU/8000"))
    assert stage.leg.orders[-1] == ("join",)
    assert stage.agent.muted
    assert [each.done for each in answers] == [True]
    await stage.post(SecondClosed(CALL, 200, "OK"))
    assert stage.leg.orders[-1] == ("talk_to_caller",)
    assert not stage.agent.muted
    assert stage.session.phase is Phase.ACTIVE
    assert stage.agent.closes == 0
    assert {"taken_over", "given_back"} <= {*stage.store.events()}
    await stage.post(CLOSED)
    await stage.end()


async def test_keys_are_hidden_where_the_callers_are() -> None:
    masked = Routed(CALL, setup_limit_s=8, max_length_s=600, keypad=Keypad(masked=True))
    stage, _ = await talking(masked)
    await stage.post(DigitPressed(CALL, "4"), given.DigitsCommanded(CALL, "c1", "ann", "4711#"))
    assert notes(stage, "command")[0]["digits"] == "*****"
    assert ("send_digits", "4711#") in stage.leg.orders
    await stage.post(CLOSED)
    await stage.end()


async def test_a_command_that_comes_while_the_call_is_closed_is_answered() -> None:
    stage, answers = await talking()
    stage.session.post(CLOSED)
    stage.session.post(given.TraceCommanded(CALL, "c1", "ann"))
    await stage.end()
    assert answers == [do.AnswerCommand("c1", done=False, detail="the call is ending already")]
