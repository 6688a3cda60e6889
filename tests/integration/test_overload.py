"""Admission by lateness, with a real load: a thread that holds Python's lock keeps the media clock waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.call.events import IncomingInvite, LegClosed
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.sip.core import lateness
from gateway.threads import new_thread
from tests.rigs.sip_agent import NOISE, ring_and_answer, sip_agent
from tests.rigs.sipp import Sipp, play
from tests.rigs.sipp_steps import ANSWERED, BYE, EXPECT_BYE, OPTIONS, invite, refused
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration
MOST_S = 30.0
"""How long the load may last; the test ends it much sooner."""
NUMBERS = 8_000_000
"""Added up in one step of the interpreter, which nobody can interrupt: far longer than a tick on any machine."""


@contextmanager
def load() -> Iterator[None]:
    """Hold Python's lock for one long step after another."""
    over = threading.Event()
    end = time.monotonic() + MOST_S

    def work() -> None:
        while not over.is_set() and time.monotonic() < end:
            sum(range(NUMBERS))

    thread = new_thread("plugin", work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def test_a_late_process_takes_no_calls_and_keeps_those_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lateness, "CALM_S", 2.0)
    told: list[bool] = []
    async with (
        sip_agent(ring_and_answer, late_percent=30, retry_after_s=7) as here,
        RtpPeer(NOISE, looped=True) as peer,
    ):
        here.sip._on_overload = told.append
        peer.talk()
        async with Sipp(here.port, (invite(peer.port), ANSWERED, EXPECT_BYE), tmp_path / "held"):
            await until(lambda: any(here.uplink.read()), what="the caller's voice")
            with load():
                await until(lambda: told[-1:] == [True], what="the overload to be noticed")
                first = await play(here.port, tmp_path / "refused", invite(), refused(503))
                assert "Retry-After: 7" in first.first("SIP/2.0 503").text
                await play(here.port, tmp_path / "options", OPTIONS.replace('response="200"', 'response="503"'))
            await until(lambda: told[-1:] == [False], what="the recovery")
            await play(here.port, tmp_path / "later", invite(), ANSWERED, BYE)
            assert len(here.seen(IncomingInvite)) == 2
            assert len(here.seen(LegClosed)) <= 1  # the first call is still up
            assert any(here.uplink.read())
            here.legs[0].hang_up(200, "")
            await until(lambda: len(here.seen(LegClosed)) == 2)
