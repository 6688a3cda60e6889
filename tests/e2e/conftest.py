"""The whole house (``tests/rigs/house.py``) as a fixture."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.rigs.house import MakeHouse, open_house


@pytest.fixture
def house(tmp_path: Path) -> MakeHouse:
    """Return what opens a house whose files are in the test's folder."""
    return partial(open_house, tmp_path)
