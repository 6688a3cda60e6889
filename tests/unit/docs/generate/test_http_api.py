from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.generate.http_api import operations, page

pytestmark = pytest.mark.unit

PAGE = Path(__file__).parents[4] / "docs" / "api.md"


def test_the_page_is_what_the_api_describes() -> None:
    printed = "stale: python -m docs.generate.http_api > docs/api.md"
    assert PAGE.read_text(encoding="utf-8") == page(), printed


def test_every_endpoint_has_a_line_of_curl_that_leads_to_it() -> None:
    text = PAGE.read_text(encoding="utf-8")
    told = re.findall(r"^`([A-Z]+) (/\S*)`.*\n\n```\ncurl (.*)\n```$", text, re.MULTILINE)
    assert sorted((method, path) for method, path, _ in told) == sorted(
        (method, path) for method, path, _ in operations()
    )
    for method, path, curl in told:
        assert ("-X" in curl) == (method != "GET")
        named = re.search(r"http://127\.0\.0\.1:8088(/[^\s'?]*)", curl)
        assert named is not None
        assert re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), named[1]), curl
