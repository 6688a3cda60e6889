"""What every part of a dialplan is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gateway.dialplan.templates import check_template

Text = Annotated[str, Field(min_length=1, max_length=32_000)]
Template = Annotated[Text, AfterValidator(check_template)]
"""Text with places to fill in for each call."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Digit = Annotated[str, Field(pattern=r"^[0-9*#A-D]$")]


class Part(BaseModel):
    """A part of a dialplan: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
