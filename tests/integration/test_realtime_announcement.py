"""The sentence that tells the caller of the recording: a response of its own, and what becomes of it."""

from __future__ import annotations

import pytest
from websockets.asyncio.server import ServerConnection

from gateway.call.events import AnnouncementFailed, AnnouncementSaid
from gateway.dialplan.model.agent import AgentProfile, OnNoAnswer
from tests.fakes.realtime_service import (
    CALL,
    Json,
    answer_turn,
    calling,
    make_ready,
    receive,
    say,
    send,
    serving,
    until_closed,
)
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

PROFILE = AgentProfile.model_validate(
    {"instructions": "Be brief.", "recording": {"mode": "on", "announcement": "This call is recorded."}}
)


async def test_an_announcement_that_came_whole_is_told() -> None:
    asked: list[Json] = []

    async def service(socket: ServerConnection) -> None:
        await make_ready(socket)
        asked.append(await receive(socket, "response.create"))
        await answer_turn(socket, "resp_1", "item_a", "This call is recorded.")
        await until_closed(socket)

    async with serving(service) as url, calling(url, profile=PROFILE) as call:
        await call.event()
        call.agent.announce()
        assert call.agent.responding
        assert await call.first(AnnouncementSaid) == AnnouncementSaid(CALL)
        assert not call.agent.responding
    response = asked[0]["response"]
    assert response["instructions"].endswith("nothing else: This call is recorded.")
    assert response["tool_choice"] == "none"


async def test_an_announcement_that_cannot_be_had_is_told_after_the_last_try() -> None:
    asked: list[Json] = []

    async def service(socket: ServerConnection) -> None:
        await make_ready(socket)
        while True:
            asked.append(await receive(socket, "response.create"))
            failed = {"id": f"resp_{len(asked)}", "status": "failed", "status_details": {"error": {"message": "x"}}}
            await send(socket, "response.done", response=failed)

    async with serving(service) as url, calling(url, profile=PROFILE) as call:
        await call.event()
        call.agent.announce()
        assert await call.first(AnnouncementFailed) == AnnouncementFailed(CALL, "x")
        assert not call.agent.responding
    assert len(asked) == 1 + PROFILE.on_no_answer.retries


async def test_an_announcement_that_was_cut_short_is_said_again_from_its_beginning() -> None:
    async def service(socket: ServerConnection) -> None:
        await make_ready(socket)
        await receive(socket, "response.create")
        await answer_turn(socket, "resp_1", "item_a", "This", status="incomplete")
        again = await receive(socket, "response.create")  # and nothing before it that says to go on
        assert again["response"]["instructions"].endswith("This call is recorded.")
        await answer_turn(socket, "resp_2", "item_b", "This call is recorded.")
        await until_closed(socket)

    async with serving(service) as url, calling(url, profile=PROFILE) as call:
        await call.event()
        call.agent.announce()
        await call.first(AnnouncementSaid)


async def test_an_announcement_that_the_gateway_cancels_is_not_told() -> None:
    async def service(socket: ServerConnection) -> None:
        await make_ready(socket)
        await receive(socket, "response.create")
        await send(socket, "response.created", response={"id": "resp_1", "status": "in_progress"})
        await say(socket, bytes(4800))
        await receive(socket, "response.cancel")
        await send(socket, "response.done", response={"id": "resp_1", "status": "completed"})
        await until_closed(socket)

    async with serving(service) as url, calling(url, profile=PROFILE) as call:
        await call.event()
        call.agent.announce()
        await until(lambda: call.playout.queued_ms > 0)
        call.agent.cancel()
        await until(lambda: not call.agent.responding)
        assert not any(isinstance(event, AnnouncementSaid | AnnouncementFailed) for event in call.events)


async def test_an_announcement_that_the_caller_cuts_off_is_said_again_behind_the_answer_whatever_the_retries() -> None:
    profile = PROFILE.model_copy(update={"on_no_answer": OnNoAnswer(retries=0)})

    async def service(socket: ServerConnection) -> None:
        await make_ready(socket)
        await receive(socket, "response.create")
        await send(socket, "response.created", response={"id": "resp_1", "status": "in_progress"})
        await say(socket, bytes(4800))
        await send(socket, "input_audio_buffer.speech_started", item_id="item_u")
        await send(socket, "response.done", response={"id": "resp_1", "status": "cancelled"})
        await send(socket, "input_audio_buffer.speech_stopped", item_id="item_u")
        await send(socket, "input_audio_buffer.committed", item_id="item_u", previous_item_id=None)
        await answer_turn(socket, "resp_2", "item_b", "Hello?")
        await receive(socket, "response.create")
        await answer_turn(socket, "resp_3", "item_c", "This call is recorded.")
        await until_closed(socket)

    async with serving(service) as url, calling(url, profile=profile) as call:
        await call.event()
        call.agent.announce()
        await call.first(AnnouncementSaid)
        assert not any(isinstance(event, AnnouncementFailed) for event in call.events)
