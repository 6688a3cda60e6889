"""An operator's desk: a whole house, ``gateway web`` beside it, and the page open in a browser, logged in."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from playwright.async_api import Browser, Page

from gateway.child_process import ChildProcess
from gateway.settings.sources import environment_for_child
from gateway.web.tokens import hash_of
from tests.rigs.browser import Complaints
from tests.rigs.house import House

START_LIMIT_S = 60.0
LIMIT_MS = 40_000
TOKEN = "gw_the-operators-token-0123456789abcdef"


class GatewayWeb(ChildProcess):
    """
    ``gateway web`` for a house.

    Args:
        house: whose Redis it reads.
        folder: the dialplan ``plan.yaml``, ``recordings`` and ``traces`` are in it.
        port: TCP; 0 takes a free one.
        scopes: what the operator's token may do.
    """

    def __init__(self, house: House, folder: Path, *, port: int = 0, scopes: str = "read,control"):
        given = {
            "GATEWAY_DIALPLAN": str(folder / "plan.yaml"),
            "GATEWAY_REDIS__URL": house.redis_url,
            "GATEWAY_REALTIME__API_KEY": "simulated",
            "GATEWAY_RECORDING__FOLDER": str(folder / "recordings"),
            "GATEWAY_SIP__TRACE_FOLDER": str(folder / "traces"),
            "GATEWAY_WEB__PORT": str(port),
            "GATEWAY_WEB__TOKENS__OPERATOR": json.dumps({"hash": hash_of(TOKEN), "scopes": scopes}),
        }
        environment = environment_for_child(given)
        super().__init__(sys.executable, "-m", "gateway", "web", name="gateway web", environment=environment)
        self._again = partial(GatewayWeb, house, folder, scopes=scopes)
        self.url = ""

    def again(self, port: int) -> GatewayWeb:
        """Return another one, on this port."""
        return self._again(port=port)

    async def ready(self) -> None:
        """Wait until it answers."""
        self.url = (await self.find(r"^ready: (http://[^,\s]+)", START_LIMIT_S))[1]


@dataclass
class Desk:
    """
    What an operator works with.

    Attributes:
        page: the page, logged in, at the live calls.
        complaints: what the browser says against it.
        web: the process that serves it.
    """

    page: Page
    complaints: Complaints
    web: GatewayWeb

    async def look_at(self, view: str) -> None:
        """Go to a view, such as ``cdrs`` or ``calls/ID``."""
        await self.page.evaluate("(view) => { location.hash = `#/${view}`; }", view)

    async def confirm(self, text: str = "") -> None:
        """Fill in the dialog that is open, if it asks for a text, and go on."""
        dialog = self.page.locator("dialog[open]")
        if text:
            await dialog.locator("input, textarea").fill(text)
        await dialog.locator("button[type=submit]").click()


async def log_in(page: Page, token: str = TOKEN) -> None:
    """Enter a token."""
    await page.get_by_label("Token").fill(token)
    await page.get_by_role("button", name="Log in").click()


@asynccontextmanager
async def open_desk(
    house: House, browser: Browser, folder: Path, *, width: int = 1280, scopes: str = "read,control"
) -> AsyncIterator[Desk]:
    """Open the page at a desk; fails when the browser has anything to say against it."""
    async with GatewayWeb(house, folder, scopes=scopes) as web:
        await web.ready()
        context = await browser.new_context(viewport={"width": width, "height": 800})
        context.set_default_timeout(LIMIT_MS)
        page = await context.new_page()
        complaints = Complaints(page)
        await page.goto(web.url)
        await log_in(page)
        await page.locator("#head:not([hidden])").wait_for()
        yield Desk(page, complaints, web)
        await context.close()
        broken = [line for line in web.lines if "Traceback" in line or "[error" in line]
        assert not broken, web.output
    assert not complaints.told, complaints.told
