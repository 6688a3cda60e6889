"""What a response is asked to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.lab.simulator.wire.session_object import REASONING_MODELS, complete_format
from gateway.lab.simulator.wire.usage import Tokens

REASONING_TOKENS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    The session's values, and over them those of the ``response.create``.

    Attributes:
        conversation_id: None for a response outside the conversation.
        modality: ``audio`` or ``text``.
        output_format: format object of its audio.
        instructions: those of this response alone; empty if it has none.
        reasons: its model does; its messages say whether they are commentary or the final answer.
        taken: input it reads.
        cached: the part of it the response before had read too.
    """

    conversation_id: str | None
    modality: str
    output_format: dict[str, Any]
    voice: Any
    max_output_tokens: int | str
    metadata: dict[str, str] | None
    instructions: str
    reasons: bool
    taken: Tokens
    cached: Tokens

    @property
    def reasoning_tokens(self) -> int:
        """What its model thinks before it says anything; they count as text given."""
        return REASONING_TOKENS if self.reasons else 0

    @property
    def format_type(self) -> str:
        """Format type of its audio."""
        return str(self.output_format["type"])

    @classmethod
    def of(
        cls,
        session: dict[str, Any],
        overrides: dict[str, Any],
        *,
        conversation_id: str,
        taken: Tokens,
        cached: Tokens,
    ) -> Plan:
        """Lay a ``response.create`` over the session."""
        output = session["audio"]["output"] | overrides.get("audio", {}).get("output", {})
        outside = overrides.get("conversation", "auto") == "none"
        return cls(
            conversation_id=None if outside else conversation_id,
            modality=overrides.get("output_modalities", session["output_modalities"])[0],
            output_format=complete_format(output["format"]),
            voice=output["voice"],
            max_output_tokens=overrides.get("max_output_tokens", session["max_output_tokens"]),
            metadata=overrides.get("metadata"),
            instructions=overrides.get("instructions", ""),
            reasons=REASONING_MODELS.fullmatch(session["model"]) is not None,
            taken=taken,
            cached=cached,
        )
