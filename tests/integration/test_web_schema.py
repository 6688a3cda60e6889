"""
Schemathesis over the whole API: requests made from its own OpenAPI description, right ones and wrong ones.

It checks that nothing is answered with 5xx, that answers have the statuses, types, headers and bodies that the
description says, that wrong requests are refused and right ones taken, that no endpoint answers without a token, and
that other methods get 405 with the right ``Allow``. The streams are left out: they do not end.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.audio.wav import write_wav
from gateway.condition import WorkerCondition
from gateway.ids import CallId
from gateway.settings.sections import RealtimeSettings
from gateway.store.commands import Command, CommandAnswer, CommandInbox, done
from gateway.store.registry import RegistryWriter
from tests.fakes.minting import MintingService
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until
from tests.rigs.web_api import TOKENS, opened, serving

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

CALL = CallId("0197c0ffee0a1b2c3d4e5f")  # the example of the description
EXAMPLES = 6
LIMIT_S = 1500
"""Some thousand requests, one after the other; a minute on a machine by itself."""
SETTINGS = """
# What no schema can say: how many days a month has, which idempotency keys were used before, that one time is later
# than another, what is a telephone number.
[[operations]]
include-path-regex = "^/v1/(dialplan/explain|calls|cdrs|cdrs/totals|cdrs/export|callers/.*)$"
[operations.checks]
positive_data_acceptance.enabled = false
"""


def files_of_a_call(folder: Path) -> dict[str, str]:
    """Return the fields of a record that name files, which are there."""
    for name in ("recordings", "traces"):
        (folder / name).mkdir()
    recording, trace = folder / "recordings" / "a.wav", folder / "traces" / "a.txt"
    write_wav(recording, 8000, bytes(16000), bytes(16000))
    trace.write_text("ladder")
    trace.with_suffix(".pcap").write_bytes(b"\xd4\xc3\xb2\xa1")
    return {"recording": str(recording), "sip_trace": str(trace)}


@pytest.fixture
async def service() -> AsyncIterator[MintingService]:
    service = MintingService()
    await service.server.start_server()
    yield service
    await service.server.close()


async def test_what_the_description_says_is_what_the_api_does(
    redis: RedisServer, tmp_path: Path, service: MintingService
) -> None:
    async def carry_out(command: Command) -> CommandAnswer:
        return done(command)

    url = f"ws://127.0.0.1:{service.server.port}/v1/realtime"
    given = {"url": url, "api_key": "sk-simulated"}
    many: dict[str, Any] = {"mint_seconds_max": 7200}
    many |= dict.fromkeys(("requests_per_minute", "refusals_per_minute", "mint_limit_per_minute"), 1_000_000)
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    async with (
        opened(redis, "w1") as store,
        RegistryWriter(redis.settings()) as registry,
        CommandInbox(redis.settings(), "w1", carry_out),
        serving(redis, tmp_path, realtime=RealtimeSettings.model_validate(given), **many) as api,
    ):
        store.note(CALL, "answered", state="talking", setup_ms=7, **files_of_a_call(tmp_path))
        store.note_trunk("main", state="registered", code=200)
        store.note_dialplan(state="current", version="x", failures=0)
        registry.set_workers([WorkerCondition("w1", "ready", 1, 4, "")])
        await until(lambda: redis.live())
        process = await asyncio.create_subprocess_exec(
            *(f"{sys.prefix}/bin/schemathesis", "--no-color", "run", f"{api.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {TOKENS['admin']}"),
            *("--exclude-path-regex", "stream$", "--max-examples", str(EXAMPLES), "--seed", "1"),
            *("--request-timeout", "30", "--no-shrink", "--continue-on-failure"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            out, _ = await asyncio.wait_for(process.communicate(), LIMIT_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, out.decode()[-20_000:]
    print(out.decode()[-2000:])
