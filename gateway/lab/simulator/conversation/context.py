"""The model's context: what of the conversation it still reads, and what that counts."""

from __future__ import annotations

import json
from typing import Any

from gateway.lab.simulator.conversation.items import SimulatedConversation
from gateway.lab.simulator.wire.session_object import REASONING_MODELS
from gateway.lab.simulator.wire.usage import Tokens, text_tokens

SMALL_CONTEXT_TOKENS = 28_224  # 32k of context, less the longest answer
LARGE_CONTEXT_TOKENS = 96_000


class Context:
    """
    Keeps the conversation within the model's input limit, oldest items out first, as ``truncation`` asks.

    Args:
        conversation: its items are marked as read or not.
        limit_tokens: the most input; None takes the model's.
    """

    def __init__(self, conversation: SimulatedConversation, limit_tokens: int | None) -> None:
        self._conversation = conversation
        self._limit = limit_tokens
        self._read_before = Tokens()

    def read(self, session: dict[str, Any]) -> tuple[Tokens, Tokens] | None:
        """
        Read the conversation for one response.

        Returns:
            All input, and the part of it the response before had read too; None where it does not fit and truncation
            is disabled.
        """
        fixed = Tokens(text_tokens(session["instructions"]) + text_tokens(json.dumps(session["tools"])))
        cut = False
        truncation = session["truncation"]
        limit, target = self._limits(session["model"], truncation, fixed.total)
        if self._conversation.tokens().total + fixed.total > limit:
            if truncation == "disabled":
                return None
            cut = True
            self._conversation.forget_down_to(target - fixed.total)
        taken = fixed + self._conversation.tokens()
        before = fixed if cut else self._read_before
        self._read_before = taken
        return taken, Tokens(min(before.text, taken.text), min(before.audio, taken.audio))

    def _limits(self, model: str, truncation: Any, fixed: int) -> tuple[int, int]:
        """Return the most input allowed, and what a cut brings it down to."""
        usual = LARGE_CONTEXT_TOKENS if REASONING_MODELS.fullmatch(model) else SMALL_CONTEXT_TOKENS
        limit = usual if self._limit is None else self._limit
        if isinstance(truncation, str):
            return limit, limit
        post_instructions = (truncation.get("token_limits") or {}).get("post_instructions")
        if post_instructions is not None:
            limit = min(limit, post_instructions + fixed)
        return limit, int(limit * truncation["retention_ratio"])
