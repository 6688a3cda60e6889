"""
What a call costs: tokens and minutes, times prices.

The prices that ship with the gateway are data (``prices.toml``, with the date on which they were read). The settings
replace them entry by entry. A model is looked up by its exact name, then, if it is a dated snapshot
(``gpt-realtime-2.1-2026-05-01``), by the name of its family. Where a price that is needed is missing the cost is not
known, rather than too low. It is an estimate in any case: the service's bill is what counts.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any

from gateway.settings.cost import ModelPrices

MILLION = 1_000_000
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_TOKENS = ("text_in", "audio_in", "text_out", "audio_out")
_CACHED = ("cached_text_in", "cached_audio_in")
_TRANSCRIPTION = "transcription_"
_UNKNOWN = ModelPrices()

Usage = Mapping[str, int | float]
"""
What a session used: ``text_in``, ``audio_in``, ``text_out``, ``audio_out``: tokens; ``cached_text_in``,
``cached_audio_in``: how many of ``text_in`` and ``audio_in`` came from the cache (they are counted in those, as the
Realtime API does). Of transcripts: ``transcription_seconds``, or tokens ``transcription_text_in``, ``..._audio_in``,
``..._text_out``. What is missing was not used; other names are ignored.
"""


@dataclass(frozen=True, slots=True)
class PriceList:
    """
    Prices by model.

    Attributes:
        entries: model -> what it costs.
        as_of: the day on which the shipped ones were read.
        source: where.
    """

    entries: Mapping[str, ModelPrices]
    as_of: date
    source: str

    def with_own(self, own: Mapping[str, ModelPrices]) -> PriceList:
        """Return the list with entries of the settings in the place of the shipped ones."""
        return PriceList({**self.entries, **own}, self.as_of, self.source)

    def of(self, model: str) -> ModelPrices | None:
        """Return what a model costs, by its name or its family's; None if that is not known."""
        return self.entries.get(model) or self.entries.get(family_of(model))

    def cost(self, used: Usage, model: str, transcription: str | None) -> float | None:
        """
        Estimate what was used, in US dollars; None when something was used whose price is not known.

        Args:
            used: of one agent.
            model: that the agent talks with.
            transcription: the model that transcribes the caller; None for none.
        """
        prices, heard = self.of(model), self.of(transcription) if transcription else None
        return estimate(used, prices or _UNKNOWN, heard or _UNKNOWN)

    def missing(self, model: str, transcription: str | None) -> list[str]:
        """Return the names of prices without which the cost of a call may be unknown: ``MODEL: audio_in``."""
        prices = self.of(model) or _UNKNOWN
        found = [f"{model}: {name}" for name in _TOKENS if getattr(prices, name) is None]
        heard = (self.of(transcription) or _UNKNOWN) if transcription else None
        if heard is not None and heard.minute is None and heard.audio_in is None:
            found.append(f"{transcription}: minute")
        return found


def family_of(model: str) -> str:
    """Return a model's name without the date of a snapshot."""
    return _SNAPSHOT.sub("", model)


@cache
def shipped_table() -> dict[str, Any]:
    """Return what ``prices.toml`` holds."""
    return tomllib.loads(files(__package__).joinpath("prices.toml").read_text(encoding="utf-8"))


@cache
def shipped_prices() -> PriceList:
    """Return the prices that ship with the gateway."""
    told = shipped_table()
    entries = {model: ModelPrices.model_validate(entry) for model, entry in told["prices"].items()}
    return PriceList(entries, told["as_of"], told["source"])


def estimate(used: Usage, prices: ModelPrices, transcription: ModelPrices) -> float | None:
    """
    Estimate what was used, in US dollars.

    Args:
        used: tokens and seconds by kind.
        prices: of the model that talks.
        transcription: of the model that transcribes.

    Returns:
        The cost, or None when something was used whose price is not known.
    """
    heard = {name.removeprefix(_TRANSCRIPTION): n for name, n in used.items() if name.startswith(_TRANSCRIPTION)}
    parts = [
        *_parts(used, prices),
        *_parts(heard, transcription),
        (max(0.0, heard.get("seconds", 0)) / 60, transcription.minute),
    ]
    cost = 0.0
    for amount, price in parts:
        if amount > 0 and price is None:
            return None
        cost += amount * (price or 0.0)
    return cost


def _parts(used: Usage, prices: ModelPrices) -> list[tuple[float, float | None]]:
    """Return millions of tokens, each with its price."""
    parts: list[tuple[float, float | None]] = []
    for name in _TOKENS:
        price: float | None = getattr(prices, name)
        tokens = max(0.0, used.get(name, 0))
        if (cached_name := f"cached_{name}") in _CACHED:
            cached = min(max(0.0, used.get(cached_name, 0)), tokens)
            cached_price: float | None = getattr(prices, cached_name)
            parts.append((cached / MILLION, price if cached_price is None else cached_price))
            tokens -= cached
        parts.append((tokens / MILLION, price))
    return parts
