"""A picture of a run: CPU per call, and how even the audio was, over the number of calls."""

from __future__ import annotations

from pathlib import Path

from gateway.errors import ConfigError
from gateway.lab.bench.results import BenchResult
from gateway.lab.figures.picture import MISSING

_DPI, _SIZE_IN = 130, (9.0, 4.2)
_INK, _FAINT, _GRID = "#22303c", "#7b8794", "#e4e7eb"
_CPU, _FLOOR, _INTERVAL = "#2b6cb0", "#7b8794", "#c05621"
_PTIME_MS = 20


def draw_bench(path: Path, result: BenchResult) -> None:
    """
    Draw a run and write the picture as PNG; missing directories are made.

    Raises:
        ConfigError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError(MISSING) from None
    figure = Figure(figsize=_SIZE_IN, dpi=_DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)  # the figure's own canvas: nothing of pyplot, no display, no global state
    left, right = figure.subplots(1, 2)
    calls = [step.calls for step in result.steps]
    left.plot(calls, [step.cpu_per_call for step in result.steps], "o-", color=_CPU, label="gateway")
    if result.floor_per_call is not None:
        left.axhline(result.floor_per_call, color=_FLOOR, linestyle="--", label="floor: bridge only")
    left.set_title("CPU per call, % of one core", color=_INK)
    right.plot(calls, [step.interval_p99_ms for step in result.steps], "o-", color=_INTERVAL, label="99 %")
    right.plot(calls, [step.interval_max_ms for step in result.steps], "^:", color=_INTERVAL, label="longest")
    right.axhline(_PTIME_MS, color=_FLOOR, linestyle="--", label="as sent: 20 ms")
    right.set_title("RTP interval at the callers, ms", color=_INK)
    for axes in (left, right):
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.set_xlabel("calls", color=_FAINT)
        axes.grid(color=_GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=_FAINT)
        axes.legend(frameon=False)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; give a path that can be written") from None
