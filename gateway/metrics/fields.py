"""
Counters and histograms as fields of a hash in Redis, and back. Pure.

A field is the metric's name and the values of its labels, percent-encoded, with blanks between; a histogram has one
for each bucket (``le=0.5``, or ``le=+Inf``; each observation is in one bucket alone) and one for the sum::

    gateway_calls_ended_total caller_hung_up caller inbound     12
    gateway_cost_dollars_total                                  431200      millionths
    gateway_turn_latency_seconds le=0.8                         31
    gateway_turn_latency_seconds sum                            21730000    millionths

Bounds of buckets are part of the field, so that figures of a version with other buckets are not taken for these; they
are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from gateway.metrics.definitions import BY_NAME, MICRO, Metric, MetricType

SUM = "sum"
INFINITE = "+Inf"

Increments = dict[str, int]
"""What is added to the hash: field -> a whole number."""


def added(metric: Metric, *values: str, amount: float = 1) -> Increments:
    """
    Return what adding to a counter adds to the hash.

    Args:
        metric: a counter.
        values: of its labels, in their order; what a label does not list becomes ``other``.
        amount: in the unit of the metric's name; fractions only where the metric is ``micro``.
    """
    return {_field(metric, values): round(amount * MICRO) if metric.micro else round(amount)}


def observed(metric: Metric, value: float, *values: str) -> Increments:
    """Return what an observation, in the unit of the histogram's name, adds to the hash."""
    bound = next((bound for bound in metric.buckets if value <= bound), None)
    name = _field(metric, values)
    return {f"{name} le={_bound(bound)}": 1, f"{name} {SUM}": round(value * MICRO)}


@dataclass(slots=True)
class Figures:
    """
    What a hash says of one metric.

    Attributes:
        counted: values of the labels -> the counter, in the unit of its name.
        buckets: values of the labels -> upper bound (``+Inf`` for the last) -> observations up to that bound, all
            bounds, in their order.
        sums: values of the labels -> sum of all observations.
    """

    counted: dict[tuple[str, ...], float] = field(default_factory=dict)
    buckets: dict[tuple[str, ...], dict[str, int]] = field(default_factory=dict)
    sums: dict[tuple[str, ...], float] = field(default_factory=dict)


def no_observations(metric: Metric) -> dict[str, int]:
    """Return the buckets of a histogram that nothing was observed of."""
    return dict.fromkeys((*(_bound(bound) for bound in metric.buckets), INFINITE), 0)


def figures_of(flat: Mapping[str, str]) -> dict[Metric, Figures]:
    """Return what the hash says of each metric that is in it; unknown or malformed fields are left out."""
    found: dict[Metric, Figures] = {}
    for name, text in flat.items():
        words = name.split(" ")
        metric, number = BY_NAME.get(words[0]), _number(text)
        if metric is None or number is None:
            continue
        count = len(metric.labels)
        values, rest = tuple(unquote(word) for word in words[1 : count + 1]), words[count + 1 :]
        if len(values) < count:
            continue
        figures = found.setdefault(metric, Figures())
        if metric.type is MetricType.COUNTER and not rest:
            figures.counted[values] = number / MICRO if metric.micro else float(number)
        elif metric.type is MetricType.HISTOGRAM and len(rest) == 1:
            _take_part(metric, figures, values, rest[0], number)
    for figures in found.values():
        for counts in figures.buckets.values():
            _accumulate(counts)
    return found


def _take_part(metric: Metric, figures: Figures, values: tuple[str, ...], part: str, number: int) -> None:
    if part == SUM:
        figures.sums[values] = number / MICRO
        return
    bound, none = part.removeprefix("le="), no_observations(metric)
    if bound in none:
        figures.buckets.setdefault(values, none)[bound] += number


def _accumulate(counts: dict[str, int]) -> None:
    """Turn observations in each bucket into those up to its bound, as Prometheus wants them."""
    total = 0
    for bound in counts:
        total += counts[bound]
        counts[bound] = total


def _field(metric: Metric, values: tuple[str, ...]) -> str:
    if len(values) != len(metric.labels):
        raise ValueError(f"{metric.name} has the labels {metric.label_names}, not {values}")
    known = (label.known(value) for label, value in zip(metric.labels, values, strict=True))
    return " ".join((metric.name, *(quote(value, safe="") for value in known)))


def _bound(bound: float | None) -> str:
    return INFINITE if bound is None else f"{bound:g}"


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
