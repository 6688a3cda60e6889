from __future__ import annotations

import pytest

from gateway.call.session.event_fields import heard_text

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("played_ms", "heard"),
    [
        (0, ""),
        (200, ""),  # in the middle of the first word
        (300, "Good"),
        (400, "Good"),
        (500, "Good day,"),
        (600, "Good day,"),
        (700, "Good day, my"),
        (999, "Good day, my"),
        (1000, "Good day, my friend"),
        (1020, "Good day, my friend"),
    ],
)
def test_a_transcript_is_cut_at_a_word_in_proportion_to_the_audio(played_ms: int, heard: str) -> None:
    assert heard_text("Good day, my friend", played_ms, 1000) == heard


def test_a_transcript_without_blanks_is_cut_at_a_letter() -> None:
    assert heard_text("こんにちは", 900, 1000) == "こんにち"
    assert heard_text("こんにちは", 1000, 1000) == "こんにちは"


def test_an_item_of_which_nothing_came_has_nothing_to_cut() -> None:
    assert heard_text("", 0, 0) == ""
