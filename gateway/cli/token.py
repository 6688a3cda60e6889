"""``gateway token``: make a token for the HTTP API."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import ValidationError

from gateway.cli.render import say
from gateway.errors import ConfigError
from gateway.settings.sources import variable_of
from gateway.settings.web import SCOPES, WebSettings
from gateway.web.tokens import hash_of, new_token


def token(
    name: Annotated[str, typer.Argument(help="who uses it: letters, digits, - and _")],
    scopes: Annotated[
        str, typer.Option(help=f"what it may do, separated by commas: {', '.join(SCOPES)} (all of them)")
    ] = "read",
) -> None:
    """Make a token for the HTTP API and the page: print it once, and what to put into the settings."""
    made = new_token()
    try:
        web = WebSettings.model_validate({"tokens": {name: {"hash": hash_of(made), "scopes": scopes}}})
    except ValidationError:
        raise ConfigError(
            f"--scopes {scopes}: give some of {', '.join(SCOPES)}; the name has up to 64 letters, digits, - and _"
        ) from None
    ((known, given),) = web.tokens.items()
    words = ", ".join(f'"{scope}"' for scope in given.scopes)
    say(f"token, shown only now: {made}\n")
    say(f'in gateway.toml:\n\n[web.tokens.{known}]\nhash = "{given.hash}"\nscopes = [{words}]\n')
    variable = f"{variable_of('web.tokens')}__{known.upper()}"
    say(f"""or as a variable:\n\n{variable}='{{"hash": "{given.hash}", "scopes": "{",".join(given.scopes)}"}}'""")
