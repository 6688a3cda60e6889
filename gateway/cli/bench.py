"""``gateway bench``: what calls cost on this machine."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from gateway.cli.render import fail, say, table
from gateway.errors import ConfigError
from gateway.lab.bench.machine import cores
from gateway.lab.bench.picture import draw_bench
from gateway.lab.bench.results import BenchResult, short_rows
from gateway.lab.bench.routes import RoutesResult, measure_routes
from gateway.lab.bench.run import BenchPlan, run_bench
from gateway.lab.bench.short_calls import ShortCallsPlan

_STOPPED = 130
_MOST, _MOST_PER_CORE = 10_000, 96


def bench(
    calls: Annotated[
        str, typer.Option(help="calls at once; 0: as many as one worker holds; max: as many as this machine takes")
    ] = "0",
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="length of the window with all calls")] = 60.0,
    step_seconds: Annotated[float, typer.Option(min=1, max=3600, help="length of the windows before it")] = 20.0,
    ramp: Annotated[
        float | None, typer.Option(min=0, max=3600, help="place all calls within so many seconds, without steps")
    ] = None,
    short_calls: Annotated[
        str | None,
        typer.Option(metavar="RATE:SECONDS[:HOLD]", help="many short calls at the end, such as 30:60"),
    ] = None,
    age: Annotated[float, typer.Option(min=0, max=86_400, help="age of the calls when memory is measured, s")] = 120.0,
    upstream_ms: Annotated[int, typer.Option(help="caller audio per message to the model: 20, 40, 60, 100 ms")] = 20,
    canary: Annotated[float, typer.Option(help="how long the canary speaks, 5 s or more; 0: no canary")] = 12.0,
    idle: Annotated[float, typer.Option(min=0, max=3600, help="how long idle workers are measured, s")] = 10.0,
    floor: Annotated[bool, typer.Option("--floor/--no-floor", help="measure the least that the calls can cost")] = True,
    routes: Annotated[bool, typer.Option("--routes/--no-routes", help="measure what finding a route costs")] = True,
    out: Annotated[Path, typer.Option(help="where the figures go; picture and log go beside it")] = Path(
        "out/bench.json"
    ),
) -> None:
    """Measure CPU, memory and latency of many calls on this machine. Needs no API key; nothing leaves the machine."""
    if upstream_ms not in (20, 40, 60, 100):
        raise ConfigError(f"--upstream-ms {upstream_ms}: give 20, 40, 60 or 100")
    if 0 < canary < 5:
        raise ConfigError(f"--canary {canary:g}: too short to find its voice again; give 5 or more, or 0")
    plan = BenchPlan(
        calls=_calls(calls),
        is_search=calls == "max",
        seconds=seconds,
        step_seconds=step_seconds,
        ramp_s=ramp,
        short=None if short_calls is None else ShortCallsPlan.parse(short_calls),
        age_s=age,
        uplink_ms=upstream_ms,
        canary_s=canary,
        idle_s=idle,
        has_floor=floor,
        command=shlex.join(["gateway", *sys.argv[1:]]),
    )
    _measure(plan, out, routes=routes)


def _calls(text: str) -> int:
    """Return how many calls are asked for; of a search, how many are looked for."""
    if text == "max":
        return _MOST_PER_CORE * cores()
    if not text.isdecimal() or int(text) > _MOST:
        raise ConfigError(f"--calls {text}: give a number up to {_MOST}, or max")
    return int(text)


def _measure(plan: BenchPlan, out: Path, *, routes: bool) -> None:
    try:
        result = uvloop.run(_run(plan))
    except (KeyboardInterrupt, asyncio.CancelledError):
        fail("stopped; everything the bench had started is stopped too")
        raise typer.Exit(_STOPPED) from None
    found = measure_routes() if routes else None
    _write(out, result, found)
    _show(result, found)
    say(f"figures: {out}, picture: {out.with_suffix('.png')}, the gateway's log: {out.with_suffix('.log')}")
    say(f"again: {result.command}")
    raise typer.Exit(1 if result.errors else 0)


async def _run(plan: BenchPlan) -> BenchResult:
    task = asyncio.current_task()
    if task is not None:
        # A SIGTERM ends the bench as Ctrl-C does: through every ``finally``.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run_bench(plan, say)


def _write(out: Path, result: BenchResult, routes: RoutesResult | None) -> None:
    figures = {**result.to_json(), **(routes.to_json() if routes is not None else {})}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.with_suffix(".log").write_text(result.log + "\n", encoding="utf-8")
        out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{out}: {error.strerror or error}; give a path that can be written") from None
    draw_bench(out.with_suffix(".png"), result)


def _show(result: BenchResult, routes: RoutesResult | None) -> None:
    full = result.full
    title = f"{full.calls} calls of G.711 with speech both ways, {full.seconds:.0f} s, {result.uplink_ms} ms per append"
    table(title, ("", "gateway", "floor", ""), result.rows())
    if len(result.steps) > 1:
        rows = (
            (str(each.calls), f"{each.cpu_per_call:.2f}", f"{each.interval_p99_ms:.1f}", f"{each.interval_max_ms:.1f}")
            for each in result.steps
        )
        table("By the number of calls", ("calls", "CPU per call, %", "RTP interval 99 %, ms", "longest, ms"), rows)
    if result.short is not None:
        table("Short calls", ("", ""), short_rows(result.short))
    if routes is not None:
        table(f"Finding one of {routes.routes} routes", ("", "", ""), routes.rows())
    table("Measured on", ("", ""), result.machine.items())
    if result.gave_first:
        say(f"most calls that this machine took: {full.calls}; what gave first with more: {result.gave_first}")
    for note in result.notes:
        say(f"note: {note}")
    for error in result.errors:
        fail(f"error: {error}")
