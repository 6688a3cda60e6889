"""The JSON Schema of a dialplan file, for editors that complete and check during typing."""

from __future__ import annotations

import json
from typing import Any

from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.model.rule import ROUTE_KEYS
from gateway.dialplan.model.steps import STEPS

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_SHORT = (
    {"type": "integer", "minimum": 400, "maximum": 699, "description": "SIP status: refuse the call with it"},
    {"type": "string", "description": "name of an agent that answers, or a WAV file that is played"},
)


def json_schema() -> dict[str, Any]:
    """
    Return the schema.

    It is that of the model, but for what the loader does before: the step's keys stand beside those of a route, a step
    may be written short, agents extend others, and ``defaults`` gives what agents leave out.
    """
    schema = Dialplan.model_json_schema(by_alias=True, mode="validation")
    definitions = schema["$defs"]
    for name in [kind.__name__ for kind in STEPS.values()]:
        _need_action(definitions[name])
    route = definitions.pop("Rule")
    definitions["Step"] = {"anyOf": [*({"$ref": f"#/$defs/{kind.__name__}"} for kind in STEPS.values()), *_SHORT]}
    for definition in definitions.values():
        _point_to_steps(definition)
    definitions["Route"] = {"anyOf": [_route(route, definitions[kind.__name__]) for kind in STEPS.values()]}
    _let_agents_inherit(definitions)
    properties = schema["properties"]
    properties["routes"]["items"] = {"$ref": "#/$defs/Route"}
    properties["defaults"] = {"$ref": "#/$defs/Defaults", "description": "what agents have unless they say otherwise"}
    return {
        "$schema": _DRAFT,
        **schema,
        "title": "Dialplan",
        "patternProperties": {"^x-": {"description": "your own: a place for YAML anchors"}},
    }


def schema_text() -> str:
    """Return the schema as the text of a file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _need_action(step: dict[str, Any]) -> None:
    """Ask for ``action`` where it alone tells what a step is."""
    properties = step["properties"]
    if properties["action"]["const"] != "agent":
        step["required"] = ["action", *step.get("required", [])]
    properties["action"].pop("default", None)


def _is_step(schema: Any) -> bool:
    """Return whether this is the union of all steps as pydantic writes it."""
    refs = {each.get("$ref") for each in schema.get("oneOf", ())} if isinstance(schema, dict) else set()
    return {f"#/$defs/{kind.__name__}" for kind in STEPS.values()} <= refs


def _point_to_steps(schema: Any) -> None:
    """Put a reference to ``AnyStep`` in the place of every union of steps."""
    if isinstance(schema, list):
        for each in schema:
            _point_to_steps(each)
    if not isinstance(schema, dict):
        return
    if _is_step(schema):
        for key in ("oneOf", "discriminator", "default"):
            schema.pop(key, None)
        schema["$ref"] = "#/$defs/Step"
        return
    for value in schema.values():
        _point_to_steps(value)


def _route(route: dict[str, Any], step: dict[str, Any]) -> dict[str, Any]:
    """Return a route whose step is of one kind."""
    own = {key: value for key, value in route["properties"].items() if key in ROUTE_KEYS}
    return {
        "type": "object",
        "title": f"Route: {step['properties']['action']['const']}",
        "description": step.get("description", ""),
        "properties": {**own, **step["properties"]},
        "required": ["name", *step.get("required", [])],
        "additionalProperties": False,
    }


def _let_agents_inherit(definitions: dict[str, Any]) -> None:
    agent = definitions["AgentProfile"]
    agent.pop("required", None)  # it may come from another, or from the defaults
    definitions["Defaults"] = {
        **agent,
        "title": "Defaults",
        "description": "What agents have unless they say otherwise.",
    }
    definitions["AgentProfile"] = {
        **agent,
        "properties": {
            "extends": {
                "type": "string",
                "description": "name of an agent: this one has everything of it that it does not change",
            },
            **agent["properties"],
        },
    }
