"""A real browser, and an operator who looks at the page with it; what the browser complains of is kept."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, ConsoleMessage, Error, Page, Route, async_playwright

import gateway.web

CHROMIUM = "/usr/bin/chromium"
PAGE = Path(gateway.web.__file__).parent / "page"
FILES_HOST = "http://page.test"
KINDS = {".js": "text/javascript", ".html": "text/html", ".css": "text/css", ".svg": "image/svg+xml"}


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run Debian's Chromium, without a window."""
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=as_root)
        try:
            yield browser
        finally:
            await browser.close()


class Complaints:
    """What a browser says against a page: errors and warnings of its console, what scripts raised."""

    def __init__(self, page: Page) -> None:
        self.told: list[str] = []
        page.on("console", self._take)
        page.on("pageerror", self._raised)

    def forgive(self, *words: str) -> None:
        """Forget what was told with one of these words in it: a refusal that the test wanted."""
        self.told = [told for told in self.told if not any(word in told for word in words)]

    def _take(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.told.append(f"{message.type}: {message.text}")

    def _raised(self, error: Error) -> None:
        self.told.append(f"raised: {error.message}")


async def with_files_alone(browser: Browser) -> Page:
    """Return a page that can load the files of the page, without a gateway behind them."""
    page = await browser.new_page()

    async def give(route: Route) -> None:
        path = PAGE / route.request.url.removeprefix(FILES_HOST).lstrip("/")
        if path.is_file():
            await route.fulfill(path=path, content_type=KINDS[path.suffix])
        else:
            await route.fulfill(body="<!doctype html><title>empty</title><body></body>", content_type="text/html")

    await page.route(f"{FILES_HOST}/**", give)
    await page.goto(f"{FILES_HOST}/empty")
    return page


async def is_wider_than_the_window(page: Page) -> bool:
    """Return whether the page can be scrolled sideways."""
    wide: bool = await page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    return wide
