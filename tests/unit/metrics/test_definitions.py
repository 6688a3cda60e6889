"""The table of metrics keeps the rules of Prometheus, and is what the docs say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.generate.metrics import page
from gateway.call.outcome import EndReason
from gateway.metrics import definitions as of
from gateway.upstream.core.debts import Why

pytestmark = pytest.mark.unit

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_is_what_the_definitions_and_the_rules_print() -> None:
    stale = "stale: python -m docs.generate.metrics > docs/metrics.md"
    assert (DOCS / "metrics.md").read_text(encoding="utf-8") == page(), stale


def test_no_two_metrics_have_one_name() -> None:
    assert len(of.BY_NAME) == len(of.METRICS) > 30


@pytest.mark.parametrize("metric", of.METRICS, ids=lambda metric: metric.name)
def test_a_name_says_what_it_is_and_in_which_unit(metric: of.Metric) -> None:
    assert re.fullmatch(r"gateway_[a-z]+(_[a-z]+)*", metric.name)
    assert metric.name.endswith("_total") == (metric.type is of.MetricType.COUNTER)
    assert bool(metric.buckets) == (metric.type is of.MetricType.HISTOGRAM)
    assert [*metric.buckets] == sorted(set(metric.buckets))
    assert metric.help[0].isupper()
    assert metric.help.endswith(".")


@pytest.mark.parametrize("metric", of.METRICS, ids=lambda metric: metric.name)
def test_labels_are_bounded_and_none_is_a_call_a_number_or_a_process(metric: of.Metric) -> None:
    assert not {*metric.label_names} & {"call_id", "caller", "called", "number", "worker", "pid", "host", "le"}
    for label in metric.labels:
        assert label.values or label.meaning


def test_what_the_core_can_say_is_listed() -> None:
    assert {*of.END_REASON.values} == {*EndReason}
    assert {*of.WHY_MISSING.values} == {*Why}
