"""``gateway trunks``: carriers and PBXs as the workers see them, over the HTTP API."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from gateway.cli.api import AsJson, Config, Url, open_api
from gateway.cli.render import as_json, say, table

app = typer.Typer(help="Look at the trunks, over the HTTP API.", no_args_is_help=False)


@app.callback(invoke_without_command=True)
def trunks(context: typer.Context, config: Config = None, url: Url = None, json: AsJson = False) -> None:
    """Show the trunks: registered or not, and the registrar's last answer."""
    if context.invoked_subcommand is not None:
        return
    with open_api(config, url) as api:
        found = api.get("trunks")
    if json:
        as_json(found)
        return
    now = time.time()
    rows = [
        (
            each["trunk"],
            each.get("state", ""),
            " ".join(str(each[name]) for name in ("code", "reason") if each.get(name) not in (None, "", 0, "0")),
            f"{max(0.0, now - float(each.get('at') or now)):.0f}",
            each.get("worker", ""),
        )
        for each in found["trunks"]
    ]
    table("Trunks" if rows else "No trunks", ("trunk", "state", "last answer", "since s", "worker"), rows)


@app.command()
def probe(
    trunk: Annotated[str, typer.Argument(help="name of a trunk in the settings")],
    config: Config = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Ask a trunk whether it is there (OPTIONS), now."""
    with open_api(config, url) as api:
        answer = api.post("trunks", trunk, "probe")
    if json:
        as_json(answer)
    else:
        say(f"{trunk}: {answer.get('detail') or answer.get('state', 'done')}")
