"""What a call cost, as far as the price table of the settings knows. An estimate: the service's bill is what counts."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.settings.sections import ModelPrices

MILLION = 1_000_000


def estimate(usage: Mapping[str, int | float], prices: ModelPrices | None) -> float | None:
    """
    Estimate what was used, in US dollars.

    Args:
        usage: ``text_in``, ``audio_in``, ``text_out``, ``audio_out``: tokens; ``cached_text_in``, ``cached_audio_in``:
            how many of ``text_in`` and ``audio_in`` came from the cache (they are counted in those, as the Realtime
            API does); ``transcription_seconds``. What is missing was not used; other names are ignored.
        prices: those of the model; None when it is not in the table.

    Returns:
        The cost, or None when something was used whose price is not known.
    """
    if prices is None:
        return None
    used = {name: max(0.0, usage.get(name, 0)) for name in (*_TOKENS, *_CACHED, "transcription_seconds")}
    parts: list[tuple[float, float | None]] = [(used["transcription_seconds"] / 60, prices.transcription_minute)]
    for name in _TOKENS:
        price: float | None = getattr(prices, name)
        tokens = used[name]
        if (cached_name := f"cached_{name}") in _CACHED:
            cached = min(used[cached_name], tokens)
            cached_price: float | None = getattr(prices, cached_name)
            parts.append((cached / MILLION, price if cached_price is None else cached_price))
            tokens -= cached
        parts.append((tokens / MILLION, price))
    cost = 0.0
    for amount, price in parts:
        if amount > 0 and price is None:
            return None
        cost += amount * (price or 0.0)
    return cost


_TOKENS = ("text_in", "audio_in", "text_out", "audio_out")
_CACHED = ("cached_text_in", "cached_audio_in")
