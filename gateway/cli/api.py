"""What the commands that ask the HTTP API have in common: their options, and how they reach it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.api_client.client import Api
from gateway.api_client.place import find_place
from gateway.errors import GatewayError
from gateway.settings.load import load_settings
from gateway.settings.sources import runtime_folder, service_environment

Config = Annotated[Path | None, typer.Option(help="configuration file (TOML); default: gateway.toml if it exists")]
Url = Annotated[str | None, typer.Option("--api", help="URL of the HTTP API, instead of the configured one")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for another program")]
_COMPLETION_LIMIT = 100


def open_api(config: Path | None = None, url: str | None = None) -> Api:
    """
    Return the API of the settings.

    Raises:
        ConfigError: the settings have mistakes.
    """
    settings = load_settings(config=config, overrides={"api.url": url} if url else {})
    return Api(find_place(settings, runtime_folder(service_environment())))


def live_call_ids(incomplete: str) -> list[str]:
    """Return the ids of live calls that begin with what was typed, for the shell's completion; none on any trouble."""
    try:
        with open_api() as api:
            calls = api.get("calls")["calls"]
    except (GatewayError, KeyError, TypeError):
        return []
    return [call["call_id"] for call in calls if call["call_id"].startswith(incomplete)][:_COMPLETION_LIMIT]


LiveCall = Annotated[
    str, typer.Argument(help="id of a live call, as `gateway calls` shows it", autocompletion=live_call_ids)
]
