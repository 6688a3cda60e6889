"""``gateway dialplan``: check a dialplan, explain what it does with a call, run its test cases."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from gateway.cli.api import AsJson
from gateway.cli.render import fail, say
from gateway.dialplan.model.agent import AgentProfile
from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.read.files import folder_of, read_files
from gateway.dialplan.read.loader import LoadedPlan, load_dialplan
from gateway.dialplan.report.cases import CaseResult, junit, load_cases, parse_moment, run_case
from gateway.dialplan.report.explain import NOT_ASKED, Explanation, explain_call
from gateway.dialplan.report.explain import as_json as explanation_as_json
from gateway.dialplan.report.schema import schema_text
from gateway.dialplan.routing.call_facts import RoutingFacts, facts_of_call
from gateway.dialplan.routing.route import Rejection
from gateway.errors import ConfigError, DialplanError, GatewayError, Mistake
from gateway.settings.load import load_settings
from gateway.sip.library.endpoint import phone_format
from gateway.tools.runner import own_definitions
from gateway.upstream.realtime.config import session_update
from gateway.worker.live_plan import load_plan

app = typer.Typer(help="Check a dialplan, explain what it does with a call, run its test cases.", no_args_is_help=True)

SHOWN_ROUTES = 40
"""Routes that ``explain`` prints; JSON has all of them."""

Config = Annotated[Path | None, typer.Option(help="configuration file (TOML); default: gateway.toml if it exists")]
Plan = Annotated[Path | None, typer.Option("--plan", help="dialplan file or folder, instead of the configured one")]


def _load(path: Path | None, config: Path | None) -> LoadedPlan:
    """Read the named plan or the configured one; trunks are checked if the settings have any."""
    settings = load_settings(config=config, overrides={"dialplan": path})
    return load_dialplan(settings.dialplan, settings.trunks if settings.trunks or path is None else None)


@app.command()
def check(
    path: Annotated[Path | None, typer.Argument(help="file or folder; default: the configured dialplan")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """
    Report every mistake in a dialplan with its file, line and column; exit code 0 if there is none, otherwise 1.

    Refuses what `gateway serve` refuses. Without any settings, trunks and secrets that the plan refers to are
    reported as notes.
    """
    settings = load_settings(config=config, overrides={"dialplan": path})
    is_named_known = path is None or config is not None or settings.are_given
    try:
        files, folder = read_files(settings.dialplan), folder_of(settings.dialplan)
        phone = phone_format(settings.sip, settings.trunks)
        plan = load_plan(files, folder, settings, phone, is_named_known=is_named_known)
    except DialplanError as error:
        if as_json:
            say(json.dumps({"ok": False, "mistakes": _plain(error.mistakes), "notes": []}, indent=2))
        else:
            fail(f"{error}\n{len(error.mistakes)} mistake{'s' if len(error.mistakes) > 1 else ''}")
        raise typer.Exit(1) from None
    agents, routes = len(plan.dialplan.agents), len(plan.dialplan.routes)
    if as_json:
        found = {"ok": True, "version": plan.version, "agents": agents, "routes": routes}
        say(json.dumps({**found, "mistakes": [], "notes": _plain(plan.remarks)}, indent=2))
        return
    for remark in plan.remarks:
        say(f"note: {remark}")
    say(f"ok: {agents} agents, {routes} routes, version {plan.version}")


def _plain(mistakes: Iterable[Mistake]) -> list[dict[str, Any]]:
    return [asdict(mistake) for mistake in mistakes]


@app.command()
def schema() -> None:
    """Print the JSON Schema of a dialplan file, for editors."""
    say(schema_text().rstrip("\n"))


@app.command()
def explain(
    to: Annotated[str, typer.Option(help="called number, user or URI")] = "",
    caller: Annotated[str, typer.Option("--from", help="caller's number, user or URI")] = "",
    header: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; repeatable")] = None,
    at: Annotated[
        str | None,
        typer.Option(help="time of the call, such as 2026-12-24T10:00 in the plan's time zone; default: now"),
    ] = None,
    trunk: Annotated[str, typer.Option(help="trunk the call comes through")] = "",
    source: Annotated[str, typer.Option(help="address the call comes from")] = "",
    load: Annotated[float, typer.Option(min=0, max=1, help="share of the worker's capacity in use, 0 to 1")] = 0,
    call_id: Annotated[str, typer.Option(help="the gateway's id of the call, which decides percentages")] = "",
    plan_path: Plan = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show, route by route, why a call goes where it goes, and the exact ``session.update`` an agent would get."""
    plan = _load(plan_path, config)
    try:
        moment = datetime.now(UTC) if at is None else parse_moment(at, plan.dialplan)
        headers = dict(_header(text) for text in header or ())
    except ValueError as error:
        raise ConfigError(str(error)) from None
    call = facts_of_call(
        to=to, caller=caller, at=moment, trunk=trunk, source=source, headers=headers, load=load, call_id=call_id
    )
    explanation = explain_call(plan.index, call)
    if as_json:
        say(json.dumps(_as_json(plan.version, call, explanation), indent=2, ensure_ascii=False))
    else:
        _say_explanation(plan.dialplan, call, explanation)
    if explanation.problems:
        raise typer.Exit(1)


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"--header {text}: give NAME=VALUE")
    return name.strip(), value


def _session_update(profile: AgentProfile) -> dict[str, Any] | str:
    """Return what is sent to the voice model first, with secrets masked; text if it cannot be sent, saying why."""
    secrets = {
        server.authorization.lower(): SecretStr("********") for server in profile.tools.mcp if server.authorization
    }
    try:
        update: dict[str, Any] = json.loads(session_update(profile, own_definitions(profile.tools), secrets))
    except GatewayError as error:
        return str(error)
    return {"type": update.pop("type", "session.update"), **update}


def _as_json(version: str, call: RoutingFacts, found: Explanation) -> dict[str, Any]:
    told = explanation_as_json(version, call, found)
    for agent, (_, profile) in zip(told["agents"], found.agents, strict=True):
        agent["session_update"] = _session_update(profile)
    return told


def _say_explanation(plan: Dialplan, call: RoutingFacts, found: Explanation) -> None:
    local = plan.calendar.local(call.at, None)
    called, caller = call.called or "no number", call.caller or "no number"
    say(f"call to {called} from {caller}, {local:%A %Y-%m-%d %H:%M} {plan.timezone}\n")
    asked = [each for each in found.considered if each.why != NOT_ASKED]
    for each in asked[-SHOWN_ROUTES:]:
        say(f"  {'->' if each.matched else '  '} {each.name}: {each.why}")
    if len(asked) > SHOWN_ROUTES:
        say(f"     ({len(asked) - SHOWN_ROUTES} earlier routes do not match; --json says why)")
    if left := len(found.considered) - len(asked):
        say(f"     ({left} more, not asked)")
    if isinstance(found.result, Rejection):
        say(f"\nno route matches: the caller gets {found.result.sip_code}")
        return
    say("\n" + "\n".join(found.lines))
    for name, text in found.metadata:
        say(f"metadata {name}: {text}")
    for problem in found.problems:
        fail(problem)
    for name, profile in found.agents:
        say(f"\ninstructions of {name}:\n{profile.instructions.rstrip()}")
        if profile.greeting:
            say(f"greeting: {profile.greeting}")
        say(json.dumps(_session_update(profile), indent=2, ensure_ascii=False))


@app.command("test")
def run_cases(
    files: Annotated[list[Path], typer.Argument(help="case files")],
    plan_path: Plan = None,
    junit_path: Annotated[Path | None, typer.Option("--junit", help="also write JUnit XML to this file")] = None,
) -> None:
    """Run test cases: does each call get the expected route, action, agent and code? Exit code 1 if not."""
    outcomes: list[CaseResult] = []
    plans: dict[Path, LoadedPlan] = {}
    for path in files:
        cases = load_cases(path)
        if plan_path is None and cases.plan is None:
            raise ConfigError(f"{path}: names no plan; add `plan: FILE` or use --plan")
        found = plan_path or path.parent / str(cases.plan)
        plan = plans.get(found) or plans.setdefault(found, load_dialplan(found, cases.trunks))
        outcomes += [run_case(plan.index, case, str(path)) for case in cases.cases]
    for outcome in outcomes:
        say(f"{'FAIL' if outcome.problems else 'ok  '} {outcome.file}: {outcome.name}")
        for problem in outcome.problems:
            say(f"       {problem}")
    failed = sum(1 for outcome in outcomes if outcome.problems)
    say(f"{len(outcomes) - failed} of {len(outcomes)} cases as expected")
    if junit_path is not None:
        try:
            junit_path.write_text(junit(outcomes, ", ".join(map(str, plans))), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{junit_path}: cannot be written: {error}") from None
    if failed:
        raise typer.Exit(1)
