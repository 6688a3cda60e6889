"""Many workers under one supervisor: calls, deaths, restarts, ends. What is left of each end: nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from gateway.child_process import ChildFailed, ChildProcess
from gateway.errors import GatewayError
from gateway.fleet.control import NoFleet, ask
from gateway.settings.sections import RedisSettings
from gateway.store.commands import CommandKind, CommandSender
from gateway.store.embedded import EmbeddedRedis
from gateway.store.reader import CallReader
from tests.rigs.fleet import Fleet, is_running, open_fleet, pid_of
from tests.rigs.sipp import Sipp, play
from tests.rigs.sipp_steps import ANSWERED, BYE, EXPECT_BYE, invite, pause, refused
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e


def places(url: str) -> int:
    """Return how many places calls have in the limits of routes and callers."""
    with Redis.from_url(url, decode_responses=True) as client:
        return sum(client.zcard(key) for key in client.keys("*:limits:*:live*"))


async def live_calls(fleet: Fleet, count: int) -> dict[str, int]:
    """Wait until the fleet has so many calls; return how many each worker has."""
    async with asyncio.timeout(40):
        while True:
            calls = {name: worker["live_calls"] for name, worker in (await fleet.workers()).items()}
            if sum(calls.values()) == count:
                return calls
            await asyncio.sleep(0.05)


async def answer(fleet: Fleet) -> dict[str, Any] | None:
    """Return the fleet's status; None while nobody answers."""
    try:
        return await fleet.status()
    except NoFleet:
        return None


async def ready_workers(fleet: Fleet, count: int) -> None:
    """Wait until so many workers are ready."""
    async with asyncio.timeout(40):
        while [worker["state"] for worker in (await fleet.workers()).values()].count("ready") != count:
            await asyncio.sleep(0.05)


async def test_more_calls_than_one_process_holds_are_answered_and_the_fleet_grows_for_them(tmp_path: Path) -> None:
    talking = (invite(), ANSWERED, pause(12000), BYE)
    async with (
        open_fleet(tmp_path, {"GATEWAY_FLEET__IDLE_S": "1"}) as fleet,
        Sipp(fleet.port, talking, tmp_path / "1", calls=6, at_once=6) as some,
    ):
        await ready_workers(fleet, 3)
        async with Sipp(fleet.port, talking, tmp_path / "2", calls=6, at_once=6) as more:
            await live_calls(fleet, 12)
            for callers in (some, more):
                assert await callers.finish() == 0, [message.first_line for message in callers.messages]
        async with asyncio.timeout(40):
            while len(await fleet.workers()) > 2:  # until those that are not needed any more have ended
                await asyncio.sleep(0.05)


async def test_a_worker_that_is_killed_is_replaced_and_its_calls_are_ended_in_the_records(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "agents: {a: {instructions: x}}\nroutes: [{name: all, agent: a, limits: {max_calls: 5, "
        "per_caller: {max_calls: 5}}}]\n"
    )
    async with EmbeddedRedis() as url, AsyncExitStack() as closing:
        settings = RedisSettings.model_validate({"url": url})
        store = await closing.enter_async_context(CallReader(settings))
        given = {"GATEWAY_REDIS__URL": url, "GATEWAY_DIALPLAN": str(plan)}
        async with (
            open_fleet(tmp_path, given) as fleet,
            Sipp(fleet.port, (invite(), ANSWERED, pause(60000)), tmp_path),
        ):
            calls = await live_calls(fleet, 1)
            victim = next(name for name, count in calls.items() if count)
            async with asyncio.timeout(40):
                while not await store.live_calls():  # until it is written down
                    await asyncio.sleep(0.05)
            os.kill(pid_of(victim), signal.SIGKILL)
            await fleet.find(rf"worker_died .*detail='signal SIGKILL' .*worker={victim}\b", 20)
            await fleet.find("call_orphaned", 20)
            (ended,) = [event for event in await store.events() if event["event"] == "orphaned"]
            assert ended["end_reason"] == "worker_lost"
            assert await store.live_calls() == []
            async with asyncio.timeout(40):
                while places(url):
                    await asyncio.sleep(0.05)
            async with asyncio.timeout(40):
                while victim in (workers := await fleet.workers()) or len(workers) < 2:
                    await asyncio.sleep(0.05)


async def test_all_processes_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    async with open_fleet(tmp_path, exit_code=-signal.SIGKILL) as fleet:
        tree = fleet.tree()
        assert len(tree) > 5  # nursery, Redis, simulator, two workers; Kamailio has several
        fleet.send_signal(signal.SIGKILL)
        await until(lambda: not [pid for pid in tree if is_running(pid)], what="the end of all processes")
        await until(lambda: fleet.output.count("supervisor_gone") == 2, what="the words of two workers")


async def test_a_rolling_restart_keeps_calls_and_takes_new_ones(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        before = await fleet.status()
        talking = (invite(), ANSWERED, pause(14000), BYE)
        async with Sipp(fleet.port, talking, tmp_path / "talking", calls=6, at_once=6) as callers:
            await live_calls(fleet, 6)
            command = ("-m", "gateway", "fleet", "restart", "--control", str(fleet.control))
            async with ChildProcess(sys.executable, *command) as restart:
                code = await restart.wait(120)
                assert code == 0, (restart.output, fleet.output)
            assert "workers replaced" in restart.lines[-1]
            after = await fleet.status()
            assert [after[what] for what in ("pid", "edge")] == [before[what] for what in ("pid", "edge")]
            assert after["nursery"] != before["nursery"]
            new = {worker["worker"] for worker in after["workers"] if worker["state"] == "ready"}
            assert new
            assert new.isdisjoint(worker["worker"] for worker in before["workers"])
            await play(fleet.port, tmp_path / "new", invite(), ANSWERED, pause(300), BYE)
            assert await callers.finish() == 0, (fleet.output, [(m.at, m.first_line) for m in callers.messages])
        async with asyncio.timeout(40):
            while {worker["worker"] for worker in before["workers"]} & (await fleet.workers()).keys():
                await asyncio.sleep(0.05)


async def test_a_nursery_that_is_killed_is_replaced_and_no_call_notices(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        before = await fleet.status()
        async with Sipp(fleet.port, (invite(), ANSWERED, pause(15000), BYE), tmp_path / "talking") as caller:
            calls = await live_calls(fleet, 1)
            os.kill(before["nursery"], signal.SIGKILL)
            await fleet.find("executing_again", 40)
            async with asyncio.timeout(40):
                while not (after := await answer(fleet)) or after["nursery"] == before["nursery"]:
                    await asyncio.sleep(0.1)
            assert calls.keys() <= (await fleet.workers()).keys()
            assert await caller.finish() == 0, caller.output
        assert not is_running(before["nursery"])


async def test_the_first_signal_drains_and_the_second_ends_the_calls(tmp_path: Path) -> None:
    async with (
        open_fleet(tmp_path) as fleet,
        Sipp(fleet.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path / "talking") as caller,
    ):
        await live_calls(fleet, 1)
        tree = fleet.tree()  # read once: a worker may be forked at any time
        assert tree
        with_supervisor = {pid for pid in tree if os.getsid(pid) == os.getsid(fleet.pid)}
        assert not with_supervisor  # Ctrl-C in a terminal reaches the supervisor alone
        os.kill(fleet.pid, signal.SIGINT)
        await fleet.find("stopping: no new calls; 1 live ones", 20)
        await fleet.find("worker_ended", 20)  # the one without calls
        assert fleet.exit_code is None, fleet.output
        os.kill(fleet.pid, signal.SIGTERM)
        assert await caller.finish() == 0, caller.output
        assert await fleet.wait(40) == 0


async def test_the_service_manager_is_told(tmp_path: Path) -> None:
    path = tmp_path / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.setblocking(False)
        told: list[str] = []
        loop = asyncio.get_running_loop()
        loop.add_reader(manager, lambda: told.extend(manager.recv(4096).decode().split("\n")))
        given = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000"}
        async with open_fleet(tmp_path, given) as fleet:
            await until(lambda: "READY=1" in told)
            assert told.count("WATCHDOG=1") > 1
            await until(lambda: "STATUS=2 workers, 0 of 12 calls" in told)
            ready = told.count("READY=1")
            os.kill(fleet.pid, signal.SIGHUP)
            await until(lambda: "RELOADING=1" in told and told.count("READY=1") > ready)
            assert any(line.startswith("MONOTONIC_USEC=") for line in told)
        await until(lambda: "STOPPING=1" in told)
        loop.remove_reader(manager)


async def test_every_line_of_the_log_is_one_json_object_that_names_its_process(tmp_path: Path) -> None:
    async with open_fleet(tmp_path, {"GATEWAY_LOG__FORMAT": "json", "GATEWAY_LOG__LEVEL": "debug"}) as fleet:
        await play(fleet.port, tmp_path, invite(), ANSWERED, pause(300), BYE, calls=4, at_once=4)
    entries = [json.loads(line) for line in fleet.lines if line.startswith("{")]
    others = [line for line in fleet.lines if not line.startswith("{")]
    assert {line.partition(":")[0] for line in others} <= {"no Redis is configured", "simulating", "ready", "stopping"}
    names = {entry["worker"] for entry in entries}
    assert {"supervisor", "simulator"} < names
    assert len(names) >= 4


async def test_a_dialplan_that_cannot_be_used_is_said_at_once(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("agents: {a: {instruction: x}}\n")
    async with Fleet(tmp_path, 12, "--simulate", variables={"GATEWAY_DIALPLAN": str(plan)}) as fleet:
        assert await fleet.wait(60) == 1
    assert "plan.yaml:1" in fleet.output
    assert "worker_died" not in fleet.output


async def test_workers_that_all_die_at_their_start_end_the_fleet_with_their_last_words(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        given = {"GATEWAY_FLEET__PORT": str(taken.getsockname()[1]), "GATEWAY_FLEET__SPARE_WORKERS": "0"}
        async with Fleet(tmp_path, 12, "--simulate", variables=given) as fleet:
            assert await fleet.wait(90) == 1
    assert "workers die as they start (exit code 1)" in fleet.output
    assert "cannot listen for SIP on 127.0.0.1" in fleet.output[fleet.output.index("workers die as they start") :]


async def test_a_second_fleet_on_one_socket_is_refused(tmp_path: Path) -> None:
    async with open_fleet(tmp_path):
        async with Fleet(tmp_path, 12, "--simulate", variables={}) as second:
            with pytest.raises(ChildFailed):
                await second.ready()
        assert "another fleet listens on" in second.output


async def test_a_restart_is_refused_while_the_plan_on_disk_cannot_be_used(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("agents: {a: {instructions: x}}\nroutes: [{name: all, agent: a}]\n")
    async with open_fleet(tmp_path, {"GATEWAY_DIALPLAN": str(plan)}) as fleet:
        before = await fleet.workers()
        plan.write_text("agents: {a: {instruction: x}}\n")
        with pytest.raises(GatewayError, match=r"(?s)nothing was restarted.*plan\.yaml:1"):
            await ask(fleet.control, "restart")
        assert (await fleet.workers()).keys() == before.keys()


async def test_an_operator_drains_workers_and_lets_them_take_calls_again(tmp_path: Path) -> None:
    async with EmbeddedRedis() as url, CommandSender(RedisSettings.model_validate({"url": url})) as sender:

        async def order(kind: CommandKind, worker: str, wait_s: float = 20) -> str:
            return (await sender.send(worker, kind, by="ann", wait_s=wait_s)).state

        async with open_fleet(tmp_path, {"GATEWAY_REDIS__URL": url}) as fleet:
            await ready_workers(fleet, 2)
            workers = [*(await fleet.workers())]
            assert [await order("drain", worker) for worker in workers] == ["done", "done"]
            await ready_workers(fleet, 0)
            await play(fleet.port, tmp_path / "drained", invite(), refused(503))
            assert {*(await fleet.workers())} == {*workers}, "a worker was started for one that an operator drains"
            assert await order("undrain", workers[0]) == "done"
            await ready_workers(fleet, 1)
            await play(fleet.port, tmp_path / "again", invite(), ANSWERED, BYE)
            os.kill(pid_of(workers[1]), signal.SIGKILL)
            await fleet.find(rf"worker_died .*worker={workers[1]}\b", 20)
            async with asyncio.timeout(20):
                while await order("undrain", workers[1], wait_s=1) != "refused":  # nobody reads its commands any more
                    await asyncio.sleep(0.05)
