from __future__ import annotations

from datetime import date

import pytest

from gateway.cost.prices import PriceList, estimate, shipped_prices
from gateway.settings.cost import ModelPrices

pytestmark = pytest.mark.unit

PRICES = ModelPrices(text_in=1, cached_text_in=0.1, audio_in=10, cached_audio_in=0.5, text_out=4, audio_out=20)
HEARD = ModelPrices(minute=0.06)
NONE = ModelPrices()


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
    assert estimate(usage, PRICES, HEARD) == pytest.approx(0.6 + 0.04 + 10 + 0.5 + 2 + 2 + 0.09)


def test_transcripts_that_are_billed_by_tokens_have_the_prices_of_their_own_model() -> None:
    usage = {"transcription_audio_in": 1_000_000, "transcription_text_in": 500_000, "transcription_text_out": 100_000}
    assert estimate(usage, NONE, ModelPrices(audio_in=6, text_in=2.5, text_out=10)) == pytest.approx(6 + 1.25 + 1)
    assert estimate(usage, PRICES, HEARD) is None


def test_nothing_used_costs_nothing() -> None:
    assert estimate({}, NONE, NONE) == 0


def test_a_price_that_is_missing_matters_only_if_it_is_needed() -> None:
    prices = ModelPrices(text_in=1)
    assert estimate({"text_in": 1_000_000, "audio_out": 0}, prices, NONE) == 1
    assert estimate({"text_in": 1_000_000, "audio_out": 1}, prices, NONE) is None
    assert estimate({"transcription_seconds": 1.5}, prices, NONE) is None


def test_without_a_price_of_their_own_cached_tokens_cost_as_much_as_others() -> None:
    assert estimate({"text_in": 1_000_000, "cached_text_in": 999_999}, ModelPrices(text_in=1), NONE) == 1


def test_more_cached_than_came_in_or_less_than_nothing_is_not_believed() -> None:
    assert estimate({"text_in": 1_000_000, "cached_text_in": 5_000_000}, PRICES, NONE) == pytest.approx(0.1)
    assert estimate({"text_in": -5, "transcription_seconds": -5}, PRICES, HEARD) == 0


def test_the_shipped_prices_say_of_when_they_are_and_know_the_models_by_default() -> None:
    prices = shipped_prices()
    assert prices.as_of >= date(2026, 11, 30)
    assert prices.missing("gpt-realtime-2.1", "gpt-realtime-whisper") == []
    a_minute_each = {"audio_in": 600, "audio_out": 1200, "transcription_seconds": 60}
    cost = prices.cost(a_minute_each, "gpt-realtime-2.1", "gpt-realtime-whisper")
    assert cost == pytest.approx(600 * 32e-6 + 1200 * 64e-6 + 0.017)


def test_a_dated_snapshot_costs_what_its_family_does_unless_it_has_its_own_entry() -> None:
    prices = shipped_prices()
    assert prices.of("gpt-realtime-2.1-2026-05-01") == prices.of("gpt-realtime-2.1")
    assert prices.of("gpt-realtime-2.1-mini-2026-05-01") == prices.of("gpt-realtime-2.1-mini")
    own = prices.with_own({"gpt-realtime-2.1-2026-05-01": PRICES})
    assert own.of("gpt-realtime-2.1-2026-05-01") == PRICES
    assert own.of("gpt-realtime-2.1-2026-06-01") == prices.of("gpt-realtime-2.1")
    assert prices.of("gpt-realtime-2.1-turbo") is None


def test_an_entry_of_the_settings_takes_the_place_of_the_shipped_one_as_a_whole() -> None:
    prices = shipped_prices().with_own({"gpt-realtime-2.1": ModelPrices(text_in=1)})
    assert prices.of("gpt-realtime-2.1") == ModelPrices(text_in=1)
    assert prices.of("gpt-realtime-2.1-mini") == shipped_prices().of("gpt-realtime-2.1-mini")


def test_the_prices_that_are_missing_are_named() -> None:
    prices = PriceList({"m": ModelPrices(text_in=1, audio_in=1)}, date(2026, 1, 1), "")
    assert prices.missing("m", "heard") == ["m: text_out", "m: audio_out", "heard: minute"]
    assert prices.missing("n", None) == ["n: text_in", "n: audio_in", "n: text_out", "n: audio_out"]
    assert prices.cost({"text_in": 1}, "n", None) is None
