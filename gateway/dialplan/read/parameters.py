"""
The JSON Schema of a tool's arguments: what makes it useless, each with its path in the schema.

Two parties read it: the gateway checks arguments by it (JSON Schema 2020-12), and the service, which takes less, shows
it to the model. What only some services refuse is a remark.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from gateway.dialplan.model.fields import PlanPath
from gateway.dialplan.read.messages import Finding, did_you_mean

MAX_CHARACTERS = 65_536
"""Of the schema as JSON: more than the model could read beside its instructions."""
MAX_DEPTH = 40
MAX_TOLD = 50

TYPES = ("object", "string", "integer", "number", "boolean", "array", "null")
_NOT_AT_THE_ROOT = ("anyOf", "oneOf", "allOf", "enum", "not")  # refused by OpenAI, also beside `type: object`
_IN_PLACE = frozenset({"not", "if", "then", "else", "allOf", "anyOf", "oneOf", "dependentSchemas"})
"""Keywords whose schemas hold for the same value as the schema around them."""
_ONE = frozenset(
    {
        *("not", "if", "then", "else", "items", "contains", "additionalProperties", "propertyNames"),
        *("contentSchema", "unevaluatedItems", "unevaluatedProperties"),
    }
)
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})
_REFERENCES = frozenset({"$ref", "$dynamicRef"})
_META = Draft202012Validator(Draft202012Validator.META_SCHEMA)


class _Subschema(NamedTuple):
    """A schema inside another."""

    path: PlanPath
    schema: Mapping[str, Any]
    around: Mapping[str, Any] | None = None
    """The schema around it, where both hold for the same value."""
    ids: tuple[Mapping[str, Any], ...] = ()
    """Schemas around it, and itself, that have an ``$id`` which references start from; the outermost first."""


def parameter_mistakes(schema: object) -> list[Finding]:
    """
    Return what is wrong with the schema of a tool's arguments; nothing when it can be used.

    Mistakes come by kind: what is not JSON, or too large, is not checked any further, and references are followed
    in what is a JSON Schema.
    """
    found = list(_json_mistakes(schema, ()))
    if not found and len(json.dumps(schema)) > MAX_CHARACTERS:
        found = [
            Finding((), f"the schema has more than {MAX_CHARACTERS} characters; that is more than a model can use")
        ]
    if not found and not isinstance(schema, Mapping):
        found = [Finding((), "a schema is a mapping; write `type: object` and `properties`")]
    if found or not isinstance(schema, Mapping):
        return found[:MAX_TOLD]
    parts = list(_parts(schema))
    found = [*_root_mistakes(schema), *_part_mistakes(parts)]
    wrong = list(_meta_mistakes(schema))
    found += wrong or _reference_mistakes(schema, parts)
    return list(dict.fromkeys(found))[:MAX_TOLD]


def parameter_remarks(schema: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what is odd about a schema that can be used, or what OpenAI refuses and others may take."""
    if "properties" not in schema:
        yield Finding((), "OpenAI refuses arguments without `properties`; write `properties: {}`")
    for part in _parts(schema):
        kinds = part.schema.get("type")
        if "array" in (kinds if isinstance(kinds, list) else [kinds]) and "items" not in part.schema:
            yield Finding(part.path, "OpenAI refuses an array without `items`; say what it holds")
        properties = part.schema.get("properties", {} if not part.path else None)
        for index, name in enumerate(part.schema.get("required", ()) if properties is not None else ()):
            if name not in properties:
                yield Finding(
                    (*part.path, "required", index), f"there is no property {name!r}; {_near(name, properties)}"
                )


def _near(name: str, properties: Mapping[str, Any]) -> str:
    return did_you_mean(name, list(properties))


def _json_mistakes(value: object, path: PlanPath) -> Iterator[Finding]:
    """Yield what JSON cannot say; what Python code gives may hold anything, itself too."""
    if len(path) > MAX_DEPTH:
        yield Finding(path[:MAX_DEPTH], f"nested more than {MAX_DEPTH} levels deep; put parts of it into $defs")
    elif isinstance(value, Mapping | list):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            if isinstance(value, list) or isinstance(key, str):
                yield from _json_mistakes(inner, (*path, key))
            else:
                yield Finding(path, f"the key {key!r} is not text")
    elif (problem := _scalar_problem(value)) is not None:
        yield Finding(path, problem)


def _scalar_problem(value: object) -> str | None:
    if isinstance(value, str):
        is_unicode = value.encode("utf-8", "replace").decode() == value
        return None if is_unicode else "the text has half a surrogate pair, which is not Unicode"
    if isinstance(value, int | float):
        is_finite = abs(value) <= sys.float_info.max  # NaN is not
        return None if is_finite else "is not a number in JSON: too large, or not finite"
    return None if value is None else f"a value of the type {type(value).__name__} is not JSON"


def _root_mistakes(schema: Mapping[str, Any]) -> Iterator[Finding]:
    if schema.get("type") != "object":
        place: PlanPath = ("type",) if "type" in schema else ()
        yield Finding(place, "the schema must be that of an object; write `type: object` and `properties`")
    for key in _NOT_AT_THE_ROOT:
        if key in schema:
            yield Finding((key,), f"services refuse {key} at the root; write `properties` there, and {key} inside one")


def _meta_mistakes(schema: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield where a schema is not a JSON Schema 2020-12."""
    for error in _META.iter_errors(schema):
        path: PlanPath = tuple(error.absolute_path)
        if error.validator == "anyOf" and path[-1:] == ("type",):
            kinds = error.instance if isinstance(error.instance, list) else [error.instance]
            wrong = next((kind for kind in kinds if kind not in TYPES), error.instance)
            yield Finding(path, f"there is no type {wrong!r}; {did_you_mean(str(wrong), TYPES)}")
        else:
            words = error.message if len(error.message) <= 200 else f"{error.message[:200]}..."
            is_number = error.validator_value == "string" and isinstance(error.instance, int | float)
            yield Finding(path, f"not a JSON Schema: {words}{'; put it into quotes' if is_number else ''}")


def _parts(schema: Mapping[str, Any]) -> Iterator[_Subschema]:
    """Yield a schema and all schemas inside it, in order; not data that may look like one (``default``, ``enum``)."""
    pending = [_Subschema((), schema)]
    while pending:
        part = pending.pop()
        own_id = part.path and "$id" in part.schema  # that of the root is the start anyhow
        part = part._replace(ids=(*part.ids, part.schema)) if own_id else part
        yield part
        pending += [
            _Subschema((*part.path, *path), inner, part.schema if path[0] in _IN_PLACE else None, part.ids)
            for path, inner in reversed(list(_inner(part.schema)))
            if isinstance(inner, Mapping)
        ]


def _inner(schema: Mapping[str, Any]) -> Iterator[tuple[PlanPath, object]]:
    for key, value in schema.items():
        if key in _ONE:
            yield (key,), value
        elif key in _LISTS and isinstance(value, list):
            yield from (((key, index), each) for index, each in enumerate(value))
        elif key in _NAMED and isinstance(value, Mapping):
            yield from (((key, name), each) for name, each in value.items())


def _part_mistakes(parts: list[_Subschema]) -> Iterator[Finding]:
    for part in parts:
        if part.schema.get("enum") == []:
            yield Finding((*part.path, "enum"), "is empty: no value could ever match; name the values")
        named = part.schema.get("patternProperties")
        patterns: list[tuple[PlanPath, object]] = [(("pattern",), part.schema.get("pattern"))]
        patterns += [(("patternProperties", key), key) for key in (named if isinstance(named, Mapping) else ())]
        for path, pattern in patterns:
            if isinstance(pattern, str) and (problem := _pattern_problem(pattern)) is not None:
                yield Finding((*part.path, *path), f"{pattern[:60]!r} is not a regular expression: {problem}")


def _pattern_problem(pattern: str) -> str | None:
    try:
        re.compile(pattern)
    except RecursionError:
        return "it is nested too deeply"
    except (re.error, OverflowError) as error:
        return str(error)
    return None


def _reference_mistakes(schema: Mapping[str, Any], parts: list[_Subschema]) -> Iterator[Finding]:
    """Yield references that lead nowhere, outside, or round in a circle that no value ends."""
    places = {id(part.schema): part.path for part in reversed(parts)}
    edges: dict[int, set[int]] = {}
    for part in parts:
        if part.around is not None:
            edges.setdefault(id(part.around), set()).add(id(part.schema))
        for key in _REFERENCES & part.schema.keys():
            reference = part.schema[key]
            target, problem = _target(reference, schema, part.ids)
            if problem is None and isinstance(target, Mapping):
                edges.setdefault(id(part.schema), set()).add(id(target))
                problem = None if id(target) in places else _problem_beside(target)
            if problem is not None:
                yield Finding((*part.path, key), f"the reference {reference[:100]!r} {problem}")
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        first = next(part.path for part in parts if id(part.schema) in error.args[1])
        yield Finding(
            first, "refers to itself endlessly: no value could be checked; recurse through a property or items"
        )


def _target(reference: str, root: Mapping[str, Any], ids: tuple[Mapping[str, Any], ...]) -> tuple[object, str | None]:
    """Return what a reference leads to, or what is wrong with it."""
    if not reference.startswith("#"):
        return None, "points outside the schema, and nothing is fetched; put its content into $defs"
    try:
        resolver = Registry().resolver_with_root(DRAFT202012.create_resource(root))
        for each in ids:
            resolver = resolver.in_subresource(DRAFT202012.create_resource(each))
        target = resolver.lookup(reference).contents
    except (Unresolvable, ValueError, TypeError):  # the last two: no URI, a pointer that goes on inside a number
        return None, "points nowhere; correct it, or put what it means into $defs"
    return target, None if isinstance(target, Mapping | bool) else "points to something that is not a schema"


def _problem_beside(target: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a schema where none belongs, as under a key of the author's own."""
    parts = list(_parts(target))
    found = [*_meta_mistakes(target), *_part_mistakes(parts)]
    if any(_REFERENCES & part.schema.keys() for part in parts):
        return "points to a part with references that is not in $defs; move it there"
    return f"points to something that cannot be used: {found[0].problem}" if found else None
