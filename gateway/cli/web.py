"""``gateway web``: the HTTP API and the page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.logs import configure_logs
from gateway.settings.load import load_settings
from gateway.threads import check_threads


def web(
    config: Annotated[
        Path | None, typer.Option(help="configuration file (TOML); default: gateway.toml if it exists")
    ] = None,
    port: Annotated[int | None, typer.Option(help="TCP port instead of the configured one; 0 picks a free one")] = None,
    dialplan: Annotated[
        Path | None, typer.Option(help="dialplan file or folder, instead of the configured one")
    ] = None,
) -> None:
    """Serve the HTTP API and the page until SIGTERM or Ctrl-C; who may do what: `gateway token`."""
    from gateway.cli.web_service import serve_web  # not for every command: what it imports is large

    settings = load_settings(config=config, overrides={"web.port": port, "dialplan": dialplan})
    configure_logs(settings.log, shorten=settings.privacy.in_log)
    if settings.log.debug_threads:
        check_threads()
    serve_web(settings)
