"""Money: what models cost."""

from __future__ import annotations

from pydantic import Field

from gateway.settings.section import Section, UsDollars


class ModelPrices(Section):
    """What a model costs, in US dollars per million tokens. None: not known, and neither is the cost of a call."""

    text_in: UsDollars | None = None
    cached_text_in: UsDollars | None = Field(None, description="if not set, text_in")
    audio_in: UsDollars | None = None
    cached_audio_in: UsDollars | None = Field(None, description="if not set, audio_in")
    text_out: UsDollars | None = None
    audio_out: UsDollars | None = None
    minute: UsDollars | None = Field(None, description="per minute of audio; of a model that transcribes the caller")
