"""A real call, told to a real HTTP server by webhooks."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from standardwebhooks import Webhook

from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.simulator import SimulatorOptions
from gateway.lab.simulator.script import Script
from gateway.settings.sections import RedisSettings, Settings
from gateway.settings.webhooks import WebhooksSettings
from gateway.store.webhook_queue import WebhookQueue
from gateway.webhooks.delivery import delivering
from tests.rigs.house import MakeHouse
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e

KEY = "whsec_" + base64.b64encode(bytes(range(32))).decode()


class Receiver:
    """Checks what it is sent and keeps it."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        app = web.Application()
        app.router.add_post("/", self._take)
        self.server = TestServer(app)

    async def _take(self, request: web.Request) -> web.Response:
        self.messages.append(Webhook(KEY).verify(await request.read(), dict(request.headers)))
        return web.Response()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.server.start_server()
    yield receiver
    await receiver.server.close()


async def test_a_call_is_told_from_its_start_to_its_recording(
    house: MakeHouse, tmp_path: Path, receiver: Receiver
) -> None:
    answers = [{"output": [{"say": "How can I help?", "sentence": 1, "for_s": 1}]}]
    options = SimulatorOptions(script=Script.model_validate({"answers": answers}))
    given = {"GATEWAY_RECORDING__FOLDER": str(tmp_path / "recordings")}
    async with house(profile="recording: {mode: on}", simulator=options, **given) as here, RtpPeer() as phone:
        endpoint = {"url": f"http://127.0.0.1:{receiver.server.port}/", "secret": "hook"}
        webhooks = WebhooksSettings.model_validate({"endpoints": {"crm": endpoint}, "allow_private": ["127.0.0.0/8"]})
        redis = RedisSettings.model_validate({"url": here.redis_url})
        settings = Settings(redis=redis, webhooks=webhooks, secrets={"hook": SecretStr(KEY)})
        async with delivering(settings, "web-1", here.store), WebhookQueue(redis, webhooks) as queue:
            await until_group(queue)
            async with Sipp(here.port, (invite(phone.port), ANSWERED, pause(2500), BYE), tmp_path / "sipp") as sipp:
                phone.talk()
                assert await sipp.finish() == 0, sipp.output
            await until(lambda: len(receiver.messages) == 5, what="five messages")
    by_type = {message["type"]: message["data"] for message in receiver.messages}
    assert {*by_type} == {"call.started", "call.answered", "call.recording", "call.ended", "call.transcript"}
    assert len({data["call_id"] for data in by_type.values()}) == 1
    ended = by_type["call.ended"]
    assert ended["call"]["end_reason"] == "caller_hung_up"
    assert ended["end"]["meaning"]
    assert Path(by_type["call.recording"]["recording"]["path"]).exists()
    said = by_type["call.transcript"]["transcript"]["entries"]
    assert ("agent", "How can I help?") in [(each["speaker"], each["text"]) for each in said]
    assert json.dumps(receiver.messages)


async def until_group(queue: WebhookQueue) -> None:
    """Make the group of consumers, if the deliverer has not: what happens from now on is told."""
    await queue._make_group()
