"""``gateway fleet``: the workers of a running ``gateway serve --calls N``."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.api import AsJson
from gateway.cli.render import as_json, say, table
from gateway.errors import GatewayError
from gateway.fleet.control import NoFleet, ask, control_path
from gateway.settings.load import load_settings
from gateway.settings.sources import service_environment

AWAY_LIMIT_S = 60.0
"""A supervisor that executes itself again answers within this."""
LOOK_S = 0.3

app = typer.Typer(help="Look at the workers of a running gateway, or replace them.", no_args_is_help=True)
Config = Annotated[Path | None, typer.Option(help="configuration file (TOML); default: gateway.toml if it exists")]
Control = Annotated[Path | None, typer.Option(help="socket of the fleet, instead of the configured one")]


@app.command()
def status(config: Config = None, control: Control = None, json: AsJson = False) -> None:
    """Show the workers and their calls."""
    found = asyncio.run(ask(_path(config, control), "status"))
    if json:
        as_json(found)
        return
    say(f"{found['where']}: {found['calls']} of {found['limit']} calls; supervisor {found['pid']}, {found['version']}")
    rows = [
        (
            worker["worker"],
            worker["sip"],
            worker["state"] + (", to be replaced" if worker["old"] and worker["state"] != "draining" else ""),
            f"{worker['live_calls']} of {worker['capacity']}",
            str(worker["age_s"]),
        )
        for worker in found["workers"]
    ]
    table("Workers", ("worker", "SIP", "state", "calls", "age s"), rows)


@app.command()
def restart(
    config: Config = None,
    control: Control = None,
    wait: Annotated[bool, typer.Option("--wait", help="wait until the last call of the old workers has ended")] = False,
) -> None:
    """
    Replace all workers, one after the other, by ones of the program as it is installed now; no call is lost.

    First the program and the settings on disk are tried: if they would not start, nothing happens. New workers take the
    new calls; the old ones end with their last call, after call.max_length_s at the latest.
    """
    asyncio.run(_restart(_path(config, control), wait=wait))


def _path(config: Path | None, control: Path | None) -> Path:
    return control or control_path(load_settings(config=config), service_environment())


async def _restart(path: Path, *, wait: bool) -> None:
    before = {worker["worker"] for worker in (await ask(path, "status"))["workers"]}
    say("trying the program on disk")
    await ask(path, "restart")
    told, lost_at = "", None
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            found = await ask(path, "status")
        except NoFleet as error:
            lost_at = lost_at or time.monotonic()
            if time.monotonic() > lost_at + AWAY_LIMIT_S:
                raise GatewayError(f"the supervisor did not come back: {error}") from None
            continue
        lost_at = None
        text, is_done = progress(found["workers"], before, wait=wait)
        if text != told:
            say(text)
            told = text
        if is_done:
            return


def progress(workers: list[dict[str, Any]], before: set[str], *, wait: bool) -> tuple[str, bool]:
    """
    Return how far a restart is, in words, and whether it is done.

    Args:
        workers: as the supervisor tells them.
        before: names of those that are to be replaced.
        wait: it is done only when these have ended.
    """
    old = [worker for worker in workers if worker["worker"] in before]
    leaving = [worker for worker in old if worker["state"] == "draining"]
    new = [
        worker for worker in workers if worker["worker"] not in before and worker["state"] in ("ready", "overloaded")
    ]
    calls = sum(worker["live_calls"] for worker in leaving)
    text = f"{len(before) - len(old) + len(leaving)} of {len(before)} workers replaced, {len(new)} new ones are ready"
    if leaving:
        text += f"; {len(leaving)} old ones end with their {calls} calls"
    return text, bool(new) and (not old if wait else len(old) == len(leaving))
