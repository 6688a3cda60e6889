"""Many workers under one supervisor: calls, deaths, ends. What is left of each end: nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.rigs.fleet import is_running, open_fleet
from tests.rigs.sipp import play
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e


async def test_forked_workers_answer_calls(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        ports = fleet.worker_ports()
        assert len(set(ports)) == 2
        for port in ports:
            await play(port, tmp_path / str(port), invite(), ANSWERED, pause(300), BYE)


async def test_a_worker_that_is_killed_is_replaced_and_named_in_the_log(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        victim = fleet.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        await fleet.find(rf"worker_died .*detail='signal SIGKILL' .*name=\S+-{victim}\b", 20)
        await until(lambda: len(fleet.worker_pids()) == 3, what="another worker")
        assert not is_running(victim)


async def test_all_processes_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    async with open_fleet(tmp_path, exit_code=-signal.SIGKILL) as fleet:
        tree = fleet.tree()
        assert len(tree) == 5  # nursery, Redis, simulator, two workers
        fleet.send_signal(signal.SIGKILL)
        await until(lambda: not [pid for pid in tree if is_running(pid)], what="the end of all processes")
