"""``gateway workers``: the workers of all machines, over the HTTP API."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from gateway.cli.api import AsJson, Config, Url, open_api
from gateway.cli.render import as_json, say, table

app = typer.Typer(help="Look at the workers of all machines, over the HTTP API.", no_args_is_help=False)
Worker = Annotated[str, typer.Argument(help="name of a worker, as `gateway workers` shows it")]


@app.callback(invoke_without_command=True)
def workers(context: typer.Context, config: Config = None, url: Url = None, json: AsJson = False) -> None:
    """Show the workers and their calls."""
    if context.invoked_subcommand is not None:
        return
    with open_api(config, url) as api:
        found = api.get("workers")
    if json:
        as_json(found)
        return
    now = time.time()
    rows = [
        (
            each["worker"],
            each.get("host", ""),
            each.get("state", ""),
            f"{each.get('live_calls', 0)} of {each.get('capacity', 0)}",
            each.get("version", ""),
            f"{max(0.0, now - float(each.get('heartbeat_at') or now)):.0f}",
        )
        for each in found["workers"]
    ]
    table("Workers" if rows else "No workers", ("worker", "machine", "state", "calls", "version", "seen s"), rows)


@app.command()
def drain(worker: Worker, config: Config = None, url: Url = None, json: AsJson = False) -> None:
    """Have a worker take no new calls; live ones go on."""
    _order(worker, "drain", config, url, json=json)


@app.command()
def undrain(worker: Worker, config: Config = None, url: Url = None, json: AsJson = False) -> None:
    """Have a drained worker take calls again."""
    _order(worker, "undrain", config, url, json=json)


def _order(worker: str, what: str, config: Config, url: Url, *, json: bool) -> None:
    with open_api(config, url) as api:
        answer = api.post("workers", worker, what)
    if json:
        as_json(answer)
    else:
        say(f"{worker}: {what} {answer.get('state', 'done')}")
