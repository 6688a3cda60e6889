"""How the commands reach the HTTP API."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from gateway.settings.section import Section, WebUrl


class ApiSettings(Section):
    """The HTTP API as a client sees it: ``gateway calls`` and the other commands that look at a running gateway."""

    url: WebUrl | None = Field(
        None, description="URL of the HTTP API; if not set, the gateway that this user runs here, or web.port"
    )
    token: SecretStr | None = Field(None, description="bearer token; if not set, that of the gateway run here")
    authorities: Path | None = Field(
        None, description="PEM file with certificate authorities for https; if not set, the system's"
    )
