"""A child process: what it writes, how it is waited for, how it ends."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from gateway.child_process import ChildFailed, ChildProcess
from tests.rigs.fleet import is_running

pytestmark = pytest.mark.integration

PYTHON = (sys.executable, "-X", "utf8", "-u")


async def test_a_program_that_ends_at_once_is_told_with_its_last_lines() -> None:
    async with ChildProcess(*PYTHON, "-c", "print('out of breath'); raise SystemExit(3)", name="lame") as child:
        with pytest.raises(ChildFailed, match=r"(?s)lame ended with exit code 3.*out of breath"):
            await child.find("ready", 40)
        assert await child.wait(40) == 3


async def test_a_program_that_says_nothing_is_given_up_and_ended() -> None:
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_DFL); time.sleep(60)"
    async with ChildProcess(*PYTHON, "-c", program, name="mute") as child:
        with pytest.raises(ChildFailed, match=r"(?s)mute did not write 'ready' within 0.2 s.*wrote nothing"):
            await child.find("ready", 0.2)
        with pytest.raises(ChildFailed, match="mute still runs"):
            await child.wait(0.1)
    assert child.exit_code == -signal.SIGTERM


async def test_a_program_that_does_not_end_when_asked_is_killed() -> None:
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready 7'); time.sleep(60)"
    async with ChildProcess(*PYTHON, "-c", program, stop_limit_s=0.2) as child:
        assert (await child.find(r"ready (\d)", 40))[1] == "7"
    assert child.exit_code == -signal.SIGKILL


async def test_only_the_last_lines_are_kept() -> None:
    async with ChildProcess(*PYTHON, "-c", "for n in range(50): print(n)", kept_lines=3) as child:
        assert await child.wait(40) == 0
        assert child.output == "47\n48\n49"


async def test_what_a_killed_program_leaves_of_its_session_is_killed_too() -> None:
    program = (
        "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "print('ready', child.pid); child.wait()"
    )
    process = ChildProcess(*PYTHON, "-c", program, new_session=True, stop_limit_s=0.2)
    async with process, asyncio.timeout(40):
        left = int((await process.find(r"ready (\d+)", 40))[1])
    async with asyncio.timeout(40):
        while is_running(left):
            await asyncio.sleep(0.01)
