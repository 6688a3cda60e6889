"""Who calls whom, in messages as they come, and headers too long to be sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.call.actions import CallSecond
from gateway.call.events import IncomingInvite, MediaUp, SecondClosed
from gateway.free_port import free_port
from tests.rigs.sip_agent import ring_and_answer, sip_agent
from tests.rigs.sipp import Sipp, play
from tests.rigs.sipp_steps import ANSWERED, EXPECT_BYE, invite, refused
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration


async def test_who_calls_is_read_behind_any_number_of_headers_and_nobody_calls_as_nobody(tmp_path: Path) -> None:
    many = "\n".join(f"      X-Line-{number}: {number:04}" for number in range(110))
    call = invite().replace("      From:", f"{many}\n      From:", 1)
    unreadable = invite().replace("<sip:caller@[local_ip]:[local_port]>", "<sip:caller@[local_ip]?x>", 1)
    assert unreadable != invite()
    async with sip_agent(ring_and_answer) as here:
        await play(here.port, tmp_path / "unreadable", unreadable, refused(400))
        assert not here.seen(IncomingInvite)
        async with Sipp(here.port, (call, ANSWERED, EXPECT_BYE), tmp_path / "many") as sipp:
            await until(lambda: here.seen(MediaUp))
            (told,) = here.seen(IncomingInvite)
            assert isinstance(told, IncomingInvite)
            assert (told.caller, told.headers["x-line-109"]) == ("caller", "0109")
            here.legs[0].hang_up(200, "done")
            assert await sipp.finish() == 0, sipp.output


async def test_a_header_too_long_to_be_sent_fails_the_second_leg_and_is_never_cut(tmp_path: Path) -> None:
    async with sip_agent(ring_and_answer) as here:
        port = free_port()
        async with Sipp(here.port, (invite(), ANSWERED, EXPECT_BYE), tmp_path) as sipp:
            await until(lambda: here.seen(MediaUp))
            here.legs[0].call_second(CallSecond(f"sip:a@127.0.0.1:{port}", headers={"X-Token": "T" * 3900}))
            await until(lambda: here.seen(SecondClosed))
            (closed,) = here.seen(SecondClosed)
            assert isinstance(closed, SecondClosed)
            assert (closed.code, "too long" in closed.reason) == (503, True)
            here.legs[0].hang_up(200, "done")
            assert await sipp.finish() == 0, sipp.output
