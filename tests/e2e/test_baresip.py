"""Calls of baresip: SRTP, hold and resume, keys."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.call.events import DigitPressed, LegClosed, LegFailed, LegHeld, LegResumed, MediaUp
from tests.e2e.baresip import Baresip
from tests.e2e.sipp import until
from tests.integration.phone import NOISE, phone, pick_up

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("account", "srtp"),
    [("mediaenc=srtp-mand", "required"), ("mediaenc=srtp-mand", "optional"), ("audio_codecs=pcma", "off")],
    ids=["SRTP", "SRTP by choice", "plain"],
)
async def test_baresip_talks_holds_resumes_presses_keys_and_hangs_up(tmp_path: Path, account: str, srtp: str) -> None:
    async with phone(pick_up, srtp=srtp) as here, Baresip(tmp_path, account, NOISE * 4) as caller:
        await caller.order("dial", f"sip:1000@127.0.0.1:{here.info.port}")
        await until(lambda: here.seen(MediaUp), limit_s=20, what="\n".join(caller.output))
        codec = here.seen(MediaUp)[0].codec  # type: ignore[attr-defined]
        assert codec == ("PCMA/8000" if srtp == "off" else "PCMU/8000")
        here.playout.write("speech", NOISE * 4)
        await until(lambda: any(here.uplink.read()), what="audio")
        for key in "19#":
            await caller.order("sndcode", key)
            await asyncio.sleep(0.4)
        await until(lambda: len(here.seen(DigitPressed)) == 3)
        await caller.order("hold")
        await until(lambda: here.seen(LegHeld))
        await asyncio.sleep(0.3)
        here.uplink.read()
        await asyncio.sleep(0.3)
        assert not any(here.uplink.read())
        await caller.order("resume")
        await until(lambda: here.seen(LegResumed))
        await until(lambda: any(here.uplink.read()), what="audio after the hold")
        await caller.order("hangup")
        await until(lambda: here.seen(LegClosed))
        assert here.seen(LegClosed)[0].by_caller is True  # type: ignore[attr-defined]
        assert [event.digit for event in here.seen(DigitPressed)] == ["1", "9", "#"]  # type: ignore[attr-defined]
        assert not here.seen(LegFailed)
