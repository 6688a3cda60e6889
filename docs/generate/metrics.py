"""
Prints ``docs/metrics.md``: ``python -m docs.generate.metrics``.

The metrics come from ``gateway/metrics/definitions.py``, the alerts and what to do about them from
``docker/prometheus/rules.yml``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from gateway.metrics.definitions import METRICS, OTHER, Label, Metric, MetricType

RULES = Path(__file__).parents[2] / "docker" / "prometheus" / "rules.yml"

_HEAD = """\
# Metrics

<!-- Printed by `python -m docs.generate.metrics`. Change the definitions or the rules, then print it anew. -->

`gateway web` serves the metrics of all workers at `/metrics`, in the text format of Prometheus or, if asked for it,
as OpenMetrics. Every worker counts into Redis, so one address is enough whatever the number of workers and machines.
A worker that restarts, or is killed, takes no count with it.

```yaml
scrape_configs:
  - job_name: gateway
    authorization: {credentials_file: /etc/prometheus/gateway-token}   # a token with the scope read
    static_configs:
      - targets: [127.0.0.1:8088]
```

A token is needed because costs and names of trunks are not for everyone; `web.public_metrics` serves the metrics to
whoever reaches the port. Scrape one `gateway web` of those that share a Redis: each has the same figures, and two would
count everything twice. Without a Redis of its own (`GATEWAY_REDIS__URL`) the gateway keeps its figures in the private
one, which ends with it.

`docker/prometheus/` has a configuration and the alerts below, `docker/grafana/gateway.json` is a dashboard for Grafana
(import it, and choose the Prometheus that scrapes).

## What counts

- Counters and histograms are added to the hash `{gateway}:metrics` ([redis.md](redis.md)), each increment exactly once,
  with the events of the same calls. While Redis is away they are added up in the worker; a worker that dies meanwhile
  takes those with it.
- A Redis that lost its memory begins at zero, which `rate()` and `increase()` take for a restart.
- Gauges are read at the scrape: live calls, the registry of workers, and states that expire with their worker.
- No label is a telephone number, a call or a process. A value that is not listed here becomes `other`.
- When Redis does not answer, a scrape still succeeds: `gateway_redis_up` is 0, and only the process's own metrics
  follow.
- `process_*` and `python_*` are those of the `gateway web` that was scraped, not of the workers.

## All metrics
"""

_ALERTS = """\
## Alerts

They are in `docker/prometheus/rules.yml`. The tests try each of them with `promtool`: with figures that set it off, and
with those of a quiet day.

| Alert | Severity | Means | What to do |
|---|---|---|---|
"""


def page() -> str:
    """Return the whole page."""
    return "\n".join((_HEAD, *_tables(), _ALERTS + "\n".join(_alerts()), ""))


def alerts() -> list[dict[str, Any]]:
    """Return the alerts of the rules."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def _tables() -> Iterator[str]:
    yield "| Metric | Type | Labels | What |\n|---|---|---|---|"
    for metric in METRICS:
        labels = ", ".join(f"`{label.name}`" for label in metric.labels) or "none"
        yield f"| `{metric.name}` | {metric.type} | {labels} | {metric.help}{_bounds(metric)} |"
    yield "\n### Values of labels\n\n| Label | Of | Values |\n|---|---|---|"
    used: dict[Label, list[str]] = {}
    for metric in METRICS:
        for label in metric.labels:
            used.setdefault(label, []).append(f"`{metric.name}`")
    for label, names in used.items():
        yield f"| `{label.name}` | {', '.join(names)} | {_values(label)} |"
    yield ""


def _bounds(metric: Metric) -> str:
    if metric.type is not MetricType.HISTOGRAM:
        return ""
    return f" Buckets: {', '.join(f'{bound:g}' for bound in metric.buckets)}."


def _values(label: Label) -> str:
    if "](" in label.meaning:  # another page lists them
        return label.meaning
    listed = ", ".join(f"`{value}`" for value in (*label.values, OTHER)) if label.values else ""
    return "; ".join(part for part in (label.meaning, listed) if part)


def _alerts() -> Iterator[str]:
    for rule in alerts():
        notes = rule["annotations"]
        yield f"| `{rule['alert']}` | {rule['labels']['severity']} | {notes['summary']} | {notes['runbook']} |"


if __name__ == "__main__":
    sys.stdout.write(page())
