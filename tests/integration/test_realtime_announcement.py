"""The sentence that tells the caller of the recording: a response of its own, and what becomes of it."""

from __future__ import annotations

import pytest
from websockets.asyncio.server import ServerConnection

from gateway.call.events import AnnouncementSaid
from gateway.dialplan.model import AgentProfile
from tests.fakes.realtime_service import CALL, Json, answer_turn, calling, make_ready, receive, serving, until_closed

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
