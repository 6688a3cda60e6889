"""The page in a real browser, with real calls: what an operator sees, hears and does."""

from __future__ import annotations

import asyncio
import re
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from playwright.async_api import Browser, Locator, WebSocket, expect

from gateway.audio.pcm import PHONE
from gateway.audio.resample import Downsampler
from gateway.lab.callers.phones import phones
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.figures.measure import segment_correlation
from gateway.lab.simulator import Connection, SimulatorOptions
from gateway.lab.simulator.script import Script
from gateway.lab.speech import caller_speech
from tests.rigs.desk import LIMIT_MS, Desk, open_desk
from tests.rigs.house import House, MakeHouse
from tests.rigs.rounds import best_of
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e

expect.set_options(timeout=LIMIT_MS)
MARKUP = "<img src=x onerror='document.title=1'>"
RECORDED = "recording: {mode: on}"
BLOCK = struct.Struct("!II")
WAVE = re.compile(r"^(M\d+ [\d.]+V[\d.]+){50,}$")


async def until_it_moves(bar: Locator) -> None:
    """Wait until a bar shows a level."""
    end = time.monotonic() + LIMIT_MS / 1000
    while await bar.evaluate("(it) => it.style.transform") in ("", "scaleX(0)"):
        assert time.monotonic() < end, "no level is shown"
        await asyncio.sleep(0.05)


async def test_live_calls_come_move_and_go_and_can_be_hung_up(
    house: MakeHouse, browser: Browser, tmp_path: Path
) -> None:
    async with house() as here, open_desk(here, browser, tmp_path) as desk, phones([here.port]) as people:
        nobody = desk.page.get_by_text("No call is live.")
        await expect(nobody).to_be_visible()
        await expect(desk.page.locator("#stream")).to_have_text("Live")
        first, second = await people.ramp(2, 0.2)
        rows = desk.page.locator("table.live tbody tr")
        await expect(rows).to_have_count(2)
        await expect(desk.page.locator("#news")).to_contain_text("New call from caller0")
        await people.all_heard([first, second], LIMIT_MS / 1000)
        for number in (0, 1):
            row = rows.nth(number)
            await expect(row.locator(".pill")).to_have_text("active")
            await expect(row).to_contain_text("everyone")
            await expect(row).to_contain_text("tester")
            for side in ("caller", "agent"):
                await until_it_moves(row.locator(f".levels .{side}"))
        mine = rows.filter(has_text="caller00000")
        hang_up = mine.get_by_role("button", name="Hang up")
        await hang_up.click()
        await desk.page.locator("dialog[open]").get_by_role("button", name="Cancel").click()
        assert not first.has_ended.is_set()
        await hang_up.click()
        await desk.confirm()
        await until(first.has_ended.is_set, what="the call to be hung up")
        await expect(rows).to_have_count(1)
        assert not second.has_ended.is_set()
        await people.hang_up([second])
        await expect(nobody).to_be_visible()
        assert await here.end_reasons(2) == ["caller_hung_up", "operator_hung_up"]


async def test_a_whisper_reaches_the_agent_and_a_refusal_says_what_to_do(
    house: MakeHouse, browser: Browser, tmp_path: Path
) -> None:
    async with house() as here, open_desk(here, browser, tmp_path) as desk, phones([here.port]) as people:
        (call,) = await people.ramp(1, 0)
        await people.all_heard([call], LIMIT_MS / 1000)
        row = desk.page.locator("table.live tbody tr")
        await row.get_by_role("button", name="Whisper").click()
        await desk.confirm("Offer the blue one.")
        await expect(desk.page.locator(".notice.good")).to_contain_text("The agent has the instruction.")
        connection = await here.simulator.connection(1)
        await until(lambda: has_got(connection, "Offer the blue one."), what="the instruction")
        await row.locator("a").click()
        await desk.page.get_by_role("button", name="Give back").click()
        await expect(desk.page.locator(".notice.bad")).to_contain_text("nobody has taken the call over")
        await people.hang_up([call])
        await expect(desk.page.locator(".end-title")).to_contain_text("caller hung up")
        desk.complaints.forgive("409")


def has_got(connection: Connection, text: str) -> bool:
    """Return whether the model was told this."""
    return any(text in str(event) for event in connection.received)


@best_of(3)
async def test_listening_brings_both_sides_as_they_are_spoken(
    house: MakeHouse, browser: Browser, tmp_path: Path
) -> None:
    said = caller_speech(3)
    script = {"answers": [{"output": [{"say": "Hello.", "sentence": 1, "for_s": 4}]}]}
    options = SimulatorOptions(script=Script.model_validate(script))
    async with house(simulator=options) as here, open_desk(here, browser, tmp_path) as desk, RtpPeer() as phone:
        blocks: list[tuple[float, bytes]] = []

        def take(data: bytes | str) -> None:
            assert isinstance(data, bytes)
            blocks.append((time.time(), data))

        def opened(socket: WebSocket) -> None:
            socket.on("framereceived", take)

        desk.page.on("websocket", opened)
        steps = (invite(phone.port), ANSWERED, pause(14000), BYE)
        async with Sipp(here.port, steps, tmp_path / "sipp") as sipp:
            phone.talk()
            await expect(desk.page.locator("table.live .pill")).to_have_text("active")
            await desk.page.get_by_role("button", name="Listen").click()
            await expect(desk.page.locator(".listen-status")).to_contain_text("ms buffered")
            connection = await here.simulator.connection(1)
            await until(lambda: connection.spoken and len(blocks) > 150, what="the greeting")
            phone.say(said)
            await until(lambda: len(blocks) > 300, what="the caller's words")
            await desk.page.locator(".listen-bar").get_by_role("button", name="Stop").click()
            await expect(desk.page.locator(".listen-bar")).to_have_count(0)
            assert await sipp.finish() == 0, sipp.output
        record = await here.store.call((await here.ended_record())["call_id"])
        assert record is not None
        assert record.answered_at is not None
        headers = [BLOCK.unpack_from(data) for _, data in blocks]
        numbers = [number for number, _ in headers]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "no block is lost or doubled"
        samples = np.frombuffer(b"".join(data[BLOCK.size :] for _, data in blocks), "<i2").reshape(-1, 2)
        caller, agent = samples[:, 0].tobytes(), samples[:, 1].tobytes()
        greeting = Downsampler().process(connection.spoken[0].pcm24k)
        alike = [
            segment_correlation(sent, got, PHONE.rate_hz, 20_000) for sent, got in ((said, caller), (greeting, agent))
        ]
        assert all(each.peak > 0.9 for each in alike), alike
        delays = [at - record.answered_at - ms / 1000 - 0.04 for (at, _), (_, ms) in zip(blocks, headers, strict=True)]
        print(
            f"alike {[round(each.peak, 3) for each in alike]}, {1000 * float(np.median(delays)):.0f} ms to the browser"
        )
        assert -1 < float(np.median(delays)) < LIMIT_MS / 1000


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
        await is_found_among_the_records(desk)


async def is_found_among_the_records(desk: Desk) -> None:
    """Find the one call that ended by its end reason; its day's totals; export it."""
    page = desk.page
    await desk.look_at("cdrs")
    rows = page.locator("main table tbody tr")
    await expect(rows).to_have_count(1)
    await expect(page.get_by_text("Calls: 1", exact=True)).to_be_visible()
    reason = page.get_by_label("End reason")
    await reason.select_option("busy")
    await page.get_by_role("button", name="Find").click()
    await expect(page.get_by_text("No call matches.")).to_be_visible()
    await reason.select_option("caller_hung_up")
    await page.get_by_role("button", name="Find").click()
    await expect(rows).to_contain_text("caller hung up")
    async with page.expect_download() as download:
        await page.get_by_role("link", name="CSV").click()
    head, line = (await (await download.value).path()).read_text().splitlines()
    assert "call_id" in head
    assert "caller_hung_up" in line


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
