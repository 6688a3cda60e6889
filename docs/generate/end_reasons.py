"""Prints ``docs/end-reasons.md``: ``python -m docs.generate.end_reasons``; everything in it is in the registry."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from gateway.call.end_reasons import END_REASONS, EndReasonInfo
from gateway.call.outcome import EndReason, Fault, Outcome

_HEAD = """\
# Why calls end

<!-- Printed by `python -m docs.generate.end_reasons`. Change gateway/call/end_reasons.py, then print it anew. -->

The record of a call that ended has `end_reason`, one of the list below, `end_detail`, the same in words with what the
other side said, `ended_by`, who ended it, and `fault`: who has to change something for the next call to end otherwise.

| `fault` | who |
|---|---|"""

_WHO = {
    Fault.NOBODY: "nobody: the call went as it should",
    Fault.CALLER: "the person at the other end: the caller, or who was called",
    Fault.CARRIER: "the trunk, the telephone network, or the network on the way to them",
    Fault.UPSTREAM: "the voice model's service, or the way to it",
    Fault.CONFIGURATION: "the operator: settings, dialplan, keys, numbers",
    Fault.GATEWAY: "the gateway itself, or who stopped it",
}

_FOOT = """
`GET /v1/end-reasons` returns the same list as JSON. The log writes the advice beside the end of each call that is
somebody's fault (`call_state` with `advice`)."""


def page() -> str:
    """Return the page in Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD
    yield from (f"| `{fault}` | {who} |" for fault, who in _WHO.items())
    yield from (
        "",
        "## Reasons",
        "",
        "| `end_reason` | `fault` | `ended_by` | means | what to do |",
        "|---|---|---|---|---|",
    )
    for reason, info in END_REASONS.items():
        yield f"| `{reason}` | {_fault(info)} | {_ended_by(reason)} | {info.meaning} | {info.cure or 'nothing'} |"
    yield _FOOT


def _fault(info: EndReasonInfo) -> str:
    return "; ".join([info.fault, *(f"{fault} if {case}" for fault, case in (info.otherwise or {}).items())])


def _ended_by(reason: EndReason) -> str:
    return Outcome(reason).ended_by


if __name__ == "__main__":
    sys.stdout.write(page())
