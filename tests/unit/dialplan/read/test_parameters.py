"""Schemas of tools' arguments: which are refused, where, and what is only odd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.dialplan.read.loader import load_dialplan
from gateway.dialplan.read.parameters import MAX_CHARACTERS, MAX_DEPTH, parameter_mistakes, parameter_remarks
from gateway.dialplan.read.yaml_tree import dotted
from gateway.errors import DialplanError
from gateway.tools.arguments import Parameters

pytestmark = pytest.mark.unit

_COMPOSED: dict[str, Any] = {"anyOf": [{}], "oneOf": [{}], "allOf": [{}], "enum": [{}], "not": {}}


def told(schema: object) -> list[str]:
    return [f"{dotted(each.path)}: {each.problem}" for each in parameter_mistakes(schema)]


def with_properties(**properties: object) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def nested(key: str, levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {key: schema}
    return schema


TREE = {
    "type": "object",
    "properties": {"left": {"$ref": "#/$defs/tree"}, "right": {"anyOf": [{"$ref": "#/$defs/tree"}]}},
}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {}},
        with_properties(a={"$ref": "#/$defs/b"}) | {"$defs": {"b": {"type": "integer", "minimum": 1}}},
        with_properties(a={"$ref": "#/definitions/b"}) | {"definitions": {"b": {"enum": [1, None, True, "x"]}}},
        with_properties(a={"$ref": "#/$defs/a~1b%20c"}) | {"$defs": {"a/b c": {}}},
        with_properties(a={"$ref": "#here"}) | {"$defs": {"b": {"$anchor": "here", "type": "string"}}},
        with_properties(a={"$ref": "#/properties/b"}, b={"type": "string"}),
        with_properties(a={"$ref": "#/x-mine/b"}) | {"x-mine": {"b": {"type": "string"}}},
        with_properties(a={"$ref": "#/$defs/tree"}) | {"$defs": {"tree": TREE}},
        with_properties(a={"$ref": "#"}, b={"items": {"$ref": "#"}}),
        with_properties(a={"$ref": "#/$defs/b/$defs/c"})
        | {"$defs": {"b": {"$id": "https://example.com/b", "$ref": "#/$defs/c", "$defs": {"c": {}}}}},
        {"$schema": "http://json-schema.org/draft-07/schema#", "$id": "https://example.com/x"} | with_properties(),
        with_properties(**{"$ref": {"type": "string"}, "enum": {"type": "string"}, "type": {"const": 5}}),
        with_properties(a={"const": {"$ref": "#/nowhere"}, "default": {"$ref": "http://h/s"}, "enum": [{"enum": []}]}),
        with_properties(a={"examples": [{"$ref": "#/nowhere"}], "description": "$ref"}, b=True, c=False),
        with_properties(a={"type": ["integer", "null"], "multipleOf": 0.5, "anyOf": [{"minimum": 1}, {"const": 0}]}),
        with_properties(a={"pattern": r"^\d{3}$", "patternProperties": {"^x-": {}}}),
        with_properties(a=nested("not", MAX_DEPTH - 4)),
        with_properties(a=nested("items", MAX_DEPTH - 4)),
        {"type": "object", "allOf_": 1, "if": {"required": ["a"]}, "then": {"required": ["b"]}, "properties": {}},
    ],
)
def test_a_schema_that_can_be_used_is_not_refused(schema: dict[str, Any]) -> None:
    assert told(schema) == []
    assert isinstance(Parameters(schema).read('{"z": 1}'), dict) or "if" in schema


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, [": the schema must be that of an object; write `type: object` and `properties`"]),
        ([], [": a schema is a mapping"]),
        ({"type": "array"}, ["type: the schema must be that of an object"]),
        ({"type": ["object", "null"], "properties": {}}, ["type: the schema must be that of an object"]),
        ({"$ref": "#/$defs/a", "$defs": {"a": {}}}, [": the schema must be that of an object"]),
        *(
            ({"type": "object", "properties": {}, key: value}, [f"{key}: services refuse {key} at the root"])
            for key, value in _COMPOSED.items()
        ),
        ({"anyOf": [{"type": "object"}]}, [": the schema must be that of an object", "anyOf: services refuse anyOf"]),
        (with_properties(a={"$ref": "#/$defs/b"}), ["properties.a.$ref: the reference '#/$defs/b' points nowhere"]),
        (
            with_properties() | {"$defs": {"a": {"items": {"$ref": "#/$defs/b"}}}},
            ["$defs.a.items.$ref: the reference '#/$defs/b' points nowhere"],
        ),
        (with_properties(a={"$ref": "#nowhere"}), ["properties.a.$ref: the reference '#nowhere' points nowhere"]),
        (with_properties(a={"$dynamicRef": "#x"}), ["properties.a.$dynamicRef: the reference '#x' points nowhere"]),
        (with_properties(a={"$ref": "#/type/b/c"}), ["properties.a.$ref: the reference '#/type/b/c' points nowhere"]),
        (
            with_properties(a={"$ref": "#/type"}),
            ["properties.a.$ref: the reference '#/type' points to something that is not"],
        ),
        (
            with_properties(a={"$ref": "https://example.com/s.json"}),
            ["properties.a.$ref: the reference 'https://example.com/s.json' points outside the schema, and nothing is"],
        ),
        (with_properties(a={"$ref": "other.json#/a"}), ["properties.a.$ref: the reference 'other.json#/a' points out"]),
        (
            with_properties(a={"$ref": "#/x/b"}) | {"x": {"b": {"type": "text"}}},
            [
                "properties.a.$ref: the reference '#/x/b' points to something that cannot be used: "
                "there is no type 'text'"
            ],
        ),
        (
            with_properties(a={"$ref": "#/x/b"}) | {"x": {"b": {"items": {"$ref": "#/nowhere"}}}},
            ["properties.a.$ref: the reference '#/x/b' points to a part with references"],
        ),
        (
            with_properties(a={"$ref": "#/$defs/b"}) | {"$defs": {"b": {"allOf": [{"$ref": "#/$defs/b"}]}}},
            ["$defs.b: refers to itself endlessly"],
        ),
        (with_properties() | {"$ref": "#"}, [": refers to itself endlessly"]),
        (with_properties(a={"enum": []}), ["properties.a.enum: is empty"]),
        (with_properties(a={"items": {"not": {"enum": []}}}), ["properties.a.items.not.enum: is empty"]),
        (with_properties(a={"type": "text"}), ["properties.a.type: there is no type 'text'"]),
        (
            with_properties(a={"type": ["string", "int"]}),
            ["properties.a.type: there is no type 'int'; did you mean 'integer'?"],
        ),
        (
            with_properties(a={"minLength": "1"}),
            ["properties.a.minLength: not a JSON Schema: '1' is not of type 'integer'"],
        ),
        (
            with_properties(a={"multipleOf": 0}),
            ["properties.a.multipleOf: not a JSON Schema: 0 is less than or equal to"],
        ),
        (
            with_properties(a={"description": 5}),
            ["properties.a.description: not a JSON Schema: 5 is not of type 'string'; put"],
        ),
        (with_properties() | {"required": "a"}, ["required: not a JSON Schema: 'a' is not of type 'array'"]),
        (with_properties(a=5), ["properties.a: not a JSON Schema: 5 is not of type"]),
        (with_properties(a={"pattern": "["}), ["properties.a.pattern: '[' is not a regular expression: "]),
        (with_properties(a={"pattern": "a{99999999999}"}), ["properties.a.pattern: 'a{99999999999}' is not a regular"]),
        (with_properties(a={"pattern": "(" * 5000}), ["properties.a.pattern: '(((("]),
        (
            with_properties(a={"patternProperties": {"(": {}}}),
            ["properties.a.patternProperties.(: '(' is not a regular"],
        ),
        (
            with_properties(a={"type": "text", "enum": []}, b={"pattern": "("}),
            ["properties.a.enum: ", "properties.b.pattern: ", "properties.a.type: "],
        ),
        (
            with_properties(a={"description": "x" * MAX_CHARACTERS}),
            [f": the schema has more than {MAX_CHARACTERS} char"],
        ),
        (with_properties(a=nested("items", MAX_DEPTH)), [f"{'.items' * 0}properties.a.items"]),
        (with_properties(a={"default": {1, 2}}), ["properties.a.default: a value of the type set is not JSON"]),
        (with_properties(a={"enum": ("a",)}), ["properties.a.enum: a value of the type tuple is not JSON"]),
        (with_properties(a={"maximum": float("nan")}), ["properties.a.maximum: is not a number in JSON"]),
        (with_properties(a={"maximum": 10**5000}), ["properties.a.maximum: is not a number in JSON"]),
        (with_properties(a={1: 2}), ["properties.a: the key 1 is not text"]),
        (with_properties(a={"title": "\ud83d"}), ["properties.a.title: the text has half a surrogate pair"]),
    ],
)
def test_a_schema_that_cannot_be_used_is_told_with_every_place(schema: object, expected: list[str]) -> None:
    found = told(schema)
    assert len(found) == len(expected), found
    for line, beginning in zip(found, expected, strict=True):
        assert line.startswith(beginning), found


def test_a_schema_of_python_that_holds_itself_is_too_deep() -> None:
    endless: dict[str, Any] = with_properties()
    endless["properties"]["a"] = endless
    assert "levels deep" in told(endless)[0]


def remarks(schema: dict[str, Any]) -> list[str]:
    return [f"{dotted(each.path)}: {each.problem}" for each in parameter_remarks(schema)]


def test_what_is_only_odd_is_a_remark() -> None:
    schema = with_properties(numbr={"type": "integer"}, list={"type": "array"}) | {"required": ["number"]}
    assert told(schema) == []
    assert remarks(schema) == [
        "required[0]: there is no property 'number'; did you mean 'numbr'?",
        "properties.list: OpenAI refuses an array without `items`; say what it holds",
    ]
    assert remarks({"type": "object"}) == [": OpenAI refuses arguments without `properties`; write `properties: {}`"]
    assert remarks(with_properties(a={"anyOf": [{"required": ["b"]}], "type": ["array", "null"], "items": {}})) == []


PLAN = """\
agents:
  a:
    instructions: x
    tools:
      webhooks:
        - name: t
          description: x
          url: https://h/x
          parameters:
            type: object
            properties:
              n: {type: integr}
              m:
                $ref: "#/$defs/m"
              o: {enum: []}
            required: [z]
  b: {extends: a, greeting: Hello}
routes: [{name: all, agent: b}]
"""


def test_mistakes_in_schemas_are_told_with_line_and_column_once(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN)
    with pytest.raises(DialplanError) as caught:
        load_dialplan(file)
    at = "agents.a.tools.webhooks[0].parameters.properties"
    assert [str(mistake).removeprefix(f"{file}:") for mistake in caught.value.mistakes] == [
        f"12:25: {at}.n.type: there is no type 'integr'; did you mean 'integer'?",
        f"15:25: {at}.o.enum: is empty: no value could ever match; name the values",
    ]
    file.write_text(PLAN.replace("integr}", "integer}").replace("[]", "[1]"))
    with pytest.raises(DialplanError) as caught:
        load_dialplan(file)
    (mistake,) = caught.value.mistakes
    assert str(mistake).startswith(f"{file}:14:23: {at}.m.$ref: the reference '#/$defs/m' points nowhere")
    file.write_text(PLAN.replace("integr}", "integer}").replace("[]", "[1]").replace('$ref: "#/$defs/m"', "const: 2"))
    (remark,) = load_dialplan(file).remarks
    assert str(remark).startswith(f"{file}:16:24: agents.a.tools.webhooks[0].parameters.required[0]: there is no prop")
