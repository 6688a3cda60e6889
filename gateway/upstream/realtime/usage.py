"""What the service says about tokens and limits, as plain fields for a call's record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.upstream.realtime.wire.objects import LARGEST, ServerRateLimit

Fields = dict[str, str | int | float]


def usage_fields(usage: Mapping[str, Any]) -> Fields:
    """
    Return the tokens of a response by kind; a kind that is missing is 0.

    ``text_in`` and ``audio_in`` count all that went in, ``cached_text_in`` and ``cached_audio_in`` the share of it that
    is billed as cached.
    """
    heard, said = _part(usage, "input_token_details"), _part(usage, "output_token_details")
    cached = _part(heard, "cached_tokens_details")
    return {
        "text_in": _count(heard, "text_tokens"),
        "audio_in": _count(heard, "audio_tokens"),
        "cached_text_in": _count(cached, "text_tokens"),
        "cached_audio_in": _count(cached, "audio_tokens"),
        "text_out": _count(said, "text_tokens"),
        "audio_out": _count(said, "audio_tokens"),
    }


def transcription_fields(usage: Mapping[str, Any]) -> Fields:
    """Return what the transcript of a turn took: seconds of audio, or tokens by kind, whichever the model counts."""
    if usage.get("type") == "duration":
        seconds = usage.get("seconds")
        if isinstance(seconds, int | float) and 0 <= seconds <= LARGEST:  # which NaN is not
            return {"transcription_seconds": float(seconds)}
        return {"transcription_seconds": 0.0}
    heard = _part(usage, "input_token_details")
    return {
        "transcription_text_in": _count(heard, "text_tokens"),
        "transcription_audio_in": _count(heard, "audio_tokens"),
        "transcription_text_out": _count(usage, "output_tokens"),
    }


def rate_limit_fields(limits: Iterable[ServerRateLimit]) -> Fields:
    """Return what is left of each limit: ``tokens_limit``, ``tokens_remaining``, ``tokens_reset_s`` and the like."""
    fields: Fields = {}
    for limit in limits:
        told = {"limit": limit.limit, "remaining": limit.remaining, "reset_s": limit.reset_seconds}
        fields |= {f"{limit.name}_{what}": value for what, value in told.items() if limit.name and value is not None}
    return fields


def _part(whole: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = whole.get(name)
    return part if isinstance(part, Mapping) else {}


def _count(part: Mapping[str, Any], name: str) -> int:
    count = part.get(name)
    return count if isinstance(count, int) and 0 <= count <= LARGEST else 0
