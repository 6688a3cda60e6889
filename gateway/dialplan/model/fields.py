"""The types of single values, which all parts of a dialplan share."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gateway.dialplan.model.templates import check_template

Text = Annotated[str, Field(min_length=1, max_length=32_000)]
Template = Annotated[Text, AfterValidator(check_template)]
"""Text with places to fill in for each call."""
PlanName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
PlanPath = tuple[str | int, ...]
"""Keys and indices from the root of a plan, or of a part of it, to a value."""
Digit = Annotated[str, Field(pattern=r"^[0-9*#A-D]$")]
_URI = re.compile(r"""(sips?:[^\s@<>"{}]+(@[^\s@<>"{}]+)?|tel:[^\s<>"{}]+)""", re.IGNORECASE)


def is_uri(text: str) -> bool:
    """Return whether a text is a SIP or tel URI."""
    return _URI.fullmatch(text) is not None


def check_uri(text: str) -> str:
    """
    Return a SIP or tel URI as it is.

    Raises:
        ValueError: it is not one; says what one looks like.
    """
    if not is_uri(text):
        raise ValueError(f"{text!r} is not a URI; give one such as sip:+4930123@example.com or tel:+4930123")
    return text


UriText = Annotated[str, AfterValidator(check_uri)]


class PlanPart(BaseModel):
    """A part of a dialplan: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
