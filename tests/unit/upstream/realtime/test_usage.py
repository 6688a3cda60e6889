"""Tokens and limits as plain fields."""

from __future__ import annotations

import pytest

from gateway.upstream.realtime.usage import rate_limit_fields, transcription_fields, usage_fields
from gateway.upstream.realtime.wire.objects import ServerRateLimit

pytestmark = pytest.mark.unit


def test_the_tokens_of_a_response_are_told_by_kind() -> None:
    usage = {
        "total_tokens": 300,
        "input_tokens": 200,
        "output_tokens": 100,
        "input_token_details": {
            "text_tokens": 120,
            "audio_tokens": 80,
            "image_tokens": 0,
            "cached_tokens": 64,
            "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": 20, "audio_tokens": 80},
    }

    assert usage_fields(usage) == {
        "text_in": 120,
        "audio_in": 80,
        "cached_text_in": 60,
        "cached_audio_in": 4,
        "text_out": 20,
        "audio_out": 80,
    }


@pytest.mark.parametrize("usage", [{}, {"input_token_details": None}, {"input_token_details": "many"}])
def test_what_is_not_told_is_nothing(usage: dict[str, object]) -> None:
    assert set(usage_fields(usage).values()) == {0}


def test_a_transcript_is_paid_by_the_second_or_by_tokens() -> None:
    assert transcription_fields({"type": "duration", "seconds": 2.5}) == {"transcription_seconds": 2.5}
    assert transcription_fields({"type": "duration"}) == {"transcription_seconds": 0.0}
    tokens = {"type": "tokens", "output_tokens": 7, "input_token_details": {"text_tokens": 1, "audio_tokens": 30}}
    assert transcription_fields(tokens) == {
        "transcription_text_in": 1,
        "transcription_audio_in": 30,
        "transcription_text_out": 7,
    }


def test_limits_are_told_by_name() -> None:
    limits = [ServerRateLimit(name="tokens", limit=40000, remaining=39000, reset_seconds=1.5), ServerRateLimit(limit=1)]

    assert rate_limit_fields(limits) == {"tokens_limit": 40000, "tokens_remaining": 39000, "tokens_reset_s": 1.5}
