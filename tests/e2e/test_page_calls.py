"""The page in a real browser, with real calls: what an operator sees, hears and does."""

from __future__ import annotations

import asyncio
import re
import struct
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.simulator import SimulatorOptions
from gateway.lab.simulator.script import Script
from gateway.lab.speech import caller_speech
from tests.rigs.desk import LIMIT_MS, Desk, open_desk
from tests.rigs.house import House, MakeHouse
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause

pytestmark = pytest.mark.e2e

expect.set_options(timeout=LIMIT_MS)
MARKUP = "<img src=x onerror='document.title=1'>"
RECORDED = "recording: {mode: on}"
BLOCK = struct.Struct("!II")
WAVE = re.compile(r"^(M\d+ [\d.]+V[\d.]+){50,}$")


async def hostile_call(here: House, phone: RtpPeer, folder: Path) -> None:
    """Make a call with markup in its From and hang up after a while."""
    asking = invite(phone.port).replace('From: "caller"', f'From: "{MARKUP}"')
    async with Sipp(here.port, (asking, ANSWERED, pause(5000), BYE), folder / "sipp") as sipp:
        phone.talk()
        assert await sipp.finish() == 0, sipp.output


async def test_one_call_is_told_while_it_goes_on_and_after_its_end(
    house: MakeHouse, browser: Browser, tmp_path: Path
) -> None:
    given = {
        "GATEWAY_SIP__TRACE": "all",
        "GATEWAY_SIP__TRACE_FOLDER": str(tmp_path / "traces"),
        "GATEWAY_RECORDING__FOLDER": str(tmp_path / "recordings"),
    }
    script = {"answers": [{"output": [{"say": f"Good morning. {MARKUP}", "sentence": 1, "for_s": 2}]}]}
    options = SimulatorOptions(script=Script.model_validate(script))
    async with (
        house(profile=RECORDED, simulator=options, **given) as here,
        open_desk(here, browser, tmp_path) as desk,
        RtpPeer(caller_speech(2)) as phone,
    ):
        page = desk.page
        calling = asyncio.create_task(hostile_call(here, phone, tmp_path))
        await page.locator("table.live .who-link").click()
        await expect(page.locator(".transcript")).to_contain_text(MARKUP)
        await expect(page.locator(".one-state .pill")).to_have_text("active")
        await calling
        await expect(page.locator(".end-title")).to_contain_text("caller hung up")
        await expect(page.locator(".end")).not_to_contain_text("What to do: undefined")
        await expect(page.locator(".ladder .arrow").first).to_have_text("INVITE (SDP)")
        await expect(page.locator(".ladder .arrow").last).to_have_text("200 OK to BYE")
        await page.locator(".ladder summary").first.click()
        await expect(page.locator(".ladder .message").first).to_contain_text(MARKUP)
        await expect(page.locator("path.wave.caller")).to_have_attribute("d", WAVE)
        await plays_from_where_it_is_told(desk)
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Download all").click()
        assert (await (await download.value).path()).read_bytes()[:2] == b"PK"
        assert await page.locator("main img").count() == 0
        assert await page.title() != "1"


async def plays_from_where_it_is_told(desk: Desk) -> None:
    """Play, choose a moment with the mouse and with a key."""
    axis = desk.page.get_by_role("slider", name="Time in the call")
    await desk.page.get_by_role("button", name="Play", exact=True).click()
    await expect(desk.page.get_by_role("button", name="Pause")).to_be_visible()
    await until_played(desk, 0.3)
    box = await axis.bounding_box()
    assert box is not None
    await axis.click(position={"x": box["width"] * 0.7, "y": 60})
    await until_played(desk, 2)
    await axis.press(" ")
    await expect(desk.page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    await axis.press("Home")
    await expect(axis).to_have_attribute("aria-valuetext", "0:00")


async def until_played(desk: Desk, seconds: float) -> None:
    """Wait until this second of the recording is heard."""
    await desk.page.wait_for_function(
        "(seconds) => document.querySelector('audio').currentTime >= seconds", arg=seconds
    )
