"""What agents inherit: ``extends`` and the plan's ``defaults``."""

from __future__ import annotations

from typing import Any

from gateway.dialplan.model.fields import PlanPath
from gateway.dialplan.read.messages import did_you_mean
from gateway.dialplan.read.source import PlanSource

MAX_CHAIN = 32
"""Agents that extend one another."""
_USUAL_KIND = "server_vad"  # of turn_detection; another kind keeps nothing of the first


def inherit(written: PlanSource) -> None:
    """Give every agent what it has from the one it extends and from the defaults; its own values win."""
    agents = written.plain.get("agents")
    defaults = written.plain.pop("defaults", None)
    if not isinstance(agents, dict):
        return
    if defaults is not None and not isinstance(defaults, dict):
        written.mistakes.append(written.mistake(("defaults",), "should be a mapping: lines of `key: value`"))
        defaults = None
    if isinstance(defaults, dict) and "extends" in defaults:
        written.mistakes.append(written.mistake(("defaults", "extends"), "only agents can extend others", at_key=True))
    own = {name: value for name, value in agents.items() if isinstance(value, dict)}
    for name in own:
        agents[name] = _resolved(written, name, own, defaults)


def _resolved(
    written: PlanSource, name: str, agents: dict[str, Any], defaults: dict[str, Any] | None
) -> dict[str, Any]:
    """Return one agent with all it inherits; a chain that cannot be followed ends where it breaks."""
    merged: dict[str, Any] = {}
    for source in _chain(written, name, agents):
        merged = _merge(written, merged, agents[source], ("agents", name), ("agents", source))
    merged = _merge(written, merged, defaults or {}, ("agents", name), ("defaults",))
    merged.pop("extends", None)
    return merged


def _chain(written: PlanSource, name: str, agents: dict[str, Any]) -> list[str]:
    """Return the agent and those it extends, nearest first."""
    chain = [name]
    while True:
        value = agents[chain[-1]]
        base = value.get("extends") if isinstance(value, dict) else None
        if base is None:
            return chain
        problem = None
        if len(chain) > MAX_CHAIN:
            problem = f"more than {MAX_CHAIN} agents extend one another"
        elif not isinstance(base, str) or base not in agents:
            problem = f"there is no agent {base!r}; {did_you_mean(str(base), agents)}"
        elif base in chain:
            problem = f"circular: {' -> '.join([*chain[chain.index(base) :], base])}"
        elif not isinstance(agents[base], dict):
            return chain
        if problem is not None:
            # Reported once: an unknown name at the agent that extends it, a circle at the first of its names.
            if len(chain) == 1 or (base == name and name == min(chain)):
                written.mistakes.append(written.mistake(("agents", chain[-1], "extends"), problem))
            return chain
        chain.append(str(base))


def _merge(
    written: PlanSource, own: dict[str, Any], base: dict[str, Any], path: PlanPath, source: PlanPath
) -> dict[str, Any]:
    """Return ``own`` with what ``base`` adds; mappings are merged, everything else is taken as a whole."""
    if "kind" in own and own["kind"] != base.get("kind", _USUAL_KIND):
        return own
    merged = dict(own)
    for key, value in base.items():
        if key not in merged:
            merged[key] = value
            if path != source:
                written.inherited((*path, key), (*source, key))
        elif isinstance(merged[key], dict) and isinstance(value, dict) and path != source:
            merged[key] = _merge(written, merged[key], value, (*path, key), (*source, key))
    return merged
