"""The commands that look at a running gateway, run as people run them: beside it, with nothing configured."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sys
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.child_process import ChildProcess
from gateway.lab.callers.gateway_process import GatewayProcess, on_loopback
from gateway.settings.sources import environment_for_child
from tests.rigs.fleet import open_fleet
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import ANSWERED, EXPECT_BYE, invite

pytestmark = pytest.mark.e2e

HELLO = Path("dialplans/hello.yaml")
LIMIT_S = 60.0


class Person:
    """Somebody at the command line of the same machine."""

    def __init__(self, runtime: Path) -> None:
        self._environment = environment_for_child({"XDG_RUNTIME_DIR": str(runtime)})

    async def run(self, *words: str, code: int = 0) -> str:
        """Run a command to its end; return what it printed."""
        command = ChildProcess(
            sys.executable, "-m", "gateway", *words, name=words[0], environment=self._environment, kept_lines=None
        )
        async with command:
            assert await command.wait(LIMIT_S) == code, command.output
        return command.output

    async def ask(self, *words: str) -> Any:
        """Return the JSON that a command prints."""
        return json.loads(await self.run(*words, "--json"))

    async def live(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many calls are up; return them."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                calls: list[dict[str, Any]] = (await self.ask("calls"))["calls"]
                if len(calls) == count and all(call.get("answered_at") for call in calls):
                    return calls


@asynccontextmanager
async def gateway_with_page(folder: Path) -> AsyncIterator[tuple[GatewayProcess, Person]]:
    """Run a single worker with the page beside it."""
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700, parents=True)
    given = on_loopback(HELLO, "ws://127.0.0.1:9/") | {
        "GATEWAY_WEB__PORT": "0",
        "GATEWAY_SIP__LATE_PERCENT": "0",
        "XDG_RUNTIME_DIR": str(runtime),
    }
    async with GatewayProcess(given, flags=("--simulate", "--web")) as gateway:
        await gateway.find(r"page: http://127.0.0.1:\d+/ \(log in with the token \S+\)", LIMIT_S)
        yield gateway, Person(runtime)
    assert not list(runtime.iterdir())


async def test_a_call_is_seen_steered_and_ended_without_any_setting(tmp_path: Path) -> None:
    async with (
        gateway_with_page(tmp_path) as (gateway, person),
        Sipp(gateway.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path / "caller") as caller,
    ):
        (call,) = await person.live(1)
        call_id = call["call_id"]
        assert call_id in await person.run("calls")
        assert (await person.ask("calls", "say", call_id, "One moment please."))["state"] == "done"
        assert (await person.ask("calls", "hangup", call_id))["state"] == "done"
        assert await caller.finish() == 0, caller.output
        shown = await person.run("calls", "show", call_id)
        assert "end_reason" in shown
        assert "Fault:" in shown
        events = [json.loads(line) for line in (await person.run("calls", "tail", call_id, "--json")).splitlines()]
        assert [event["event"] for event in (events[0], events[-1])] == ["routing", "ended"]
        (row,) = csv.DictReader(io.StringIO(await person.run("calls", "export", "--since", "2026-01-01")))
        assert row["call_id"] == call_id


async def test_listening_writes_both_voices_into_a_file(tmp_path: Path) -> None:
    async with (
        gateway_with_page(tmp_path) as (gateway, person),
        Sipp(gateway.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path / "caller") as caller,
    ):
        (call,) = await person.live(1)
        path = tmp_path / "heard.wav"
        await person.run("calls", "listen", call["call_id"], "--out", str(path), "--seconds", "2")
        await person.run("calls", "hangup", call["call_id"])
        assert await caller.finish() == 0, caller.output
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getframerate()) == (2, 8000)
        assert file.getnframes() >= 2 * 8000


async def test_what_a_command_cannot_do_is_said_in_a_sentence(tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    person = Person(runtime)
    told = await person.run("calls", "--api", "http://127.0.0.1:9", code=1)
    assert told.startswith("no API answers at http://127.0.0.1:9 (")
    assert "start it with `gateway web`" in told
    async with gateway_with_page(tmp_path / "other") as (_, neighbour):
        told = await neighbour.run("calls", "hangup", "0" * 23, code=1)
        assert "no " in told.lower()


async def test_a_fleet_has_its_page_too_and_again_after_a_restart(tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    variables = {"XDG_RUNTIME_DIR": str(runtime), "GATEWAY_WEB__START": "true", "GATEWAY_WEB__PORT": "0"}
    person = Person(runtime)
    async with open_fleet(tmp_path, variables) as fleet:
        await fleet.find(r"page: http", LIMIT_S)
        workers = (await person.ask("workers"))["workers"]
        assert {worker["state"] for worker in workers} == {"ready"}
        name = workers[0]["worker"]
        assert (await person.ask("workers", "drain", name))["state"] == "done"
        states = {worker["worker"]: worker["state"] for worker in (await person.ask("workers"))["workers"]}
        assert states[name] == "draining"
        assert (await person.ask("workers", "undrain", name))["state"] == "done"
        await person.run("fleet", "restart", "--control", str(fleet.control))
        async with asyncio.timeout(LIMIT_S):
            while sum("page: http" in line for line in fleet.lines) < 2:
                await asyncio.sleep(0.1)
        assert (await person.ask("workers"))["workers"]
    assert not list(runtime.iterdir())
