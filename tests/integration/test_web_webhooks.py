"""Messages to webhooks that were given up, over HTTP: listed, and sent again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.settings.webhooks import WebhooksSettings
from gateway.store.webhook_queue import Delivery, WebhookQueue
from tests.rigs.redis_server import RedisServer
from tests.rigs.web_api import WebApi, problem, serving

pytestmark = pytest.mark.integration


@pytest.fixture
async def api(redis: RedisServer, tmp_path: Path) -> AsyncIterator[WebApi]:
    async with serving(redis, tmp_path) as api:
        yield api


async def buried(redis: RedisServer, number: int) -> str:
    """Have a message given up; return the id of the delivery."""
    async with WebhookQueue(redis.settings(), WebhooksSettings()) as queue:
        with redis.client() as client:
            client.xadd("{gateway}:events", {"call_id": f"c{number}", "event": "ended"})
        (entry,) = await queue.entries("w1")
        made = Delivery(f"msg_{number}.crm", "crm", f"msg_{number}", "call.ended", f"c{number}", '{"secret": "words"}')
        assert await queue.put(entry, [made])
        (claimed,), _ = await queue.claim("crm", 1, 60)
        await queue.bury(claimed, "answered 500")
    return made.id


async def test_what_was_given_up_is_listed_without_its_words_and_sent_again_once(
    api: WebApi, redis: RedisServer
) -> None:
    async with WebhookQueue(redis.settings(), WebhooksSettings()) as queue:
        await queue._make_group()
    first, second = await buried(redis, 1), await buried(redis, 2)
    answer = await api.ask("GET", "/v1/webhooks/dead", token="read")
    assert [letter["id"] for letter in answer.json()["dead"]] == [second, first]
    letter = answer.json()["dead"][1]
    assert (letter["endpoint"], letter["type"], letter["call_id"], letter["attempts"], letter["detail"]) == (
        *("crm", "call.ended", "c1", 1),
        "answered 500",
    )
    assert "words" not in answer.text
    assert len((await api.ask("GET", "/v1/webhooks/dead?limit=1", token="read")).json()["dead"]) == 1
    again = await api.ask("POST", f"/v1/webhooks/dead/{first}/resend", token="admin")
    assert (again.status_code, again.json()) == (200, {"id": first})
    twice = await api.ask("POST", f"/v1/webhooks/dead/{first}/resend", token="admin")
    assert problem(twice) == (404, "unknown_message")
    assert problem(await api.ask("POST", f"/v1/webhooks/dead/{second}/resend", token="control"))[0] == 403
    async with WebhookQueue(redis.settings(), WebhooksSettings()) as queue:
        ((sent,), _) = await queue.claim("crm", 5, 60)
        assert (sent.id, sent.attempts) == (first, 1)
        assert [letter.delivery.id for letter in await queue.dead()] == [second]
