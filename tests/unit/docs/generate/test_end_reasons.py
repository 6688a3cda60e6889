from __future__ import annotations

from pathlib import Path

import pytest

from docs.generate.end_reasons import page

pytestmark = pytest.mark.unit

PAGE = Path(__file__).parents[4] / "docs" / "end-reasons.md"


def test_the_page_is_what_the_registry_says() -> None:
    printed = "stale: python -m docs.generate.end_reasons > docs/end-reasons.md"
    assert PAGE.read_text(encoding="utf-8") == page(), printed
