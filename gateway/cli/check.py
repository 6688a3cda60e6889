"""``gateway check``: whether the settings and the dialplan are right, and what is in force."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.api import AsJson
from gateway.cli.render import as_json, fail, say, table
from gateway.cost.model_life import ModelLife, lives_of, models_of
from gateway.cost.prices import shipped_prices
from gateway.dialplan.model.agent import ToolSet
from gateway.dialplan.read.files import folder_of, read_files
from gateway.dialplan.read.loader import LoadedPlan
from gateway.dialplan.report.explain import conditions_in_words
from gateway.errors import AgentError, ConfigError, StoreError
from gateway.settings.cost import ModelPrices
from gateway.settings.load import effective, load_settings
from gateway.settings.sections import Settings
from gateway.settings.sip import TrunkSettings
from gateway.sip.admission.access_list import networks_of
from gateway.sip.library.endpoint import phone_format
from gateway.sip.location.resolver import locate_trunks
from gateway.sip.location.servers import Located, is_address
from gateway.sip.location.trunk_names import next_hop
from gateway.store.embedded import find_redis_server
from gateway.tracing.exporter import check_tracing
from gateway.upstream.realtime.access.models import list_models
from gateway.worker.live_plan import load_plan


def check(
    config: Annotated[
        Path | None, typer.Option(help="configuration file (TOML); default: gateway.toml if it exists")
    ] = None,
    dialplan: Annotated[
        Path | None, typer.Option(help="dialplan file or folder, instead of the configured one")
    ] = None,
    json: AsJson = False,
) -> None:
    """
    Check the settings and the dialplan, and print what is in force with secrets masked.

    Exit code 0 if the gateway can start with them, otherwise 1. Plugins are imported, DNS is queried for the addresses
    of trunks, and with an API key the service is asked until when it offers the models; no call is placed.
    """
    try:
        settings = load_settings(config=config, overrides={"dialplan": dialplan})
    except ConfigError as error:
        if json:
            as_json({"ok": False, "problems": str(error).splitlines()})
        else:
            fail(str(error))
        raise typer.Exit(1) from None
    if json:
        told = _found(settings)
        as_json(told)
        raise typer.Exit(0 if told["ok"] else 1)
    rows = [(name, shown.value, shown.origin) for name, shown in effective(settings).items()]
    table("Settings", ("setting", "value", "from"), rows)
    _say_trunks(settings)
    try:
        path = settings.dialplan
        phone = phone_format(settings.sip, settings.trunks)
        plan = load_plan(read_files(path), folder_of(path), settings, phone)
        redis = _redis_words(settings)
        check_tracing(settings.tracing)
    except (ConfigError, StoreError) as error:
        fail(str(error))
        raise typer.Exit(1) from None
    _say_dialplan(path, plan)
    for remark in plan.remarks:
        say(f"note: {remark}")
    _say_models(settings, plan)
    say(f"Redis: {redis}")
    if settings.realtime.api_key is None:
        say("API key: not set. Set OPENAI_API_KEY, or try without a key: gateway serve --simulate")
    else:
        say("API key: set")


def _found(settings: Settings) -> dict[str, Any]:
    """Return what is in force, and what is wrong with the dialplan, for programs."""
    in_force = {name: {"value": shown.value, "from": shown.origin} for name, shown in effective(settings).items()}
    try:
        path = settings.dialplan
        plan = load_plan(read_files(path), folder_of(path), settings, phone_format(settings.sip, settings.trunks))
        check_tracing(settings.tracing)
    except ConfigError as error:
        return {"ok": False, "settings": in_force, "problems": str(error).splitlines()}
    told = {
        "version": plan.version,
        "agents": [*plan.dialplan.agents],
        "routes": [r.name for r in plan.dialplan.routes],
    }
    lives, _ = _looked_up(settings, plan)
    notes = [str(each) for each in plan.remarks]
    models = [life.fields() for life in lives]
    return {"ok": True, "settings": in_force, "dialplan": told, "models": models, "notes": notes}


def _say_trunks(settings: Settings) -> None:
    trunks = settings.trunks
    if not trunks:
        return
    located = asyncio.run(locate_trunks(settings.sip, trunks))
    sources = {name: _sources_of(trunk, located[name]) for name, trunk in trunks.items()}
    rows = (
        (
            name,
            f"{trunk.host} over {trunk.transport}",
            f"as {trunk.username}" if trunk.register_here else "no",
            trunk.caller_id or trunk.username or "gateway",
            ", ".join(sources[name]) or "nowhere",
        )
        for name, trunk in trunks.items()
    )
    table("Trunks", ("trunk", "host", "registers", "calls as", "accepts calls from"), rows)
    for name, trunk in trunks.items():
        host, found = next_hop(trunk).host, located[name]
        if found.problem:
            accepted = f"only from {', '.join(sources[name])}" if sources[name] else "from nowhere"
            say(
                f"Trunk {name}: {found.problem}. The gateway starts anyway and keeps looking. Until it finds an "
                f"address, no call can be placed through this trunk, and its calls are accepted {accepted}; others "
                f"get {settings.sip.deny_code}. Fix its host or outbound_proxy, or set sip.name_servers"
            )
        elif not is_address(host):
            say(f"Trunk {name}: {host} resolves to {', then '.join(map(str, found.servers))}")


def _sources_of(trunk: TrunkSettings, located: Located) -> list[str]:
    return list(dict.fromkeys((*networks_of(trunk), *(server.address for server in located.servers))))


def _say_dialplan(path: Path, loaded: LoadedPlan) -> None:
    plan = loaded.dialplan
    agents = (
        (name, agent.model, agent.voice, agent.greeting or "none", _tools_words(agent.tools))
        for name, agent in plan.agents.items()
    )
    table(f"Agents in {path}", ("agent", "model", "voice", "greeting", "tools"), agents)
    routes = ((rule.name, conditions_in_words(rule.match), rule.step.summary()) for rule in plan.routes)
    table(f"Routes, first match wins (version {loaded.version})", ("route", "match", "step"), routes)


def _looked_up(settings: Settings, loaded: LoadedPlan) -> tuple[list[ModelLife], str]:
    """Return until when the models of the agents are offered, and why the service was not asked; never fails."""
    listed, why = None, "no API key is set"
    if settings.realtime.api_key is not None:
        try:
            listed, why = asyncio.run(list_models(settings.realtime)), ""
        except AgentError as error:
            why = error.detail
    return lives_of(models_of(loaded.dialplan), listed, time.time()), why


def _say_models(settings: Settings, loaded: LoadedPlan) -> None:
    """Show the models of the agents: what they cost, and until when they are offered."""
    lives, why = _looked_up(settings, loaded)
    prices, today = shipped_prices().with_own(settings.prices), datetime.now(UTC).date()
    rows = [
        (life.model, ", ".join(life.agents), _price_words(prices.of(life.model)), life.words(today)) for life in lives
    ]
    table("Models, US dollars per million tokens", ("model", "agents", "price", "goes"), rows)
    if why:
        say(f"Models: the service was not asked until when they are offered: {why}")
    for life in lives:
        if life.retires(today):
            say(
                f"note: the model {life.model} goes on {life.shutdown_date}: "
                f"choose another for {', '.join(life.agents)}"
            )


def _price_words(prices: ModelPrices | None) -> str:
    told = {} if prices is None else prices.model_dump(exclude_none=True)
    return ", ".join(f"{name} {price:g}" for name, price in told.items()) or "not known: calls have no cost"


def _tools_words(tools: ToolSet) -> str:
    words = [
        *tools.builtin,
        *(f"{tool.name} (webhook)" for tool in tools.webhooks),
        *(f"{tool.name} (plugin)" for tool in tools.plugins),
        *(f"{server.server_label} (MCP)" for server in tools.mcp),
    ]
    return ", ".join(words) or "none"


def _redis_words(settings: Settings) -> str:
    if settings.redis.url is not None:
        return f"{effective(settings)['redis.url'].value} (not tested)"
    return f"not configured; the gateway starts a private server ({find_redis_server()})"
