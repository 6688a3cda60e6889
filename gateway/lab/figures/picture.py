"""A picture of one call: what the caller and the agent said on one time axis, and what happened when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gateway.audio.pcm import BYTES_PER_SAMPLE
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MISSING = "drawing a call needs matplotlib, which is not installed: pip install 'sip-voice-gateway[lab]'"

_DPI = 130
_WIDTH_IN, _LEFT_IN, _RIGHT_IN = 12.0, 0.9, 0.2
_SIDE_IN, _BETWEEN_IN, _BOTTOM_IN, _TITLE_IN = 1.75, 0.16, 0.6, 0.62
_PLOT_PX = (_WIDTH_IN - _LEFT_IN - _RIGHT_IN) * _DPI
_LABEL_ROW_IN, _LABEL_FONT = 0.24, 9
_LABEL_GAP_PX, _LABEL_INDENT_PX = 12, 5
_COLUMNS = 2400  # of the waveforms: finer than a pixel
_INK, _FAINT, _GRID, _NO_AUDIO = "#22303c", "#7b8794", "#e4e7eb", "#f5f6f8"
_CALLER, _AGENT, _MARK = "#2b6cb0", "#c05621", "#4a5568"


@dataclass(frozen=True, slots=True)
class Mark:
    """
    Something that happened in the call.

    Attributes:
        at_s: seconds from the start of the audio; may be negative for what came before it (ring).
        label: a word or two.
    """

    at_s: float
    label: str


@dataclass(frozen=True, slots=True)
class _Label:
    """A mark's text and the room it takes right of its line, in pixels."""

    at_s: float
    text: str
    width_px: float


def draw_call(path: Path, rate_hz: int, caller: bytes, agent: bytes, marks: Sequence[Mark]) -> None:
    """
    Draw the two sides of a call and write the picture as PNG; missing directories are made.

    Args:
        path: the file; an older one is replaced.
        rate_hz: samples per second of both sides.
        caller: what the caller said: signed 16-bit little-endian mono PCM from the start of the audio.
        agent: the same for the agent; the two need not be as long.
        marks: what happened; any order, labels are placed so that none covers another.

    Raises:
        ConfigError: matplotlib is not installed, or the file cannot be written.
    """
    figure = _new_figure()
    length_s = max(len(caller), len(agent)) / BYTES_PER_SAMPLE / rate_hz
    labels = _measure_labels(figure, sorted(marks, key=lambda mark: mark.at_s))
    span = _time_span(length_s, labels)
    rows = _label_rows(labels, span)
    height_in = _BOTTOM_IN + 2 * _SIDE_IN + _BETWEEN_IN + max(rows, default=0) * _LABEL_ROW_IN + _TITLE_IN + 0.25
    figure.set_size_inches(_WIDTH_IN, height_in)
    below = _add_side(figure, _BOTTOM_IN, "agent", _AGENT)
    above = _add_side(figure, _BOTTOM_IN + _SIDE_IN + _BETWEEN_IN, "caller", _CALLER)
    for axes, pcm, colour in ((above, caller, _CALLER), (below, agent, _AGENT)):
        axes.set_xlim(*span)
        axes.axvspan(span[0], 0, color=_NO_AUDIO, zorder=0)
        axes.axvspan(length_s, span[1], color=_NO_AUDIO, zorder=0)
        _draw_waveform(axes, _samples(pcm), rate_hz, colour)
    above.tick_params(axis="x", length=0, labelbottom=False)
    below.set_xlabel("seconds", color=_FAINT)
    for label, row in zip(labels, rows, strict=True):
        _draw_mark(above, below, label, row)
    title_at = (_LEFT_IN / _WIDTH_IN, 1 - 0.4 / height_in)
    figure.text(*title_at, _title(length_s), color=_INK, fontsize=13, weight="bold")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; give a path that can be written") from None


def _new_figure() -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError(MISSING) from None
    figure = Figure(dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)  # the figure's own canvas: nothing of pyplot, no display, no global state
    return figure


def _measure_labels(figure: Figure, marks: Sequence[Mark]) -> list[_Label]:
    renderer: Any = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    labels = []
    for mark in marks:
        text = figure.text(0, 0, mark.label, fontsize=_LABEL_FONT)
        width_px = text.get_window_extent(renderer).width if mark.label else 0.0
        labels.append(_Label(mark.at_s, mark.label, width_px + _LABEL_INDENT_PX))
        text.remove()
    return labels


def _time_span(length_s: float, labels: Sequence[_Label]) -> tuple[float, float]:
    """Return what the time axis shows: all audio, all marks, and room for the labels right of their marks."""
    times = [0.0, max(length_s, 1.0), *(label.at_s for label in labels)]
    margin = max(0.01 * (max(times) - min(times)), 0.05)
    start = min(times) - margin
    ends = [
        start + (label.at_s - start) * _PLOT_PX / max(_PLOT_PX - label.width_px, 0.2 * _PLOT_PX) for label in labels
    ]
    return start, max(max(times) + margin, *ends, start)


def _label_rows(labels: Sequence[_Label], span: tuple[float, float]) -> list[int]:
    """
    Return the row above the waveforms for each label, so that none covers another or another's line.

    A label is one row above the highest of those whose lines begin under or beside it.
    """
    px_per_s = _PLOT_PX / (span[1] - span[0])
    placed: list[tuple[float, int]] = []  # from right to left
    for label in reversed(labels):
        left = label.at_s * px_per_s
        right = left + label.width_px + _LABEL_GAP_PX
        row = max((row + 1 for start, row in placed if start < right), default=0)
        placed.append((left, row))
    return [row for _, row in reversed(placed)]


def _title(length_s: float) -> str:
    minutes, seconds = divmod(round(length_s, 1), 60)
    return f"Call of {minutes:.0f} min {seconds:.1f} s" if minutes else f"Call of {seconds:.1f} s"


def _samples(pcm: bytes) -> NDArray[np.float64]:
    samples = np.frombuffer(pcm, "<i2", count=len(pcm) // BYTES_PER_SAMPLE)
    return samples.astype(np.float64) / 32768


def _envelope(
    audio: NDArray[np.float64], rate_hz: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return (seconds, lowest, highest) of short stretches: a drawing a pixel wide of any length of audio."""
    step = max(1, audio.size // _COLUMNS)
    columns = audio.size // step
    cut = audio[: columns * step].reshape(columns, step)
    return np.arange(columns) * step / rate_hz, cut.min(axis=1), cut.max(axis=1)


def _add_side(figure: Figure, bottom_in: float, name: str, colour: str) -> Axes:
    height_in = figure.get_figheight()
    width = (_WIDTH_IN - _LEFT_IN - _RIGHT_IN) / _WIDTH_IN
    axes = figure.add_axes((_LEFT_IN / _WIDTH_IN, bottom_in / height_in, width, _SIDE_IN / height_in))
    axes.set_yticks([])
    axes.set_ylabel(name, color=colour, fontsize=12, weight="bold", labelpad=10)
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_FAINT)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)
    return axes


def _draw_waveform(axes: Axes, audio: NDArray[np.float64], rate_hz: int, colour: str) -> None:
    loudest = 0.0
    if audio.size:
        seconds, lowest, highest = _envelope(audio, rate_hz)
        axes.fill_between(seconds, lowest, highest, color=colour, linewidth=0.6)
        loudest = float(np.abs(audio).max())
    reach = max(0.05, 1.12 * loudest)  # quiet voices are drawn larger, line noise is not
    axes.set_ylim(-reach, reach)


def _draw_mark(above: Axes, below: Axes, label: _Label, row: int) -> None:
    """Draw a line through both sides and up to its label, which is right of the line's upper end."""
    style: dict[str, Any] = {"color": _MARK, "linewidth": 0.9, "linestyle": (0, (4, 3)), "clip_on": False}
    at = (label.at_s, label.at_s)
    top = 1 + (row + 0.9) * _LABEL_ROW_IN / _SIDE_IN
    below.plot(at, (0, 1 + _BETWEEN_IN / _SIDE_IN), transform=below.get_xaxis_transform(), **style)
    above.plot(at, (0, top), transform=above.get_xaxis_transform(), **style)
    above.annotate(
        label.text,
        xy=(label.at_s, 1),
        xycoords=("data", "axes fraction"),
        xytext=(_LABEL_INDENT_PX * 72 / _DPI, (row + 0.28) * _LABEL_ROW_IN * 72),
        textcoords="offset points",
        va="bottom",
        fontsize=_LABEL_FONT,
        color=_INK,
    )
