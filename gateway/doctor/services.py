"""What the gateway works with: dialplan, Redis, the model's service, trunks, the edge, its own API."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from gateway.api_client.client import Api, ApiRefused, NoApi
from gateway.api_client.place import ApiPlace
from gateway.cost.model_life import Listed, lives_of, models_of
from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.read.files import folder_of, read_files
from gateway.doctor.finding import Finding, State
from gateway.errors import AgentLost, AgentRefused, ConfigError, StoreError, WireError
from gateway.probe import options_over_tcp, options_over_udp
from gateway.redact import without_password
from gateway.settings.sections import RedisSettings, Settings
from gateway.settings.sip import TrunkSettings
from gateway.sip.library.endpoint import phone_format
from gateway.sip.location.resolver import locate_trunks
from gateway.sip.location.servers import Located
from gateway.store.connection import AWAY, COMMAND_LIMIT_S, ask, connect, in_words
from gateway.store.embedded import find_redis_server
from gateway.upstream.realtime.access.models import list_models
from gateway.worker.live_plan import load_plan

OLDEST_REDIS = (6, 2)
SKEW_S = 1.0
SLOW_MS = 50.0


def dialplan(settings: Settings) -> tuple[Finding, Dialplan | None]:
    """Load the dialplan as a worker does; return the plan too, if it can be used."""
    path = settings.dialplan
    try:
        phone = phone_format(settings.sip, settings.trunks)
        plan = load_plan(read_files(path), folder_of(path), settings, phone)
    except ConfigError as error:
        cure = "mend the places that it names; `gateway dialplan check` says more"
        return Finding("Dialplan", "failure", str(error), cure), None
    routes, agents = len(plan.dialplan.routes), len(plan.dialplan.agents)
    detail = f"{path}: {routes} routes, {agents} agents, version {plan.version}"
    return Finding("Dialplan", "ok", detail), plan.dialplan


async def models(settings: Settings, plan: Dialplan, *, online: bool) -> list[Finding]:
    """Try the key on the service, and look up until when it offers the models of the plan."""
    wanted = models_of(plan)
    if settings.realtime.api_key is None:
        cure = "set OPENAI_API_KEY, or try without a key: gateway serve --simulate"
        return [Finding("API key", "failure", "not set: no call can be answered", cure)]
    if not online:
        return [Finding("API key", "skipped", "set, and not tested"), *model_ends(wanted, None, time.time())]
    try:
        listed = await list_models(settings.realtime)
    except AgentRefused as error:
        return [Finding("API key", "failure", str(error), "make another at the service, and set OPENAI_API_KEY")]
    except (AgentLost, WireError) as error:
        cure = "see whether the firewall lets out HTTPS; realtime.proxy names a proxy"
        return [Finding("Service", "failure", f"{settings.realtime.url}: {error}", cure)]
    return [Finding("API key", "ok", "the service takes it"), *model_ends(wanted, listed, time.time())]


def model_ends(wanted: Mapping[str, Iterable[str]], listed: Listed | None, now: float) -> Iterator[Finding]:
    """
    Judge the models of a plan by until when they are offered.

    Args:
        wanted: model -> the agents that use it.
        listed: what the service offers; None when it was not asked.
        now: Unix seconds.
    """
    today = datetime.fromtimestamp(now, UTC).date()
    for life in lives_of(wanted, listed, now):
        subject, agents, left = f"Model {life.model}", ", ".join(life.agents), life.days_left(today)
        if listed is not None and life.model not in listed:
            cure = f"choose another for {agents}: the service lists {', '.join(sorted(listed)[:5])}, ..."
            yield Finding(subject, "warning", "the service does not list it for this key", cure)
        elif life.retires(today):
            state: State = "failure" if left is not None and left <= 0 else "warning"
            yield Finding(subject, state, f"it goes: {life.words(today)}", f"choose another for {agents}")
        else:
            yield Finding(subject, "ok" if listed is not None else "skipped", f"its end: {life.words(today)}")


async def redis(settings: RedisSettings) -> list[Finding]:
    """Ask Redis how it is; without one, look for the program of a private one."""
    if settings.url is None:
        try:
            program = find_redis_server()
        except StoreError as error:
            return [Finding("Redis", "failure", str(error))]
        cure = (
            "records end with the gateway; set GATEWAY_REDIS__URL to keep them, or to have several machines share them"
        )
        return [Finding("Redis", "note", f"not configured; a private one is started ({program})", cure)]
    client = connect(settings)
    where = without_password(str(settings.url))
    try:
        async with asyncio.timeout(4 * COMMAND_LIMIT_S):
            began = time.monotonic()
            seconds, micros = await ask(client, "TIME")
            took_ms = (time.monotonic() - began) * 1000
            facts = await client.info()
            skew_s = int(seconds) + int(micros) / 1e6 - time.time()
    except AWAY as error:
        cure = "start it, or put the right address, user and password into GATEWAY_REDIS__URL"
        return [Finding("Redis", "failure", f"{where}: {in_words(error)}", cure)]
    finally:
        await client.aclose()
    return [*redis_facts(where, facts, took_ms), _skew(skew_s)]


def redis_facts(where: str, facts: Mapping[str, object], took_ms: float) -> Iterator[Finding]:
    """
    Judge what Redis tells of itself.

    Args:
        where: its URL, without a password.
        facts: the answer to ``INFO`` (redis.io/docs/latest/commands/info).
        took_ms: how long the answer to a command took.
    """
    name = "Valkey" if facts.get("server_name") == "valkey" else "Redis"
    version = str(facts.get("valkey_version") or facts.get("redis_version", "?"))
    detail, state, cure = f"{name} {version} at {where}, answers in {took_ms:.1f} ms", "ok", ""
    if _version(str(facts.get("redis_version", "0"))) < OLDEST_REDIS:
        state, cure = "failure", "install version 6.2 or newer"
    elif took_ms > SLOW_MS:
        state, cure = "warning", "put it nearer: limits of routes wait for it before each call"
    yield Finding("Redis", _state(state), detail, cure)
    if facts.get("role") not in (None, "master"):
        yield Finding(
            "Redis role", "failure", "it is a replica and takes no writes", "name the master, or its Sentinels"
        )
    policy = str(facts.get("maxmemory_policy", "noeviction"))
    if facts.get("maxmemory") and policy != "noeviction":
        cure = "set maxmemory-policy noeviction: live calls would be removed, and the gateway can wait instead"
        yield Finding("Redis memory", "warning", f"when it is full, it removes keys ({policy})", cure)
    if not facts.get("aof_enabled"):
        cure = "set appendonly yes if detail records must survive a restart of Redis"
        yield Finding("Redis persistence", "note", "no append-only file", cure)


def _skew(skew_s: float) -> Finding:
    if abs(skew_s) > SKEW_S:
        cure = "set the clocks of both by NTP; times in records come from this machine's"
        return Finding("Clock of Redis", "warning", f"{skew_s:+.1f} s from this machine's", cure)
    return Finding("Clock of Redis", "ok", f"{skew_s * 1000:+.0f} ms from this machine's")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _state(text: str) -> State:
    return "failure" if text == "failure" else "warning" if text == "warning" else "ok"


async def trunks(settings: Settings, *, online: bool) -> list[Finding]:
    """Look up every trunk, and ask those that may be asked whether they are there (OPTIONS, RFC 3261 section 11)."""
    located = await locate_trunks(settings.sip, settings.trunks)
    return [_trunk(name, trunk, located[name], online=online) for name, trunk in settings.trunks.items()]


def _trunk(name: str, trunk: TrunkSettings, found: Located, *, online: bool) -> Finding:
    subject = f"Trunk {name}"
    if found.problem or not found.servers:
        cure = "mend its host or outbound_proxy, or set sip.name_servers"
        return Finding(subject, "failure", found.problem or "it has no address", cure)
    server = found.servers[0]
    if server.transport == "tls" or not online:
        return Finding(
            subject, "skipped", f"{server}: it was not asked; `gateway trunks probe {name}` has a worker ask it"
        )
    ask_it = options_over_udp if server.transport == "udp" else options_over_tcp
    try:
        code = ask_it(server.address, server.port)
    except OSError as error:
        cure = "it may ignore OPTIONS from strangers; else the way there is closed: firewall, address, port"
        return Finding(subject, "warning", f"{server}: no answer ({error})", cure)
    return Finding(subject, "ok", f"{server} answers {code} to OPTIONS")


def edge(settings: Settings, capacity: int) -> Finding | None:
    """Look for Kamailio where the gateway is to start it; None where it is not."""
    if settings.fleet.calls <= capacity or not settings.edge.start:
        return None
    program = shutil.which(str(settings.edge.kamailio), path=None) or shutil.which("kamailio", path="/usr/sbin")
    if program is None:
        return Finding(
            "Edge", "failure", f"no {settings.edge.kamailio}", "apt-get install kamailio kamailio-tls-modules"
        )
    return Finding("Edge", "ok", str(Path(program)))


def api(place: ApiPlace) -> Finding:
    """Ask the HTTP API for its health."""
    try:
        with Api(place) as opened:
            health = opened.get("health")
    except NoApi as error:
        return Finding("HTTP API", "note", f"none answers at {place.url}", str(error).partition(": ")[2])
    except ApiRefused as error:
        if error.status in (401, 403):
            return Finding("HTTP API", "note", f"{place.url} answers, but does not know this token", str(error))
        return Finding("HTTP API", "warning", f"{place.url}: {error}")
    status = str(health.get("status", "unknown"))
    state: State = "ok" if status == "ok" else "warning"
    return Finding("HTTP API", state, f"{place.url}: {status}", "" if state == "ok" else f"see {place.url}/v1/health")
