from __future__ import annotations

from pathlib import Path

import pytest

from docs.generate.sizing import G711, MEASURED, PCM16, RTP_BYTES, message_bytes, table, up_kbits

pytestmark = pytest.mark.unit

PAGE = Path(__file__).parents[4] / "docs" / "operating.md"


def test_the_page_has_the_table_of_the_measured_figures() -> None:
    assert table() in PAGE.read_text(encoding="utf-8"), "replace it by what python -m docs.generate.sizing prints"


def test_the_page_names_every_measured_figure_as_it_is() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for value in (
        f"{MEASURED.cpu_percent:g} % of a core",
        f"{MEASURED.pss_mb:g} MB",
        f"{MEASURED.edge_ms:g} ms",
        f"{MEASURED.redis_call_ms:g} ms",
        f"{MEASURED.redis_call_second_us:g} us",
        f"{MEASURED.redis_worker_us:g} us",
        f"{MEASURED.edge_feed_us:g} us",
        f"{MEASURED.worker_files} files",
    ):
        assert value in text, value


def test_packets_are_as_long_as_their_headers_and_their_audio() -> None:
    assert RTP_BYTES == 200
    assert message_bytes(G711) == 216 + 50 + 89
    assert round(up_kbits(PCM16)) == 568
    assert round(up_kbits(G711)) == 142
