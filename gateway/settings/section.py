"""What every section of the settings is made of."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import AfterValidator, AnyUrl, BaseModel, ConfigDict, Field, SecretStr, StringConstraints, UrlConstraints
from pydantic_core import MultiHostUrl

Port = Annotated[int, Field(ge=0, le=65535)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
WebSocketUrl = Annotated[AnyUrl, UrlConstraints(allowed_schemes=["ws", "wss"])]
WebUrl = Annotated[AnyUrl, UrlConstraints(allowed_schemes=["http", "https"])]
RedisUrl = Annotated[
    MultiHostUrl,
    UrlConstraints(
        allowed_schemes=[
            *("redis", "rediss", "unix"),
            *("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"),
        ]
    ),
]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$", to_lower=True)]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$", to_lower=True)]


def _one_line_each(value: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, text in value.items():
        if not text.get_secret_value().isprintable():  # a line break would begin another header
            raise ValueError(f"the value of {name} has characters that are not allowed in a header; remove them")
    return value


Headers = Annotated[dict[HeaderName, SecretStr], AfterValidator(_one_line_each)]
"""Headers of HTTP requests whose values are secret: name -> value."""
UsDollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A group of settings: frozen, unknown keys refused, every value explained by its ``description``."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)


def listed(value: object) -> object:
    """Split text at its commas: variables are text, lists are written with commas between."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def tabled(value: object) -> object:
    """Read text as a JSON object: variables are text, tables are written in JSON."""
    if not isinstance(value, str):
        return value
    try:
        table = json.loads(value)
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise ValueError(
            'should be a table; in an environment variable, a JSON object such as {"host": "sip.example.com"}'
        )
    return table
