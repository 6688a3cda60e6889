"""``gateway doctor``: what keeps this machine from taking calls, each with its cure."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gateway.api_client.place import find_place
from gateway.cli.api import AsJson
from gateway.cli.render import as_json, fail, say
from gateway.doctor.doctor import examine
from gateway.doctor.finding import Finding
from gateway.errors import ConfigError
from gateway.settings.load import load_settings
from gateway.settings.sections import Settings
from gateway.settings.sources import runtime_folder, service_environment

MARKS = {"ok": "ok      ", "note": "note    ", "warning": "WARNING ", "failure": "FAILURE ", "skipped": "skipped "}
_INDENT = " " * 11


def doctor(
    config: Annotated[
        Path | None, typer.Option(help="configuration file (TOML); default: gateway.toml if it exists")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="ask no trunk, no STUN server, no model's service")
    ] = False,
    json: AsJson = False,
) -> None:
    """
    Examine this machine and what the gateway works with, and say what to do about each finding.

    Exit code 1 if calls would fail. Nothing is changed and no call is placed.
    """
    try:
        settings = load_settings(config=config)
    except ConfigError as error:
        fail(str(error))
        raise typer.Exit(1) from None
    findings = asyncio.run(_examined(settings, online=not offline, silent=json))
    if json:
        as_json({"findings": [asdict(finding) for finding in findings]})
    else:
        say(summary(findings))
    if any(finding.state == "failure" for finding in findings):
        raise typer.Exit(1)


async def _examined(settings: Settings, *, online: bool, silent: bool) -> list[Finding]:
    api = find_place(settings, runtime_folder(service_environment()))
    findings = []
    async for finding in examine(settings, api, online=online):
        findings.append(finding)
        if not silent:
            say(line_of(finding))
    return findings


def line_of(finding: Finding) -> str:
    """Return a finding for people, its cure on a line of its own."""
    text = f"{MARKS[finding.state]} {finding.subject}: {finding.detail}"
    return f"{text}\n{_INDENT}-> {finding.cure}" if finding.cure and finding.state != "ok" else text


def summary(findings: list[Finding]) -> str:
    """Return the last line: how many findings want something done."""
    failures = sum(finding.state == "failure" for finding in findings)
    warnings = sum(finding.state == "warning" for finding in findings)
    if not failures and not warnings:
        return "\nNothing keeps this machine from taking calls."
    return f"\n{failures} failures, {warnings} warnings; the lines with -> say what to do."
