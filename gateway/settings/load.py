"""
Loads the settings: collects the values from all places, checks them, and reports every mistake at once.

The first place that has a setting wins: command-line option, environment (``GATEWAY_SIP__PORT=5070``), ``.env`` in the
working directory, the configuration file (TOML: ``[sip] port = 5070``), the default. Mappings are collected entry by
entry (``GATEWAY_SECRETS__CRM=...``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from gateway.errors import ConfigError
from gateway.redact import mask_keys, shown
from gateway.settings.cost import ModelPrices
from gateway.settings.section import Section
from gateway.settings.sections import Settings
from gateway.settings.sip import TrunkSettings, trunk_mistakes
from gateway.settings.sources import FALLBACKS, Given, SettingSources, add_secrets_of_folder, did_you_mean
from gateway.settings.web import TokenSettings
from gateway.settings.webhooks import WebhookEndpoint, webhook_mistakes

SECRET_FIELDS = frozenset(
    {
        *("realtime.api_key", "realtime.url", "realtime.secrets_url", "realtime.headers", "realtime.proxy"),
        *("realtime.safety_key", "redis.url", "web.tokens", "api.token", "secrets", "edge.key"),
        *("tracing.endpoint", "tracing.headers", "webhooks.endpoints"),
    }
)
"""Values that are or may hold a secret: no message repeats them."""


class Effective(NamedTuple):
    """A setting as it is in force, fit for printing: secrets are masked."""

    value: str
    origin: str
    """``default``, ``command line``, a file, or the variable's name (after ``.env: `` when it was found there)."""


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


FIELDS: dict[str, FieldInfo] = dict(_fields(Settings))
"""Every setting by its dotted name."""
ENTRIES: Mapping[str, type[BaseModel]] = {
    "trunks": TrunkSettings,
    "prices": ModelPrices,
    "web.tokens": TokenSettings,
    "webhooks.endpoints": WebhookEndpoint,
}
"""What the entries of a mapping are made of, where they are more than a value."""


def _header_name(end: str) -> str:
    return end.lower().replace("_", "-")  # a variable's name cannot hold the hyphen


SOURCES = SettingSources(
    fields=tuple(FIELDS),
    mappings={
        "secrets": str.lower,
        "web.tokens": str.lower,
        "realtime.headers": _header_name,
        "tracing.headers": _header_name,
        "prices": None,
        "privacy.routes": None,
        "realtime.sessions_max": None,
        "trunks": str.lower,
        "webhooks.endpoints": str.lower,
    },
    fallbacks=FALLBACKS,
)


def load_settings(*, config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """
    Collect the settings from all places.

    Args:
        config: the configuration file; without it ``GATEWAY_CONFIG`` names it, or ``./gateway.toml`` if there is one.
        overrides: from the command line, by dotted name (``{"sip.port": 5070}``) or nested; None means not given.

    Raises:
        ConfigError: with a line ``place: field: problem, cure`` for every mistake found.
    """
    problems: list[str] = []
    given = SOURCES.collect(config, overrides or {}, problems)
    add_secrets_of_folder(given, problems)
    settings = _validated(given, problems)
    if settings is None or problems:
        raise ConfigError(*problems)
    return settings


def _validated(given: Mapping[str, Given], problems: list[str]) -> Settings | None:
    nested: dict[str, Any] = {}
    for name, (value, _) in given.items():
        mapping = SOURCES.mapping_of(name)
        path = [*(mapping or name).split("."), *([name.removeprefix(f"{mapping}.")] if mapping else [])]
        inner = nested
        for step in path[:-1]:
            inner = inner.setdefault(step, {})
        inner[path[-1]] = value
    try:
        settings = Settings.model_validate(nested)
    except ValidationError as error:
        problems.extend(_problem(details, given) for details in error.errors())
        return None
    is_edge = not settings.edge.start or settings.edge.inner_port > 0
    edge = is_edge or bool(settings.sip.edges) or settings.fleet.calls > 0
    mistakes = (
        *trunk_mistakes(settings.sip, settings.trunks, settings.secrets, edge=edge),
        *webhook_mistakes(settings.webhooks, settings.secrets),
    )
    for name, message in mistakes:
        place = next((found.place for at, found in given.items() if name == at or name.startswith(f"{at}.")), "default")
        problems.append(f"{place}: {name}: {message}")
    settings._origins.update({name: place for name, (_, place) in given.items()})
    return settings


def _problem(details: ErrorDetails, given: Mapping[str, Given]) -> str:
    name = ".".join(str(part) for part in details["loc"])
    message = details["msg"].removeprefix("Value error, ").replace("Input should", "should", 1)
    # The mistake may lie deeper than what was given: sip.codecs.0, secrets.crm.[key], trunks.main.transport.
    around = [at for at in given if name == at or name.startswith(f"{at}.")]
    if around:
        entry = around[0]
        place = given[entry].place
        field = SOURCES.mapping_of(entry) or entry
        if details["type"] == "extra_forbidden":
            message = f"unknown key, {did_you_mean(str(details['loc'][-1]), _keys_of(field))}"
        elif details["type"] != "value_error":
            value = (
                "" if field in SECRET_FIELDS or details["type"] == "missing" else f", not {_short(details['input'])}"
            )
            message = f"{message}{value} ({_description(field, name.removeprefix(f'{entry}.'))})"
    else:  # about several settings of a section: name the places of those it speaks of
        inside = {field.rpartition(".")[2]: at.place for field, at in given.items() if field.startswith(f"{name}.")}
        spoken_of = {place for field, place in inside.items() if field in message} or set(inside.values())
        place = " and ".join(sorted(spoken_of)) or "default"
    return mask_keys(f"{place}: {name}: {message}")


def _short(value: object) -> str:
    return repr(str(value)[:40])


def _keys_of(mapping: str) -> dict[str, str]:
    """Return the keys that each entry of a mapping may have -> what they mean."""
    model = ENTRIES.get(mapping)
    fields = model.model_fields if model is not None else {}
    return {field.alias or name: field.description or "" for name, field in fields.items()}


def _description(field: str, inner: str) -> str:
    return _keys_of(field).get(inner.partition(".")[0]) or FIELDS[field].description or ""


def _value(settings: Settings, name: str) -> object:
    section, _, field = name.rpartition(".")
    return getattr(getattr(settings, section) if section else settings, field)


def effective(settings: Settings) -> dict[str, Effective]:
    """Return every setting by its name (``sip.port``), secrets masked, with where its value came from."""
    return {name: Effective(shown(_value(settings, name)), _origin(settings, name)) for name in FIELDS}


def _origin(settings: Settings, name: str) -> str:
    entries = {place for entry, place in settings.origins.items() if SOURCES.mapping_of(entry) == name}
    return " and ".join(sorted(entries)) or settings.origins.get(name, "default")
