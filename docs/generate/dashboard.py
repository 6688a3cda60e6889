"""
Prints the dashboard for Grafana, ``docker/grafana/gateway.json``: ``python -m docs.generate.dashboard``.

A table of rows and panels; places, ids and the rest of the format are worked out. Grafana 10 and newer read it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

WINDOW = "$__rate_interval"
COLUMNS = 24
HEIGHT = {"stat": 4, "timeseries": 8, "table": 8}
SOURCE = {"type": "prometheus", "uid": "${source}"}
STACKED = {"stacking": {"mode": "normal"}, "fillOpacity": 40}


@dataclass(frozen=True, slots=True)
class Panel:
    """
    One panel.

    Attributes:
        title: of the panel.
        queries: expression -> what a series is called, in Grafana's templates.
        unit: Grafana's name of the unit.
        kind: ``stat`` shows the newest value, ``timeseries`` lines.
        width: of 24 columns.
        stacked: the lines add up.
        bad: the value from which on it is red; None never is.
    """

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    stacked: bool = False
    bad: float | None = None


def _stat(title: str, query: str, unit: str = "short", bad: float | None = None) -> Panel:
    return Panel(title, {query: ""}, unit, "stat", 4, bad=bad)


def _quantiles(title: str, histogram: str) -> Panel:
    rates = f"sum by (le) (rate({histogram}_bucket[{WINDOW}]))"
    return Panel(title, {f"histogram_quantile({each}, {rates})": f"p{each * 100:g}" for each in (0.5, 0.9, 0.99)}, "s")


def _rate(counter: str, by: str, matchers: str = "") -> str:
    return f"sum by ({by}) (rate({counter}{matchers}[{WINDOW}]))"


def _minute(counter: str, by: str = "", matchers: str = "") -> str:
    grouped = f"sum by ({by})" if by else "sum"
    return f"60 * {grouped} (rate({counter}{matchers}[{WINDOW}]))"


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Now",
        (
            _stat("Live calls", "sum(gateway_live_calls) or vector(0)"),
            _stat(
                "Capacity taken",
                'sum(gateway_worker_calls) / sum(gateway_worker_capacity_calls{state=~"ready|overloaded"})',
                "percentunit",
                bad=0.8,
            ),
            _stat("Workers ready", 'sum(gateway_workers{state="ready"})'),
            _stat("Trunks failed", 'sum(gateway_trunk_workers{state="failed"}) or vector(0)', bad=1),
            _stat("Services away", 'sum(gateway_upstream_workers{state="away"}) or vector(0)', bad=1),
            _stat("Cost today", "sum(increase(gateway_cost_dollars_total[24h]))", "currencyUSD"),
        ),
    ),
    (
        "Calls",
        (
            Panel("Live calls by state", {"sum by (state) (gateway_live_calls)": "{{state}}"}, stacked=True),
            Panel(
                "Calls begun and answered, per minute",
                {
                    _minute("gateway_calls_started_total", "direction"): "{{direction}} begun",
                    _minute("gateway_calls_answered_total", "direction"): "{{direction}} answered",
                },
            ),
            Panel(
                "Ends by reason, per minute",
                {_minute("gateway_calls_ended_total", "end_reason"): "{{end_reason}}"},
                stacked=True,
            ),
            Panel(
                "Ends by fault, per minute",
                {_minute("gateway_calls_ended_total", "fault", '{fault!="nobody"}'): "{{fault}}"},
                stacked=True,
            ),
            _quantiles("Set-up: INVITE to answer", "gateway_call_setup_seconds"),
            _quantiles("Length of answered calls", "gateway_call_talk_seconds"),
        ),
    ),
    (
        "Conversation",
        (
            _quantiles("First audio after the answer", "gateway_call_first_audio_seconds"),
            _quantiles("Turn latency", "gateway_turn_latency_seconds"),
            _quantiles("Interruption: until the agent is silent", "gateway_interruption_seconds"),
            Panel("Turns without an answer, per minute", {_minute("gateway_answers_missing_total", "why"): "{{why}}"}),
            Panel(
                "Tools and transfers, per minute",
                {
                    _minute("gateway_tool_calls_total", "result"): "tools {{result}}",
                    _minute("gateway_transfers_asked_total"): "transfers",
                },
            ),
            _quantiles("Tools: how long they take", "gateway_tool_seconds"),
        ),
    ),
    (
        "Audio",
        (
            Panel(
                "RTP packets lost",
                {
                    "sum by (way) (rate(gateway_rtp_lost_packets_total[$__rate_interval]))"
                    " / sum by (way) (rate(gateway_rtp_packets_total[$__rate_interval]))": "{{way}}"
                },
                "percentunit",
            ),
            Panel("Frames late, per minute", {_minute("gateway_late_frames_total"): "late"}),
            Panel("Under-runs, frames per minute", {_minute("gateway_underrun_frames_total"): "under-runs"}),
        ),
    ),
    (
        "Voice model",
        (
            Panel("Errors, per minute", {_minute("gateway_upstream_errors_total", "code"): "{{code}}"}),
            Panel(
                "Sessions opened and lost, per minute",
                {
                    _minute("gateway_upstream_sessions_total"): "opened",
                    _minute("gateway_upstream_sessions_ended_total", "by"): "ended by {{by}}",
                    _minute("gateway_upstream_sessions_full_total", "then"): "none free, then {{then}}",
                },
            ),
            Panel(
                "Services away, as workers see it",
                {'sum by (model) (gateway_upstream_workers{state="away"})': "{{model}}"},
            ),
            Panel("Tokens, per second", {_rate("gateway_upstream_tokens_total", "kind"): "{{kind}}"}, stacked=True),
            Panel(
                "Cost per hour", {f"3600 * sum(rate(gateway_cost_dollars_total[{WINDOW}]))": "dollars"}, "currencyUSD"
            ),
            Panel(
                "Days until a model is shut down",
                {"(gateway_model_shutdown_timestamp_seconds - time()) / 86400": "{{model}}"},
                "d",
            ),
        ),
    ),
    (
        "Workers, trunks, dialplans, Redis",
        (
            Panel("Workers by state", {"sum by (state) (gateway_workers)": "{{state}}"}, stacked=True),
            Panel(
                "Calls and capacity",
                {"sum(gateway_worker_calls)": "calls", "sum(gateway_worker_capacity_calls)": "capacity"},
            ),
            Panel("Trunks by state", {"sum by (trunk, state) (gateway_trunk_workers) > 0": "{{trunk}} {{state}}"}),
            Panel(
                "Dialplans",
                {
                    "sum by (state) (gateway_dialplan_workers)": "{{state}}",
                    "max(gateway_dialplan_versions)": "versions in force",
                },
            ),
            _quantiles("Journal lag: until an event is in Redis", "gateway_journal_lag_seconds"),
            Panel(
                "Redis away, events dropped, per minute",
                {
                    _minute("gateway_redis_away_seconds_total"): "seconds away",
                    _minute("gateway_journal_dropped_entries_total"): "dropped",
                },
            ),
            Panel("Webhooks, per minute", {_minute("gateway_webhooks_total", "result"): "{{result}}"}),
            Panel(
                "Dead letters of webhooks",
                {"max(gateway_webhook_dead_entries)": "dead letters"},
            ),
            Panel("Memory of gateway web", {"process_resident_memory_bytes": "{{instance}}"}, "bytes"),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana reads it."""
    return {
        "uid": "sip-voice-gateway",
        "title": "SIP voice gateway",
        "tags": ["sip", "voice"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "panels": _placed(),
    }


def _placed() -> list[dict[str, Any]]:
    """Return rows and panels with their ids and places, from left to right and from top to bottom."""
    placed: list[dict[str, Any]] = []
    top = 0
    for title, panels in ROWS:
        place = {"h": 1, "w": COLUMNS, "x": 0, "y": top}
        placed.append({"id": len(placed) + 1, "type": "row", "title": title, "gridPos": place, "panels": []})
        top, left, height = top + 1, 0, 0
        for panel in panels:
            if left + panel.width > COLUMNS:
                top, left = top + height, 0
            height = HEIGHT[panel.kind]
            place = {"h": height, "w": panel.width, "x": left, "y": top}
            placed.append({"id": len(placed) + 1, **_panel(panel), "gridPos": place})
            left += panel.width
        top += height
    return placed


def _panel(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.bad is not None:
        steps.append({"color": "red", "value": panel.bad})
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind == "timeseries":
        defaults["custom"] = STACKED if panel.stacked else {"fillOpacity": 10}
    targets = [
        {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": query, "legendFormat": name or "__auto"}
        for number, (query, name) in enumerate(panel.queries.items())
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dashboard(), indent=1) + "\n")
