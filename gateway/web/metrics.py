"""
``/metrics``: every figure of ``gateway/metrics/definitions.py`` in the text formats of Prometheus.

A scrape reads Redis and nothing else: the hash in which all workers count, the live calls, the registry of workers, the
states of trunks, dialplans and services. So it does not matter which of several ``gateway web`` is asked, and workers
learn nothing of it. When Redis does not answer, the page says so (``gateway_redis_up 0``) and has what this process
knows of itself: an error would only tell Prometheus that it was down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from itertools import product
from typing import NamedTuple

import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder

from gateway.call.end_reasons import END_REASONS
from gateway.call.outcome import EndReason
from gateway.cost.model_life import ModelLife
from gateway.errors import StoreError
from gateway.metrics import definitions as of
from gateway.metrics.fields import Figures, figures_of, no_observations
from gateway.store.reader import CallReader
from gateway.store.record import CallRecord
from gateway.store.registry import RegisteredWorker, own_version

Labelled = Mapping[tuple[str, ...], float]
"""Values of the labels -> the gauge."""

_log = structlog.get_logger(__name__)


class MetricsPage(NamedTuple):
    """What a scrape gets."""

    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    What Redis says at one moment.

    Attributes:
        counted: the hash of counters and histograms.
        calls: the live ones.
        workers: the registry.
        trunks, dialplans, upstreams: the states that workers noted.
        models: until when those of the dialplan are offered.
        dead_letters: messages to webhooks that were given up.
    """

    counted: Mapping[str, str]
    calls: Iterable[CallRecord]
    workers: Iterable[RegisteredWorker]
    trunks: Iterable[Mapping[str, str]]
    dialplans: Iterable[Mapping[str, str]]
    upstreams: Iterable[Mapping[str, str]]
    models: Iterable[ModelLife]
    dead_letters: int


async def metrics_page(reader: CallReader, accept: str = "") -> MetricsPage:
    """
    Answer one scrape. Never raises because of Redis.

    Args:
        reader: what reads Redis.
        accept: the request's header ``Accept``: OpenMetrics where that is asked for, else the text format 0.0.4.
    """
    encode, content_type = choose_encoder(accept)
    try:
        snapshot: Snapshot | None = await read_snapshot(reader)
    except StoreError as error:
        _log.warning("metrics_without_redis", detail=str(error))
        snapshot = None
    return MetricsPage(encode(_Page(snapshot)), content_type)


async def read_snapshot(reader: CallReader) -> Snapshot:
    """Read everything that the metrics are made of. Raises ``StoreError``."""
    return Snapshot(
        counted=await reader.metrics(),
        calls=await reader.live_calls(),
        workers=await reader.workers(),
        trunks=await reader.trunks(),
        dialplans=await reader.dialplans(),
        upstreams=await reader.upstreams(),
        models=await reader.models(),
        dead_letters=await reader.dead_letters(),
    )


def families_of(snapshot: Snapshot | None) -> Iterator[Family]:
    """Give the metrics; None is a Redis that does not answer."""
    yield _gauge(of.BUILD, {(own_version(),): 1})
    yield _gauge(of.REDIS_UP, {(): float(snapshot is not None)})
    if snapshot is None:
        return
    counted = figures_of(snapshot.counted)
    for metric in of.METRICS:
        if metric.type is of.MetricType.COUNTER:
            yield _counter(metric, counted.get(metric, Figures()))
        elif metric.type is of.MetricType.HISTOGRAM:
            yield _histogram(metric, counted.get(metric, Figures()))
    yield from _gauges(snapshot)


def _gauges(snapshot: Snapshot) -> Iterator[Family]:
    calls: Counter[tuple[str, ...]] = Counter(dict.fromkeys(_expected(of.LIVE_CALLS), 0))
    calls.update(
        (of.PHASE.known(call.state or ""), of.DIRECTION.known(call.direction or "")) for call in snapshot.calls
    )
    yield _gauge(of.LIVE_CALLS, calls)
    none: dict[tuple[str, ...], int] = {(state,): 0 for state in of.WORKER_STATE.values}
    workers, live, capacity = Counter(none), Counter(none), Counter(none)
    for condition in (worker.condition for worker in snapshot.workers):
        if condition.state != "ended":
            state = (condition.state,)
            workers[state] += 1
            live[state] += condition.live_calls
            capacity[state] += condition.capacity
    yield _gauge(of.WEBHOOKS_DEAD, {(): snapshot.dead_letters})
    yield _gauge(of.WORKERS, workers)
    yield _gauge(of.WORKER_CALLS, live)
    yield _gauge(of.WORKER_CAPACITY, capacity)
    yield _gauge(of.TRUNK_STATES, _states(snapshot.trunks, "trunk", of.TRUNK_STATE))
    plans = list(snapshot.dialplans)
    refused = sum(plan.get("state") == "refused" for plan in plans)
    yield _gauge(of.PLAN_STATES, {("current",): len(plans) - refused, ("refused",): refused})
    yield _gauge(of.PLAN_VERSIONS, {(): len({plan.get("version") for plan in plans})})
    yield _gauge(of.UPSTREAM_STATES, _states(snapshot.upstreams, "upstream", of.UPSTREAM_STATE))
    dated = ((life.model, life.shutdown_date) for life in snapshot.models)
    yield _gauge(of.MODEL_SHUTDOWN, {(model,): _midnight(day) for model, day in dated if day is not None})


def _midnight(day: date) -> float:
    """Return when a day begins in UTC, Unix seconds."""
    return datetime.combine(day, time(), UTC).timestamp()


def _states(states: Iterable[Mapping[str, str]], name: str, label: of.Label) -> Labelled:
    """Return how many workers say which state of what; every state that can be is there, so that its end is seen."""
    found: Counter[tuple[str, ...]] = Counter()
    for state in states:
        found.update({(state.get(name, ""), each): 0 for each in label.values})
        found[state.get(name, ""), label.known(state.get("state", ""))] += 1
    return found


def _gauge(metric: of.Metric, values: Labelled) -> Family:
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.label_names)
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
    return family


def _counter(metric: of.Metric, figures: Figures) -> Family:
    family = CounterMetricFamily(metric.name.removesuffix("_total"), metric.help, labels=metric.label_names)
    for labels, value in sorted((dict.fromkeys(_expected(metric), 0.0) | figures.counted).items()):
        family.add_metric(labels, value)
    return family


def _histogram(metric: of.Metric, figures: Figures) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.label_names)
    none = dict.fromkeys(_expected(metric), no_observations(metric))
    for labels, buckets in sorted((none | figures.buckets).items()):
        family.add_metric(labels, [*buckets.items()], figures.sums.get(labels, 0.0))
    return family


def _expected(metric: of.Metric) -> Iterator[tuple[str, ...]]:
    """
    Give the labels that a counter or histogram has from the start, so that ``rate()`` sees its first increase.

    They are all that there can be. Of the ends of calls, each reason is given with the fault that it usually has.
    """
    values = [label.values for label in metric.labels]
    if metric is of.CALLS_ENDED:
        for reason, direction in product(EndReason, of.DIRECTION.values):
            yield reason, END_REASONS[reason].fault, direction
    elif all(values):
        yield from product(*values)


class _Page:
    """What an encoder of prometheus_client asks."""

    def __init__(self, snapshot: Snapshot | None) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Family]:
        yield from families_of(self._snapshot)
        yield from _OF_THIS_PROCESS.collect()


_OF_THIS_PROCESS = CollectorRegistry()
for _collector in (ProcessCollector, PlatformCollector, GCCollector):
    _collector(registry=_OF_THIS_PROCESS)
