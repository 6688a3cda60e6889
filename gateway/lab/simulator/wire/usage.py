"""Tokens: how many audio and text count for, what a response used, and what the rate limit leaves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

CALLER_TOKEN_MS = 100
AGENT_TOKEN_MS = 50
CHARACTERS_PER_TOKEN = 4
TOKENS_PER_MINUTE = 250_000


@dataclass(frozen=True, slots=True)
class Tokens:
    """A number of text tokens and one of audio tokens."""

    text: int = 0
    audio: int = 0

    @property
    def total(self) -> int:
        """Both together."""
        return self.text + self.audio

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.text + other.text, self.audio + other.audio)


def text_tokens(text: str) -> int:
    """Return the tokens of a text, roughly: one for four characters."""
    return len(text) // CHARACTERS_PER_TOKEN


def caller_tokens(audio_ms: float) -> int:
    """Return the tokens of caller audio: one for 100 ms."""
    return int(audio_ms) // CALLER_TOKEN_MS


def agent_tokens(audio_ms: float) -> int:
    """Return the tokens of agent audio: one for each 50 ms begun."""
    return math.ceil(audio_ms / AGENT_TOKEN_MS)


def usage(taken: Tokens, cached: Tokens, given: Tokens, reasoning_tokens: int | None = None) -> dict[str, Any]:
    """
    Return the ``usage`` of a response.

    Args:
        taken: input.
        cached: the part of it that the response before had read already.
        given: output.
        reasoning_tokens: those among the text given; None where the model does not reason.
    """
    reasoned = {} if reasoning_tokens is None else {"reasoning_tokens": reasoning_tokens}
    return {
        "total_tokens": taken.total + given.total,
        "input_tokens": taken.total,
        "output_tokens": given.total,
        "input_token_details": {
            "text_tokens": taken.text,
            "audio_tokens": taken.audio,
            "image_tokens": 0,
            "cached_tokens": cached.total,
            "cached_tokens_details": {"text_tokens": cached.text, "audio_tokens": cached.audio, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": given.text, "audio_tokens": given.audio} | reasoned,
    }


class TokenBudget:
    """A budget of tokens that fills up again within a minute."""

    def __init__(self) -> None:
        self._spent = 0.0
        self._at: float | None = None

    def spend(self, tokens: int, now: float) -> list[dict[str, Any]]:
        """Take a response's tokens at ``now`` (seconds of any clock); return ``rate_limits`` as the event has them."""
        per_second = TOKENS_PER_MINUTE / 60
        refilled = (now - self._at) * per_second if self._at is not None else 0.0
        self._at = now
        self._spent = min(float(TOKENS_PER_MINUTE), max(0.0, self._spent - refilled) + tokens)
        left = TOKENS_PER_MINUTE - int(self._spent)
        reset_s = round(self._spent / per_second, 3)
        return [{"name": "tokens", "limit": TOKENS_PER_MINUTE, "remaining": left, "reset_seconds": reset_s}]
