"""The whole house (``tests/rigs/house.py``) and a browser as fixtures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.rigs.browser import chromium
from tests.rigs.house import MakeHouse, open_house


@pytest.fixture
def house(tmp_path: Path) -> MakeHouse:
    """Return what opens a house whose files are in the test's folder."""
    return partial(open_house, tmp_path)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Run a browser."""
    async with chromium() as started:
        yield started
