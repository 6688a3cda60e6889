from __future__ import annotations

import pytest

from gateway.settings.sections import ModelPrices
from gateway.worker.prices import estimate

pytestmark = pytest.mark.unit

PRICES = ModelPrices(
    text_in=1,
    cached_text_in=0.1,
    audio_in=10,
    cached_audio_in=0.5,
    text_out=4,
    audio_out=20,
    transcription_minute=0.06,
)


def test_every_kind_has_its_price_and_cached_tokens_are_among_those_that_came_in() -> None:
    usage = {
        "text_in": 1_000_000,
        "cached_text_in": 400_000,
        "audio_in": 2_000_000,
        "cached_audio_in": 1_000_000,
        "text_out": 500_000,
        "audio_out": 100_000,
        "transcription_seconds": 90.0,
        "another": 7,
    }
    assert estimate(usage, PRICES) == pytest.approx(0.6 + 0.04 + 10 + 0.5 + 2 + 2 + 0.09)


def test_nothing_used_costs_nothing() -> None:
    assert estimate({}, ModelPrices()) == 0


def test_a_model_without_prices_has_no_known_cost() -> None:
    assert estimate({}, None) is None


def test_a_price_that_is_missing_matters_only_if_it_is_needed() -> None:
    prices = ModelPrices(text_in=1)
    assert estimate({"text_in": 1_000_000, "audio_out": 0}, prices) == 1
    assert estimate({"text_in": 1_000_000, "audio_out": 1}, prices) is None
    assert estimate({"transcription_seconds": 1.5}, prices) is None


def test_without_a_price_of_their_own_cached_tokens_cost_as_much_as_others() -> None:
    assert estimate({"text_in": 1_000_000, "cached_text_in": 999_999}, ModelPrices(text_in=1)) == 1


def test_more_cached_than_came_in_or_less_than_nothing_is_not_believed() -> None:
    assert estimate({"text_in": 1_000_000, "cached_text_in": 5_000_000}, PRICES) == pytest.approx(0.1)
    assert estimate({"text_in": -5}, PRICES) == 0
