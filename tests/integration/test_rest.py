"""A SIP thread without calls rests: no thread of the library wakes up, and what a call had begun has ended."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from pathlib import Path

import pytest

from gateway.call.events import LegClosed
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.sip.calls.media_port import AgentMediaPort
from tests.rigs.sip_agent import NOISE, SipAgent, ring_and_answer, sip_agent
from tests.rigs.sipp import play
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration
TASKS = Path("/proc/self/task")


def wake_ups(name: str) -> int | None:
    """Return how often the thread of this name has woken up; None: there is none."""
    for task in TASKS.iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            text = (task / "status").read_text()
            lines = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
            if lines["Name"] == name:
                return int(lines["voluntary_ctxt_switches"])
    return None


def thread_states() -> int:
    """Return how many threads the interpreter has a state for."""
    api = ctypes.pythonapi
    for function in (api.PyInterpreterState_Get, api.PyInterpreterState_ThreadHead, api.PyThreadState_Next):
        function.restype = ctypes.c_void_p
    state, count = api.PyInterpreterState_ThreadHead(ctypes.c_void_p(api.PyInterpreterState_Get())), 0
    while state:
        state, count = api.PyThreadState_Next(ctypes.c_void_p(state)), count + 1
    return count


async def call(here: SipAgent, folder: Path) -> None:
    """Have one call, with sound in both directions."""
    before = len(here.seen(LegClosed))
    async with RtpPeer(NOISE) as peer:
        here.playout.write(f"greeting {before}", NOISE)
        peer.talk()
        await play(here.port, folder, invite(peer.port), ANSWERED, pause(400), BYE)
        await until(lambda: len(here.seen(LegClosed)) > before)
        assert any(here.uplink.read())
        assert any(peer.reception.received_pcm())


async def rested(here: SipAgent) -> None:
    """Wait until the library has gone to rest."""
    await until(lambda: wake_ups("clock") is None, what="the bridge's clock to end")
    await until(lambda: _sleeps(here), what="the network thread of the media to rest")


def _sleeps(here: SipAgent) -> bool:
    thread = here.sip._media_thread
    return thread is not None and thread.rests


async def test_the_threads_of_the_media_sleep_without_a_call_and_serve_the_next_one(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here:
        for _ in range(2):
            await rested(here)
            before = wake_ups("media") or 0
            await asyncio.sleep(1)
            assert (wake_ups("media") or 0) - before <= 2  # it may have been on its way to the lock
            await call(here, tmp_path)


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="threads are counted in /proc")
async def test_a_clock_that_ends_leaves_no_thread_state_behind(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here:
        await call(here, tmp_path)
        await rested(here)
        before = thread_states()
        for _ in range(3):
            await call(here, tmp_path)
            await rested(here)
        assert thread_states() <= before
    assert not AgentMediaPort._lent
