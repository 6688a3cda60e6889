"""An agent whose service answers nothing: what is tried, how it ends, and turns whose end is never told."""

from __future__ import annotations

import pytest
from websockets.asyncio.server import ServerConnection

from gateway.call.events import AgentBack, AgentFailed, AnswerCame, AnswerLate, ApologyAsked, SpeechStopped
from gateway.dialplan.model.agent import AgentProfile
from gateway.errors import AgentLost
from tests.fakes.realtime_service import answer_turn, calling, in_turn, make_ready, send, serving, skip_to, until_closed

pytestmark = pytest.mark.integration

FAILED = {"type": "failed", "error": {"type": "server_error", "code": None, "message": "No."}}


def profile(**on_no_answer: object) -> AgentProfile:
    values = {"instructions": "Be brief.", "greeting": "Hello.", "on_no_answer": on_no_answer}
    return AgentProfile.model_validate(values)


async def fails(socket: ServerConnection) -> None:
    """Fail whatever is asked for."""
    await make_ready(socket)
    count = 0
    while await skip_to(socket, "response.create"):
        count += 1
        await send(socket, "response.created", response={"id": f"resp_{count}", "status": "in_progress"})
        done = {"id": f"resp_{count}", "status": "failed", "status_details": FAILED}
        await send(socket, "response.done", response=done)


async def test_when_nothing_helps_another_session_is_taken_and_then_the_agent_is_lost() -> None:
    async with serving(fails) as url, calling(url, profile=profile(retries=1)) as call:
        await call.event()
        call.agent.greet()
        await call.first(AgentBack)
        failed = await call.first(AgentFailed)

    assert isinstance(failed.error, AgentLost)
    assert "no answer" in failed.error.detail
    steps = [note["then"] for note in call.noted("answer_missing")]
    assert steps == ["asked again", "apologize", "reconnect", "give_up"]


async def test_the_next_session_is_asked_for_what_the_one_before_owed() -> None:
    greetings: list[object] = []

    async def answers(socket: ServerConnection) -> None:
        await make_ready(socket)
        greetings.append((await skip_to(socket, "response.create"))["response"]["instructions"])
        await answer_turn(socket, "resp_a", "item_a", "Hello.")
        await until_closed(socket)

    wanted = profile(retries=0, then=["reconnect"])
    async with serving(in_turn(fails, answers)) as url, calling(url, profile=wanted) as call:
        await call.event()
        call.agent.greet()
        await call.until(lambda: call.playout.queued_ms > 0)
        await call.first(AnswerCame)

    assert "Hello." in str(greetings[0])


async def test_a_recorded_apology_is_asked_for_and_the_call_goes_on() -> None:
    wanted = profile(retries=0, then=["play"], sound="sorry.wav")
    async with serving(fails) as url, calling(url, profile=wanted) as call:
        await call.event()
        call.agent.greet()
        apology = await call.first(ApologyAsked)
        assert not call.agent.responding

    assert apology.sound == "sorry.wav"


async def test_where_nothing_comes_at_all_the_wait_is_bridged_and_it_is_asked_for_again() -> None:
    async def silent_once(socket: ServerConnection) -> None:
        await make_ready(socket)
        await skip_to(socket, "response.create")
        await skip_to(socket, "response.create")
        await answer_turn(socket, "resp_a", "item_a", "Hello.")
        await until_closed(socket)

    async with serving(silent_once) as url, calling(url, profile=profile(limit_s=1)) as call:
        await call.event()
        call.agent.greet()
        await call.first(AnswerLate)
        await call.first(AnswerCame)


async def test_a_turn_of_which_the_service_never_tells_the_end_ends_when_the_caller_is_quiet() -> None:
    async def deaf(socket: ServerConnection) -> None:
        await make_ready(socket)
        await send(socket, "input_audio_buffer.speech_started", item_id="item_u")
        await skip_to(socket, "response.create")
        await answer_turn(socket, "resp_a", "item_a", "Yes?")
        await until_closed(socket)

    values = {
        "instructions": "Be brief.",
        "turn_detection": {"silence_duration_ms": 50},
        "on_no_answer": {"limit_s": 1},
    }
    wanted = AgentProfile.model_validate(values)
    async with serving(deaf) as url, calling(url, profile=wanted) as call:
        await call.event()
        while not [event for event in call.events if isinstance(event, SpeechStopped)]:
            await call.speak(5, level=0)
        await call.until(lambda: call.playout.queued_ms > 0)
