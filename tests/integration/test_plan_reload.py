"""The plan in force follows its files: whatever happens to them, it is the newest that has no mistakes."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.dialplan.read.files import PlanFile
from gateway.dialplan.read.loader import LoadedPlan, dialplan_of, load_dialplan
from gateway.dialplan.read.watch import Stamp
from gateway.errors import ConfigError
from gateway.store.calls import RedisCallStore
from gateway.store.reload_requests import ReloadRequests
from gateway.worker.live_plan import LivePlan, PlanState
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

PLAN = "agents:\n  {name}:\n    instructions: Be kind.\nroutes:\n  - name: all\n    agent: {name}\n"
BROKEN = "agents:\n  hello:\n    instructons: Be kind.\nroutes:\n  - name: all\n    agent: hello\n"


@dataclass(frozen=True, slots=True)
class Prepared(LoadedPlan):
    """A dialplan, and what else was read for it."""

    sounds: dict[str, bytes]


class Desk:
    """A keeper and what it told."""

    def __init__(self, path: Path, every_s: float) -> None:
        self.path = path
        self.told: list[PlanState] = []
        self.loads = 0
        self.hold: threading.Event | None = None
        self.fault: Exception | None = None
        self.keeper = LivePlan(path, self.load, every_s=every_s)
        self.keeper.report(self.told.append)

    def load(self, files: list[PlanFile], folder: Path) -> Prepared:
        loaded = dialplan_of(files, folder)
        self.loads += 1
        if self.hold is not None:
            assert self.hold.wait(10)
        if self.fault is not None:
            raise self.fault
        sounds = {path.name: path.read_bytes() for path in folder.glob("*.wav")}
        return Prepared(loaded.index, loaded.version, loaded.remarks, sounds)

    def agent(self) -> str:
        return next(iter(self.keeper.plan.dialplan.agents))

    async def has(self, agent: str) -> None:
        await until(lambda: self.agent() == agent)

    async def refuses(self, words: str) -> None:
        await until(lambda: any(words in mistake for mistake in self.keeper.state.mistakes))


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.format(name="first"))
    return path


@asynccontextmanager
async def watching(path: Path, every_s: float = 0.02) -> AsyncIterator[Desk]:
    desk = Desk(path, every_s)
    async with desk.keeper:
        yield desk


def replace(path: Path, text: str) -> None:
    """Write a file as careful editors do."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


async def some_looks() -> None:
    await asyncio.sleep(0.2)


async def test_a_change_is_in_force_soon_and_is_told(plan: Path) -> None:
    with capture_logs() as logs:
        async with watching(plan) as desk:
            first = desk.keeper.plan
            began = desk.keeper.state
            plan.write_text(PLAN.format(name="second"))
            await desk.has("second")
            assert next(iter(first.dialplan.agents)) == "first"  # whoever holds it keeps it
            replace(plan, PLAN.format(name="third"))
            await desk.has("third")
            state = desk.keeper.state
    assert state.version == load_dialplan(plan).version != began.version
    assert (state.agents, state.routes, state.failures, state.mistakes) == (1, 1, 0, ())
    assert state.loaded_at >= began.loaded_at
    assert desk.told[0] == began
    assert desk.told[-1] == state
    assert [log["version"] for log in logs if log["event"] == "dialplan_reloaded"][-1] == state.version


async def test_nothing_is_loaded_when_nothing_is_new(plan: Path) -> None:
    async with watching(plan) as desk:
        await some_looks()
        plan.touch()
        await some_looks()
        plan.write_text(plan.read_text())
        replace(plan, plan.read_text())
        await some_looks()
    assert desk.loads == 1


async def test_a_change_since_the_start_is_seen_at_the_first_look(plan: Path) -> None:
    desk = Desk(plan, 0.02)
    plan.write_text(PLAN.format(name="later"))
    async with desk.keeper:
        await desk.has("later")


async def test_a_plan_with_mistakes_leaves_the_old_one_in_force_and_is_logged_once(plan: Path) -> None:
    with capture_logs() as logs:
        async with watching(plan) as desk:
            version = desk.keeper.state.version
            replace(plan, BROKEN)
            await desk.refuses("did you mean 'instructions'?")
            await some_looks()
            assert (desk.agent(), desk.keeper.state.version) == ("first", version)
            assert desk.keeper.state.failures == 1
            assert any(f"{plan}:3:5: " in mistake for mistake in desk.keeper.state.mistakes)
            assert desk.told[-1] == desk.keeper.state
            replace(plan, "")
            await desk.refuses("empty")
            assert desk.keeper.state.failures == 2
            replace(plan, PLAN.format(name="mended"))
            await desk.has("mended")
            assert (desk.keeper.state.mistakes, desk.keeper.state.failures) == ((), 2)
    refused = [log for log in logs if log["event"] == "dialplan_refused"]
    assert [log["in_force"] for log in refused] == [version, version]
    assert all(log["log_level"] == "warning" and log["mistakes"] for log in refused)


async def test_mistakes_that_are_asked_about_again_are_counted_and_not_logged_again(plan: Path) -> None:
    desk = Desk(plan, 0)
    plan.write_text(BROKEN)
    with capture_logs() as logs:
        for _ in range(3):
            reloaded = await desk.keeper.reload()
            assert (reloaded.version, reloaded.changed) == (desk.keeper.state.version, False)
            assert reloaded.mistakes == desk.keeper.state.mistakes != ()
    assert desk.keeper.state.failures == 3
    assert [log["event"] for log in logs] == ["dialplan_refused"]


async def test_what_is_odd_about_a_plan_is_logged_and_the_plan_is_in_force(plan: Path) -> None:
    desk = Desk(plan, 0)
    schema = "{type: object, properties: {}, required: [n]}"
    tools = f"tools: {{webhooks: [{{name: t, description: x, url: 'https://h/x', parameters: {schema}}}]}}"
    plan.write_text(PLAN.format(name="second").replace("routes:", f"    {tools}\nroutes:"))
    with capture_logs() as logs:
        assert (await desk.keeper.reload()).changed
    (log,) = (log for log in logs if log["event"] == "dialplan_remarks")
    assert (log["log_level"], log["count"]) == ("warning", 1)
    assert "required[0]: there is no property 'n'; there are none" in log["remarks"][0]


async def test_going_back_to_the_plan_in_force_takes_the_mistakes_away(plan: Path) -> None:
    async with watching(plan) as desk:
        text = plan.read_text()
        replace(plan, BROKEN)
        await desk.refuses("instructons")
        replace(plan, text)
        await until(lambda: not desk.keeper.state.mistakes)
        assert desk.agent() == "first"


async def test_a_half_written_plan_is_refused_and_the_whole_one_taken(plan: Path) -> None:
    async with watching(plan) as desk:
        text = PLAN.format(name="second")
        with plan.open("w") as file:
            file.write(text[:60])
            file.flush()
            await desk.refuses("routes")
            assert desk.agent() == "first"
            file.write(text[60:])
        await desk.has("second")


async def test_a_plan_that_vanishes_stays_in_force_until_another_comes(plan: Path) -> None:
    async with watching(plan) as desk:
        plan.unlink()
        await desk.refuses("no such file")
        await some_looks()
        assert (desk.agent(), desk.keeper.state.failures) == ("first", 1)
        plan.write_text(PLAN.format(name="second"))
        await desk.has("second")
        assert not desk.keeper.state.mistakes


async def test_a_folder_may_grow_and_lose_files(plan: Path) -> None:
    async with watching(plan.parent) as desk:
        more = plan.parent / "more.yaml"
        more.write_text("agents:\n  second:\n    instructions: Be brief.\n")
        await until(lambda: desk.keeper.state.agents == 2)
        (plan.parent / ".#plan.yaml").symlink_to("somebody@somewhere")
        await some_looks()
        assert not desk.keeper.state.mistakes
        more.unlink()
        await until(lambda: desk.keeper.state.agents == 1)
        plan.unlink()
        await desk.refuses("the folder has no *.yaml files")


async def test_a_file_of_the_same_size_and_time_is_another_one(plan: Path) -> None:
    async with watching(plan) as desk:
        times = plan.stat()
        plan.write_text(PLAN.format(name="firsd"))
        os.utime(plan, ns=(times.st_atime_ns, times.st_mtime_ns))
        await desk.has("firsd")


async def test_a_change_within_the_tick_of_a_coarse_clock_is_seen(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = time.time_ns() + 10**10  # this file system's clock stands still
    monkeypatch.setattr("gateway.worker.live_plan.plan_stamps", lambda path: (Stamp(str(path), 9, 1, now_ns, 1, 1),))
    async with watching(plan) as desk:
        for name in ("secnd", "third", "forth"):
            plan.write_text(PLAN.format(name=name))
            await desk.has(name)


async def test_a_plan_that_may_not_be_read_is_taken_when_it_may(plan: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    async with watching(plan) as desk:
        plan.write_text(PLAN.format(name="second"))
        plan.chmod(0)
        await desk.refuses("cannot be read")
        plan.chmod(0o600)
        await desk.has("second")


async def test_a_change_that_comes_while_a_plan_is_loaded_is_seen_after_it(plan: Path) -> None:
    async with watching(plan) as desk:
        desk.hold = threading.Event()
        replace(plan, PLAN.format(name="second"))
        await until(lambda: desk.loads == 2)
        replace(plan, PLAN.format(name="third"))
        desk.hold.set()
        await desk.has("third")


async def test_what_was_written_before_a_reload_was_asked_for_is_in_force_after_it(plan: Path) -> None:
    desk = Desk(plan, 0)
    desk.hold = threading.Event()
    plan.write_text(PLAN.format(name="second"))
    first = asyncio.ensure_future(desk.keeper.reload())
    await until(lambda: desk.loads == 2)
    plan.write_text(PLAN.format(name="third"))
    second = asyncio.ensure_future(desk.keeper.reload())
    await some_looks()
    assert desk.loads == 2  # one at a time
    desk.hold.set()
    versions = [(await each).version for each in (first, second)]
    assert desk.agent() == "third"
    assert versions[1] == desk.keeper.state.version != versions[0]


async def test_a_reload_that_nobody_waits_for_any_more_changes_nothing(plan: Path) -> None:
    desk = Desk(plan, 0)
    desk.hold = threading.Event()
    plan.write_text(PLAN.format(name="second"))
    reload = asyncio.ensure_future(desk.keeper.reload())
    await until(lambda: desk.loads == 2)
    reload.cancel()
    await asyncio.wait((reload,))
    desk.hold.set()
    assert desk.agent() == "first"
    assert (await desk.keeper.reload()).changed
    assert desk.agent() == "second"


async def test_a_fault_in_a_load_does_not_end_the_watch(plan: Path) -> None:
    with capture_logs() as logs:
        async with watching(plan) as desk:
            desk.fault = ZeroDivisionError("who would have thought")
            replace(plan, PLAN.format(name="second"))
            await desk.refuses("a fault of the gateway: ZeroDivisionError")
            desk.fault = ConfigError("secrets.crm: there is no such secret")
            replace(plan, PLAN.format(name="third"))
            await desk.refuses("no such secret")
            desk.fault = None
            replace(plan, PLAN.format(name="fourth"))
            await desk.has("fourth")
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["dialplan_load_failed"]


async def test_sounds_are_watched_too_also_those_that_are_missing(plan: Path) -> None:
    sound = plan.with_name("wait.wav")
    closed = "  - name: closed\n    match: {to: '1'}\n    action: announce\n    files: wait.wav\n"
    text = plan.read_text().replace("routes:\n", f"routes:\n{closed}")
    async with watching(plan) as desk:
        replace(plan, text)
        await desk.refuses("there is no WAV file")
        sound.write_bytes(wav(b"\x01\x00"))
        await until(lambda: not desk.keeper.state.mistakes)
        version = desk.keeper.state.version
        old = desk.keeper.plan
        sound.write_bytes(wav(b"\x02\x00"))
        await until(lambda: desk.keeper.plan.sounds != old.sounds)
        assert desk.keeper.plan.sounds["wait.wav"] == sound.read_bytes()
        assert desk.keeper.state.version == version


async def test_without_looking_a_plan_is_loaded_when_asked(plan: Path) -> None:
    async with watching(plan, every_s=0) as desk:
        plan.write_text(PLAN.format(name="second"))
        await some_looks()
        assert desk.agent() == "first"
        desk.keeper.ask()
        await desk.has("second")


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


async def test_every_worker_loads_its_plan_once_when_it_was_asked_for_in_redis(
    plan: Path, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.worker.live_plan.ASKED_EVERY_S", 0.05)
    stores = [RedisCallStore(redis.settings(), name) for name in ("w1", "w2")]
    desks = [Desk(plan, 0) for _ in stores]
    for store, desk in zip(stores, desks, strict=True):
        await store.open()
        desk.keeper.report(noting(store), ReloadRequests(redis.settings(), store).newest)
    requests = ReloadRequests(redis.settings(), stores[0])
    async with desks[0].keeper, desks[1].keeper:
        await some_looks()
        plan.write_text(PLAN.format(name="second"))
        await requests.ask()
        for desk in desks:
            await desk.has("second")
        await some_looks()
        assert [desk.loads for desk in desks] == [2, 2]

        redis.pause()
        plan.write_text(PLAN.format(name="third"))
        await until(lambda: stores[1].away)
        redis.resume()
        await requests.ask()
        for desk in desks:
            await desk.has("third")

        redis.stop()  # and it forgets everything
        redis.start()
        await until(lambda: not any(store.away for store in stores))
        plan.write_text(BROKEN)
        await requests.ask()
        for desk in desks:
            await desk.refuses("instructons")
        await until(lambda: redis.keys() >= {"{gateway}:dialplan:w1", "{gateway}:dialplan:w2"})
        told: list[dict[str, str]] = []
        async with redis.reader() as reader:
            while [state["state"] for state in told] != ["refused", "refused"]:
                told = await reader.dialplans()
        assert [(state["worker"], state["failures"], state["agents"]) for state in told] == [
            ("w1", "1", "1"),
            ("w2", "1", "1"),
        ]
        assert told[0]["version"] == desks[0].keeper.state.version
    for store in stores:
        await store.close()
    assert redis.keys() <= {"{gateway}:reload", "{gateway}:metrics"}


def noting(store: RedisCallStore) -> Any:
    return lambda state: store.note_dialplan(**state.fields())


def wav(samples: bytes) -> bytes:
    """Return a WAV file of 8 kHz, mono, 16 bits."""
    pcm = samples * 800
    head = b"WAVEfmt " + (16).to_bytes(4, "little") + bytes.fromhex("01000100401f0000803e000002001000")
    body = head + b"data" + len(pcm).to_bytes(4, "little") + pcm
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def test_an_inherited_plan_is_in_force_without_being_loaded_again_unless_its_files_changed(plan: Path) -> None:
    parent = Desk(plan, every_s=0)
    parent.keeper.look()
    loads: list[Path] = []

    def load(files: list[PlanFile], folder: Path) -> Prepared:
        loads.append(folder)
        return parent.load(files, folder)

    child = LivePlan(plan, load, every_s=0, inherited=parent.keeper)
    assert child.plan is parent.keeper.plan
    assert loads == []
    plan.write_text(PLAN.format(name="second"))
    newer = LivePlan(plan, load, every_s=0, inherited=parent.keeper)
    assert list(newer.plan.dialplan.agents) == ["second"]
    plan.write_text(BROKEN)
    older = LivePlan(plan, load, every_s=0, inherited=parent.keeper)
    assert older.plan is parent.keeper.plan
    assert older.state.mistakes


def test_a_sound_that_changed_after_the_fork_is_loaded_again(plan: Path) -> None:
    sound = plan.with_name("wait.wav")
    closed = "  - name: closed\n    match: {to: '1'}\n    action: announce\n    files: wait.wav\n"
    sound.write_bytes(wav(b"\x01\x00"))
    plan.write_text(PLAN.format(name="first").replace("routes:\n", f"routes:\n{closed}"))
    parent = Desk(plan, every_s=0)
    parent.keeper.look()
    sound.write_bytes(wav(b"\x02\x00\x02\x00"))
    child = LivePlan(plan, parent.load, every_s=0, inherited=parent.keeper)
    assert child.plan.sounds["wait.wav"] == sound.read_bytes()
