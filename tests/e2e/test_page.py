"""The page in a real browser: log-in, its views on a telephone, the dialplan, a stream that breaks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser, expect

from gateway.lab.callers.phones import phones
from tests.rigs.browser import is_wider_than_the_window
from tests.rigs.desk import LIMIT_MS, TOKEN, log_in, open_desk
from tests.rigs.house import MakeHouse

pytestmark = pytest.mark.e2e

expect.set_options(timeout=LIMIT_MS)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
VIEWS = ("calls", "cdrs", "dialplan", "trunks", "health")


async def test_every_view_fits_a_telephone_in_light_and_dark(
    house: MakeHouse, browser: Browser, tmp_path: Path
) -> None:
    async with house() as here, open_desk(here, browser, tmp_path, width=360) as desk, phones([here.port]) as people:
        calls = await people.ramp(2, 0.2)
        await people.all_heard(calls, LIMIT_MS / 1000)
        page = desk.page
        ids = [record.call_id for record in await here.store.live_calls()]
        for view in (*VIEWS, f"calls/{ids[0]}"):
            for scheme in SCHEMES:
                await page.emulate_media(color_scheme=scheme)
                await desk.look_at(view)
                await expect(page.locator("main h1")).to_be_visible()
                await asyncio.sleep(0.5)  # what it asks for has come
                assert not await is_wider_than_the_window(page), view
                await expect(page.locator("main .problem")).to_have_count(0)
        await people.hang_up(calls)


async def test_a_number_is_explained_with_the_lines_that_decide(
    house: MakeHouse, browser: Browser, tmp_path: Path
) -> None:
    plan = """\
agents:
  tester: {instructions: Answer shortly.}
routes:
  - name: sales
    match: {to: "1000"}
    agent: tester
  - name: rest
    agent: tester
"""
    async with house(dialplan=plan) as here, open_desk(here, browser, tmp_path) as desk:
        page = desk.page
        await desk.look_at("dialplan")
        await page.get_by_label("Called number").fill("2000")
        await page.get_by_role("button", name="Explain").click()
        await expect(page.locator(".verdict")).to_contain_text("rest")
        await expect(page.locator(".source li.passed")).to_contain_text('match: {to: "1000"}')
        taken = page.locator(".source li.taken code")
        await expect(taken).to_have_text(["  - name: rest", "    agent: tester"])
        path = tmp_path / "plan.yaml"
        path.write_text(plan.replace('"1000"', '"1001"'), encoding="utf-8")
        await page.get_by_role("button", name="Reload now").click()
        await expect(page.locator(".diff .removed")).to_contain_text('"1000"')
        await expect(page.locator(".diff .added")).to_contain_text('"1001"')
        path.write_text(plan.replace("agent: tester\n  - name", "agent: nobody\n  - name"), encoding="utf-8")
        await page.get_by_role("button", name="Reload now").click()
        await expect(page.locator(".source li.mistaken")).to_contain_text("agent: nobody")
        await expect(page.locator(".mistakes li")).to_contain_text("plan.yaml:6:")


async def test_a_log_in_holds_no_token_and_ends(house: MakeHouse, browser: Browser, tmp_path: Path) -> None:
    async with house() as here, open_desk(here, browser, tmp_path, scopes="read") as desk:
        page = desk.page
        kept = await page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
        assert TOKEN not in kept + await page.content()
        assert "gw_" not in kept
        await page.reload()
        await expect(page.locator("main h1")).to_have_text("Live calls")
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_label("Token")).to_be_focused()
        await page.reload()
        await expect(page.get_by_label("Token")).to_be_visible()
        await log_in(page, "wrong")
        await expect(page.locator(".problem")).to_contain_text("This token is not known.")
        desk.complaints.forgive("401")


async def test_a_stream_that_broke_comes_back(house: MakeHouse, browser: Browser, tmp_path: Path) -> None:
    async with house() as here, open_desk(here, browser, tmp_path) as desk, phones([here.port]) as people:
        stream = desk.page.locator("#stream")
        await expect(stream).to_have_text("Live")
        port = int(desk.web.url.rpartition(":")[2])
        await desk.web.stop()
        await expect(stream).to_have_text("Reconnecting")
        (call,) = await people.ramp(1, 0)
        await people.all_heard([call], LIMIT_MS / 1000)
        async with desk.web.again(port) as web:
            await web.ready()
            await expect(stream).to_have_text("Live")
            await expect(desk.page.locator("table.live tbody tr")).to_have_count(1)
            await people.hang_up([call])
            await expect(desk.page.locator("table.live tbody tr")).to_have_count(0)
        desk.complaints.forgive("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_")
