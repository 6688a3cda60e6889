"""Money: what models cost, and how much of it may be spent."""

from __future__ import annotations

from typing import Annotated

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


Budget = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class CostSettings(Section):
    """How much may be spent, over all routes; a route's own limits are in the dialplan."""

    usd_per_day: Budget | None = Field(
        None, description="the most that all calls together may cost in a day (the plan's `timezone`), in US dollars"
    )
    max_usd: Budget | None = Field(None, description="the most that one call may cost, in US dollars")
    warn_at: float = Field(
        0.9,
        gt=0,
        le=1,
        description="share of its budget at which the agent of a call is told to come to an end; 1 never tells it",
    )
    reserve_usd: float = Field(
        0.25,
        gt=0,
        le=1000,
        allow_inf_nan=False,
        description="how much of a day's budget a call books at a time, before it is spent",
    )
