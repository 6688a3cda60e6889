"""``python -m gateway.lab.bench``: measure a full worker, print a table, write the figures as JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gateway.errors import GatewayError
from gateway.lab.bench.routes import RoutesResult, measure_routes
from gateway.lab.bench.run import BenchResult, Figures, run_bench

_console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Run as a program; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m gateway.lab.bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each of the two windows")
    parser.add_argument("--calls", type=int, default=0, help="calls at once; 0 takes as many as a worker holds")
    parser.add_argument("--out", type=Path, default=Path("out/bench.json"), help="where the figures go")
    options = parser.parse_args()
    if options.seconds < 1 or options.calls < 0:
        parser.error("--seconds must be at least 1, --calls at least 0")
    try:
        result = asyncio.run(_run(options.seconds, options.calls))
    except GatewayError as error:
        Console(stderr=True, soft_wrap=True).print(str(error), style="red", markup=False)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        Console(stderr=True).print("stopped; everything the bench had started is stopped too")
        return 130
    options.out.parent.mkdir(parents=True, exist_ok=True)
    routes = measure_routes()
    figures = {**result.to_json(), **routes.to_json()}
    options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    _console.print(_table(result))
    _console.print(_routes_table(routes))
    _console.print(f"figures: {options.out}", markup=False)
    return 0


async def _run(seconds: float, calls: int) -> BenchResult:
    task = asyncio.current_task()
    if task is not None:
        # A SIGTERM ends the bench as Ctrl-C does: through every ``finally``.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run_bench(seconds=seconds, calls=calls, tell=lambda line: _console.print(line, markup=False))


def _table(result: BenchResult) -> Table:
    title = f"{result.gateway.calls} calls of G.711 with speech both ways, {result.seconds:g} s"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("")
    table.add_column("gateway", justify="right")
    table.add_column("bridge only", justify="right")
    table.add_column("")

    def row(name: str, value: str, unit: str) -> None:
        figures: tuple[Figures, ...] = (result.gateway, result.floor)
        table.add_row(name, *(value.format(each) for each in figures), unit)

    row("CPU per call", "{0.cpu_percent_per_call:.2f}", "% of one core")
    table.add_row("as a multiple of the bridge", f"{result.floor_ratio:.1f}", "1.0", "")
    row("memory (RSS)", "{0.rss_mb:.1f}", "MiB")
    first = result.to_json()["first_audio_ms"]
    table.add_row("first audio after the ACK, median", f"{first}", "", "ms")
    row("RTP interval, median", "{0.rtp_interval_p50_ms:.2f}", "ms")
    row("RTP interval, 99 %", "{0.rtp_interval_p99_ms:.2f}", "ms")
    row("RTP interval, longest", "{0.rtp_interval_max_ms:.2f}", "ms")
    row("RTP packets lost", "{0.rtp_lost}", "")
    row("packets with speech, least of the calls", "{0.speech_share:.0%}", "")
    return table


def _routes_table(result: RoutesResult) -> Table:
    table = Table(title=f"finding one of {result.routes} routes", title_justify="left", title_style="bold")
    for column in ("", "", ""):
        table.add_column(column, justify="right" if table.columns else "left")
    table.add_row("exact number", f"{result.exact_us:.1f}", "us")
    table.add_row("pattern or prefix", f"{result.pattern_us:.1f}", "us")
    table.add_row("no number fits", f"{result.default_us:.1f}", "us")
    table.add_row("1000 regular expressions tried in vain", f"{result.regex_us:.0f}", "us")
    table.add_row("loading the plan", f"{result.load_s:.2f}", "s")
    return table


if __name__ == "__main__":
    sys.exit(main())
