"""``docker/compose.yaml`` as an engine reads it: anchors resolved, variables put in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

COMPOSE = Path(__file__).parents[2] / "docker" / "compose.yaml"
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^${}]*))?\}")


def services(values: Mapping[str, str]) -> dict[str, Any]:
    """Return the services by their names, with these variables of the operator's environment, or their defaults."""
    found: dict[str, Any] = _put_in(yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"], values)
    return found


def _put_in(part: Any, values: Mapping[str, str]) -> Any:
    match part:
        case dict():
            return {name: _put_in(value, values) for name, value in part.items()}
        case list():
            return [_put_in(value, values) for value in part]
        case str():
            return _interpolated(part, values)
        case _:
            return part


def _interpolated(text: str, values: Mapping[str, str]) -> str:
    while (found := _VARIABLE.search(text)) is not None:  # the innermost first: a default may hold another
        value = values.get(found["name"]) or found["default"] or ""
        text = text[: found.start()] + value + text[found.end() :]
    return text


def on_the_host(all_services: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the services as they are when all of them use the host's network.

    Each listens on the port that an engine would publish for it, and reaches the others there, on 127.0.0.1.
    """
    ports = {
        name: {own: host for _, host, own in (port.split(":") for port in service.get("ports", ()))}
        for name, service in all_services.items()
    }
    names = {f"{name}:{own}": f"127.0.0.1:{host}" for name in ports for own, host in ports[name].items()}
    return {name: _moved(service, names, ports[name]) for name, service in all_services.items()}


def _moved(service: Mapping[str, Any], names: Mapping[str, str], own: Mapping[str, str]) -> dict[str, Any]:
    parts = {name: service[name] for name in ("command", "environment", "healthcheck") if name in service}
    text = json.dumps(parts)
    for name, place in names.items():
        text = text.replace(name, place)
    moved: dict[str, Any] = json.loads(re.sub(r"\b\d+\b", lambda found: own.get(found[0], found[0]), text))
    return moved
