"""``gateway demo``: one real call, shown as a table."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.render import say, table
from gateway.lab.demo import run_demo


def demo(
    out: Annotated[Path, typer.Option(help="directory for demo.wav, demo.png and demo.json")] = Path("out"),
    dialplan: Annotated[Path, typer.Option(help="dialplan file")] = Path("dialplans/hello.yaml"),
) -> None:
    """Place one real SIP call through a gateway to the simulator and print what happens. Needs no API key."""
    done = asyncio.run(run_demo(out, dialplan, say))
    start = done.story[0].at
    rows = [(f"{(line.at - start) * 1000:.0f}", line.who, line.what, line.detail) for line in done.story]
    table("One call", ("ms", "who", "what", ""), rows)
    say(f"listen to {done.recording} (caller left, agent right), look at {done.picture}")
    say(f"result: {done.verdict}")
    raise typer.Exit(done.exit_code)
