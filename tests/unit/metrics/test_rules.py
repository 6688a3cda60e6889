"""The alerts and the dashboard name metrics that exist, and each alert goes off when it should and not before."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.generate.dashboard import dashboard
from docs.generate.metrics import RULES, alerts
from gateway.metrics import definitions as of
from tests.rigs.prometheus import FILES, promtool

pytestmark = pytest.mark.unit

DASHBOARD = FILES.parent / "grafana" / "gateway.json"
OF_PROMETHEUS = {"up"}
PER_MINUTE = {  # alert -> figures that set it off, as (series, first value, growth per minute)
    "GatewayWebDown": [('up{job="gateway"}', 0, 0)],
    "GatewayRedisAway": [("gateway_redis_up", 0, 0)],
    "GatewayNoWorkerReady": [('gateway_workers{state="ready"}', 0, 0), ('gateway_workers{state="draining"}', 2, 0)],
    "GatewayWorkerDied": [
        ('gateway_calls_ended_total{end_reason="worker_lost",fault="gateway",direction="inbound"}', 0, 1)
    ],
    "GatewayAlmostFull": [
        ('gateway_worker_calls{state="ready"}', 10, 0),
        ('gateway_worker_capacity_calls{state="ready"}', 12, 0),
    ],
    "GatewayCallsFail": [
        ('gateway_calls_ended_total{end_reason="sip_error",fault="gateway",direction="inbound"}', 0, 1),
        ('gateway_calls_ended_total{end_reason="caller_hung_up",fault="nobody",direction="inbound"}', 0, 9),
    ],
    "GatewayUpstreamAway": [('gateway_upstream_workers{model="gpt-realtime",state="away"}', 1, 0)],
    "GatewayKeyRefused": [('gateway_upstream_errors_total{code="invalid_api_key"}', 0, 1)],
    "GatewayUpstreamErrors": [
        ('gateway_upstream_errors_total{code="server_error"}', 0, 3),
        ('gateway_calls_started_total{direction="inbound"}', 0, 10),
    ],
    "GatewaySessionsFull": [('gateway_upstream_sessions_full_total{then="none"}', 0, 1)],
    "GatewaySlowTurns": [
        ('gateway_turn_latency_seconds_bucket{le="2"}', 0, 80),
        ('gateway_turn_latency_seconds_bucket{le="5"}', 0, 100),
        ('gateway_turn_latency_seconds_bucket{le="+Inf"}', 0, 100),
    ],
    "GatewaySlowSetup": [
        ('gateway_call_setup_seconds_bucket{direction="inbound",le="5"}', 0, 80),
        ('gateway_call_setup_seconds_bucket{direction="inbound",le="8"}', 0, 100),
        ('gateway_call_setup_seconds_bucket{direction="inbound",le="+Inf"}', 0, 100),
    ],
    "GatewayAnswersMissing": [
        ('gateway_answers_missing_total{why="stalled"}', 0, 1),
        ("gateway_turn_latency_seconds_count", 0, 10),
    ],
    "GatewayBadAudio": [
        ('gateway_rtp_lost_packets_total{way="received"}', 0, 200),
        ('gateway_rtp_packets_total{way="received"}', 0, 3000),
    ],
    "GatewayTrunkFailed": [('gateway_trunk_workers{trunk="main",state="failed"}', 1, 0)],
    "GatewayDialplanRefused": [('gateway_dialplan_workers{state="refused"}', 1, 0)],
    "GatewayDialplansDiffer": [("gateway_dialplan_versions", 2, 0)],
    "GatewayJournalSlow": [
        ('gateway_journal_lag_seconds_bucket{le="2"}', 0, 80),
        ('gateway_journal_lag_seconds_bucket{le="5"}', 0, 100),
        ('gateway_journal_lag_seconds_bucket{le="+Inf"}', 0, 100),
    ],
    "GatewayJournalDropped": [("gateway_journal_dropped_entries_total", 0, 5)],
    "GatewayToolsFail": [
        ('gateway_tool_calls_total{result="failed"}', 0, 3),
        ('gateway_tool_calls_total{result="ok"}', 0, 7),
    ],
    "GatewayWebhooksGivenUp": [('gateway_webhooks_total{result="given_up"}', 0, 1)],
    "GatewayCostHigh": [("gateway_cost_dollars_total", 0, 1)],
    "GatewayModelShutsDown": [('gateway_model_shutdown_timestamp_seconds{model="gpt-realtime"}', 20 * 86400, 0)],
}
QUIET = [  # figures of a day on which none may go off
    ('up{job="gateway"}', 1, 0),
    ("gateway_redis_up", 1, 0),
    ('gateway_workers{state="ready"}', 3, 0),
    ('gateway_worker_calls{state="ready"}', 6, 0),
    ('gateway_worker_capacity_calls{state="ready"}', 12, 0),
    ('gateway_calls_started_total{direction="inbound"}', 0, 60),
    ('gateway_calls_ended_total{end_reason="caller_hung_up",fault="nobody",direction="inbound"}', 0, 60),
    ('gateway_calls_ended_total{end_reason="sip_error",fault="gateway",direction="inbound"}', 0, 1),
    ('gateway_calls_ended_total{end_reason="worker_lost",fault="gateway",direction="inbound"}', 7, 0),
    ('gateway_upstream_workers{model="gpt-realtime",state="away"}', 0, 0),
    ('gateway_upstream_workers{model="gpt-realtime",state="back"}', 3, 0),
    ('gateway_upstream_errors_total{code="server_error"}', 0, 2),
    ('gateway_upstream_errors_total{code="invalid_api_key"}', 4, 0),
    ('gateway_upstream_sessions_full_total{then="none"}', 5, 0),
    ('gateway_upstream_sessions_full_total{then="another_model"}', 0, 9),
    ('gateway_turn_latency_seconds_bucket{le="0.8"}', 0, 300),
    ('gateway_turn_latency_seconds_bucket{le="+Inf"}', 0, 310),
    ("gateway_turn_latency_seconds_count", 0, 310),
    ('gateway_call_setup_seconds_bucket{direction="inbound",le="1"}', 0, 60),
    ('gateway_call_setup_seconds_bucket{direction="inbound",le="+Inf"}', 0, 60),
    ('gateway_answers_missing_total{why="stalled"}', 0, 1),
    ('gateway_rtp_lost_packets_total{way="received"}', 0, 20),
    ('gateway_rtp_packets_total{way="received"}', 0, 3000),
    ('gateway_trunk_workers{trunk="main",state="failed"}', 0, 0),
    ('gateway_trunk_workers{trunk="main",state="registered"}', 1, 0),
    ('gateway_dialplan_workers{state="refused"}', 0, 0),
    ("gateway_dialplan_versions", 1, 0),
    ('gateway_journal_lag_seconds_bucket{le="0.01"}', 0, 100),
    ('gateway_journal_lag_seconds_bucket{le="+Inf"}', 0, 100),
    ("gateway_journal_dropped_entries_total", 9, 0),
    ('gateway_tool_calls_total{result="failed"}', 0, 1),
    ('gateway_tool_calls_total{result="ok"}', 0, 30),
    ('gateway_webhooks_total{result="given_up"}', 3, 0),
    ("gateway_cost_dollars_total", 0, 0.5),
    ('gateway_model_shutdown_timestamp_seconds{model="gpt-realtime"}', 60 * 86400, 0),
]


def rules_test(folder: Path, figures: Sequence[tuple[str, float, float]], fires: str = "") -> str:
    """Run the rules over an hour of figures; ``fires`` must be on then, and without one none may be."""
    found = []
    for rule in alerts():
        name = rule["alert"]
        expected = {"eval_time": "59m", "alertname": name}
        if name == fires:
            labels = dict(
                re.findall(
                    r'(model|trunk|code|state|job|then|end_reason|fault|direction|result)="([^"]*)"', figures[0][0]
                )
            )
            expected["exp_alerts"] = [{"exp_labels": labels_of(rule, labels), "exp_annotations": rule["annotations"]}]
        if not fires or name == fires:
            found.append(expected)
    series = [{"series": name, "values": f"{first}+{growth}x60"} for name, first, growth in figures]
    tests = [{"interval": "1m", "input_series": series, "alert_rule_test": found}]
    path = folder / "test.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": tests}), encoding="utf-8")
    return promtool("test", "rules", str(path))


def labels_of(rule: dict[str, Any], series: dict[str, str]) -> dict[str, str]:
    """Return the labels of an alert: those of the series, unless its expression adds them up, and the rule's own."""
    summed = re.match(r"\s*(?:sum|histogram_quantile)(?: by \((\w+)\))?", rule["expr"])
    kept = {name: value for name, value in series.items() if not summed or name == summed[1]}
    return {**kept, **rule["labels"]}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_goes_off(rule: dict[str, Any], tmp_path: Path) -> None:
    assert "SUCCESS" in rules_test(tmp_path, PER_MINUTE[rule["alert"]], fires=rule["alert"])


def test_no_alert_goes_off_on_a_quiet_day(tmp_path: Path) -> None:
    assert "SUCCESS" in rules_test(tmp_path, QUIET)


def test_a_quiet_day_has_every_metric_that_an_alert_asks_for() -> None:
    given = {re.split(r"[{ ]", series)[0] for series, _, _ in QUIET}
    for rule in alerts():
        assert set(names_in(rule["expr"])) <= given, rule["alert"]


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    notes = rule["annotations"]
    assert notes["summary"].endswith(".")
    assert len(notes["runbook"]) > 20
    assert rule["labels"]["severity"] in ("critical", "warning")


def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    assert f"{len(alerts())} rules found" in promtool("check", "rules", str(RULES))
    assert "SUCCESS" in promtool("check", "config", "--syntax-only", str(FILES / "prometheus.yml"))


def names_in(expression: str) -> Iterator[str]:
    """Give the metrics that an expression names."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"\b(?:by|without|on|ignoring|group_left)\s*\([^)]*\)|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\{[^}]*\}", "", bare)
    words = set(re.findall(r"[a-z_][a-z0-9_]*(?!\w|\s*\()", bare))
    yield from sorted(words - {"and", "or", "unless", "offset", "bool", "m", "s", "h", "d"})


def family(name: str) -> str:
    """Return the metric that a series belongs to."""
    return re.sub(r"_(bucket|sum|count)$", "", name) if name not in of.BY_NAME else name


def expressions() -> list[str]:
    """Return every expression of the rules and the dashboard."""
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    targets = (target for panel in board["panels"] for target in panel.get("targets", ()))
    return [*(rule["expr"] for rule in alerts()), *(target["expr"] for target in targets)]


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_that_is_named_exists(expression: str) -> None:
    names = [*names_in(expression)]
    assert names
    for name in names:
        known = family(name) in of.BY_NAME or name in OF_PROMETHEUS or name.startswith("process_")
        assert known, f"{name} in {expression}"


@pytest.mark.parametrize("expression", expressions())
def test_every_label_that_is_named_exists_with_that_value(expression: str) -> None:
    for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", expression):
        metric = of.BY_NAME.get(family(name))
        for label_name, operator, value in re.findall(r'(\w+)(=~|!~|=|!=)"([^"]*)"', matchers):
            if metric is None or value.startswith("$"):
                continue
            (label,) = [label for label in metric.labels if label.name == label_name] or [of.Label("le")]
            for each in value.split("|") if "~" in operator else [value]:
                assert not label.values or each in label.values, f"{label_name}={each} in {expression}"


def test_the_dashboard_is_what_its_table_prints() -> None:
    stale = "stale: python -m docs.generate.dashboard > docker/grafana/gateway.json"
    assert json.loads(DASHBOARD.read_text(encoding="utf-8")) == dashboard(), stale


def test_every_metric_is_on_the_dashboard_or_in_an_alert() -> None:
    named = {family(name) for expression in expressions() for name in names_in(expression)}
    assert {*of.BY_NAME} - named == {"gateway_build_info", "gateway_redis_outages_total"}


def test_panels_do_not_cover_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
