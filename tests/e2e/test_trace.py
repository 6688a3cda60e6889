"""The SIP messages of a call are kept as a ladder and as a capture."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.rigs.house import MakeHouse
from tests.rigs.sipp import play
from tests.rigs.sipp_steps import ANSWERED, bye, invite, pause
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e

TCPDUMP = "/usr/bin/tcpdump"


async def test_a_call_leaves_a_ladder_and_a_capture_that_others_can_read(house: MakeHouse, tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    secret = (
        '\n      Authorization: Digest username="u", realm="r", nonce="n", uri="sip:u", response="0123456789abcdef"'
    )
    async with house(GATEWAY_SIP__TRACE="all", GATEWAY_SIP__TRACE_FOLDER=str(folder)) as here:
        sipp = await play(here.port, tmp_path / "sipp", invite(), ANSWERED, pause(300), bye(secret))
        record = await here.store.call((await here.ended_record())["call_id"])
        assert record is not None
        assert record.sip_trace is not None
        ladder = Path(record.sip_trace)
        await until(ladder.exists, what="the ladder")
        assert ladder.parent == folder
        text = ladder.read_text()
        for line in ("INVITE sip:1000@", "SIP/2.0 200 OK", "ACK sip:", "BYE sip:"):
            assert line in text
        assert "0123456789abcdef" not in text
        printed = await read_capture(ladder.with_suffix(".pcap"))
        assert "0123456789abcdef" not in printed
        assert f"127.0.0.1.{sipp.port} > 127.0.0.1.{here.port}" in printed
        assert f"127.0.0.1.{here.port} > 127.0.0.1.{sipp.port}" in printed
        for line in ("INVITE sip:1000@", "SIP/2.0 200 OK", "ACK sip:", "BYE sip:"):
            assert line in printed


async def read_capture(path: Path) -> str:
    """Return what tcpdump makes of a capture."""
    process = await asyncio.create_subprocess_exec(
        *(TCPDUMP, "-nn", "-A", "-r", str(path)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(40):
        printed, complaints = await process.communicate()
    assert process.returncode == 0, complaints
    return printed.decode(errors="replace")
