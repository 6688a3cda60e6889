"""
However an answer of the agent's fails, and whenever, the caller hears the agent again, or the call ends.

``python -m tests.e2e.failing_answers`` prints after how many seconds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.failing_answers import LIMIT_S, OCCASIONS, WAYS, Occasion, heard_at

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("occasion", OCCASIONS, ids=lambda occasion: occasion.name)
async def test_nobody_is_left_in_silence(occasion: Occasion, tmp_path: Path) -> None:
    ways = [way for way in WAYS if occasion in way.occasions]
    heard = await heard_at(occasion, ways, tmp_path)
    assert len(heard) == len(ways)
    silent = [each.way.name for each in heard if each.words_s is None and each.hung_up_s is None]
    assert not silent, f"no words within {LIMIT_S:g} s"
    assert not [(each.way.name, each.violations) for each in heard if each.violations]
