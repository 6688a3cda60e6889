"""What stands below the parameters of a webhook, by the core schema of YAML 1.2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.dialplan.read.loader import load_dialplan
from gateway.errors import DialplanError

pytestmark = pytest.mark.unit

HEAD = """\
x-shared: &shared {minimum: 1, maximum: 9}
x-hook: &hook {description: x, url: https://h/x, parameters: {type: object, properties: {n: {const: 7}}}}
agents:
  a:
    instructions: x
    tools:
      webhooks:
"""
TAIL = """
  b: {extends: a}
routes: [{name: all, agent: a}]
"""


def hook(parameters: str) -> str:
    return f"        - {{name: t, description: '5', url: https://h/x, parameters: {parameters}}}"


def parameters_of(file: Path, parameters: str, agent: str = "a") -> Any:
    file.write_text(HEAD + hook(parameters) + TAIL)
    return load_dialplan(file).dialplan.agents[agent].tools.webhooks[0].parameters


def value_of(file: Path, written: str) -> Any:
    schema = f"{{type: object, properties: {{n: {{examples: [{written}]}}}}}}"
    return parameters_of(file, schema)["properties"]["n"]["examples"][0]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "plan.yaml"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *(("1", 1), ("-3", -3), ("+7", 7), ("0x1F", 31), ("0o17", 15), ("017", 17), ("0", 0)),
        *(
            ("1e3", 1000.0),
            (".5", 0.5),
            ("-1.5E-2", -0.015),
            ("1.", 1.0),
            ("+.5e+1", 5.0),
            ("12345678901234567890",) * 2,
        ),
        *(("true", True), ("True", True), ("TRUE", True), ("false", False), ("False", False), ("FALSE", False)),
        *(("null", None), ("Null", None), ("NULL", None), ("~", None)),
        *((word, word) for word in ("yes", "no", "on", "off", "y", "N", "tRUE", "nULL", "Yes", "NO", "On")),
        *(
            (word, word)
            for word in ("1_000", "0b1", "1:30", "2024-01-02", "-0x1F", "0O17", "1e", ".", "0x", "=", "1.2.3")
        ),
        *(("'1'", "1"), ('"true"', "true"), ('"null"', "null"), ("''", ""), ("!!str 5", "5"), ("!!str true", "true")),
        *(("!!str ~", "~"), ('!!int "5"', 5), ("!!int 0o17", 15), ("!!float 5", 5.0), ('!!bool "true"', True)),
        *(('"\\ud83d\\ude00"', "\U0001f600"), ('"a\\/b"', "a/b")),
    ],
)
def test_a_scalar_is_what_yaml_1_2_says(file: Path, written: str, value: object) -> None:
    found = value_of(file, written)
    expected = int(value) if written == "12345678901234567890" else value  # type: ignore[call-overload]
    assert (found, type(found)) == (expected, type(expected))


def test_an_empty_value_is_null(file: Path) -> None:
    assert parameters_of(file, "{type: object, properties: {n: {const: , default: }}}")["properties"]["n"] == {
        "const": None,
        "default": None,
    }


@pytest.mark.parametrize("style", ["flow", "block", "json"])
def test_a_schema_is_the_same_in_every_style(file: Path, style: str) -> None:
    flow = (
        "{type: object, properties: {n: {type: integer, enum: [1, 2], minimum: 1, multipleOf: .5}, "
        "on: {type: boolean, default: false}, s: {enum: [yes, 'no', \"1\"]}, u: {const: 5}}, "
        "additionalProperties: false}"
    )
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "enum": [1, 2], "minimum": 1, "multipleOf": 0.5},
            "on": {"type": "boolean", "default": False},
            "s": {"enum": ["yes", "no", "1"]},
            "u": {"const": 5},
        },
        "additionalProperties": False,
    }
    block = """
            type: object
            properties:
              n: {type: integer, enum: [1, 2], minimum: 1, multipleOf: .5}
              on: {type: boolean, default: false}
              s: {enum: [yes, 'no', "1"]}
              u:
                const: 5
            additionalProperties: false"""
    if style == "block":
        text = "        - name: t\n          description: x\n          url: https://h/x\n          parameters:" + block
        file.write_text(HEAD + text + TAIL)
        found = load_dialplan(file).dialplan.agents["b"].tools.webhooks[0].parameters
    else:
        found = parameters_of(file, flow if style == "flow" else json.dumps(schema), "b")
    assert json.dumps(found) == json.dumps(schema)


def test_anchors_merges_and_defaults_bring_values_as_they_are(file: Path) -> None:
    found = parameters_of(file, "{type: object, properties: {n: {<<: *shared, maximum: 5}, m: *shared}}")
    assert found["properties"] == {"n": {"minimum": 1, "maximum": 5}, "m": {"minimum": 1, "maximum": 9}}
    file.write_text(HEAD + "        - {<<: *hook, name: t}" + TAIL)
    assert load_dialplan(file).dialplan.agents["a"].tools.webhooks[0].parameters["properties"] == {"n": {"const": 7}}
    file.write_text(
        "defaults: {tools: {webhooks: [{name: t, description: x, url: https://h/x, timeout_s: 5, "
        "parameters: {type: object, properties: {n: {const: 7}}}}]}}\n"
        "agents: {a: {instructions: x}}\nroutes: [{name: all, agent: a}]\n"
    )
    webhook = load_dialplan(file).dialplan.agents["a"].tools.webhooks[0]
    assert (webhook.parameters["properties"], webhook.timeout_s) == ({"n": {"const": 7}}, 5)


def test_outside_of_a_schema_everything_is_still_the_text_that_was_written(file: Path) -> None:
    file.write_text(
        "agents: {parameters: {instructions: yes, greeting: 0x1F}}\n"
        "routes: [{name: 007, match: {to: 0123}, metadata: {parameters: true}, agent: parameters}]\n"
    )
    plan = load_dialplan(file).dialplan
    assert (plan.agents["parameters"].instructions, plan.agents["parameters"].greeting) == ("yes", "0x1F")
    assert (plan.routes[0].name, plan.routes[0].metadata["parameters"]) == ("007", "true")


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("n: {maximum: .inf}", "8:110: {at}.properties.n.maximum: .inf is not a number in JSON"),
        ("n: {maximum: -.INF}", "8:110: {at}.properties.n.maximum: -.INF is not a number in JSON"),
        ("n: {default: .nan}", "8:110: {at}.properties.n.default: .nan is not a number in JSON"),
        ("n: {maximum: 1e999}", "8:110: {at}.properties.n.maximum: '1e999' is too large for a number in JSON"),
        (f"n: {{maximum: {'9' * 400}}}", "8:110: {at}.properties.n.maximum: '" + "9" * 40 + "...' is too large"),
        (f"n: {{maximum: {'9' * 5000}}}", "8:110: {at}.properties.n.maximum: '" + "9" * 40 + "...' is too large"),
        (f"n: {{maximum: 0x{'f' * 5000}}}", "8:110: {at}.properties.n.maximum: '0x" + "f" * 38 + "...' is too large"),
        ("n: {maximum: !!int x}", "8:110: {at}.properties.n.maximum: 'x' is not of the type int in YAML 1.2"),
        ("n: {default: !!bool yes}", "8:110: {at}.properties.n.default: 'yes' is not of the type bool in YAML 1.2"),
        ("n: {default: !!float 1_0}", "8:110: {at}.properties.n.default: '1_0' is not of the type float in YAML 1.2"),
        ("n: {default: !!binary eA==}", "8:110: {at}.properties.n.default: the tag tag:yaml.org,2002:binary"),
        ("1: {}", '8:97: {at}.properties: a key in JSON is text; write it in quotes: "1"'),
        ("true: {}", '8:97: {at}.properties: a key in JSON is text; write it in quotes: "true"'),
        ("~: {}", '8:97: {at}.properties: a key in JSON is text; write it in quotes: "~"'),
        ("n: {minimum: 1, minimum: 2}", "8:113: {at}.properties.n.minimum: written twice (first in line 8)"),
        ("? [n]\n: {}", "8:99: {at}.properties: a key must be plain text"),
    ],
)
def test_what_json_cannot_say_is_told_with_its_place(file: Path, written: str, problem: str) -> None:
    with pytest.raises(DialplanError) as caught:
        parameters_of(file, f"{{type: object, properties: {{{written}}}}}")
    (mistake,) = caught.value.mistakes
    expected = problem.replace("{at}", "agents.a.tools.webhooks[0].parameters")
    assert str(mistake).removeprefix(f"{file}:").startswith(expected), str(mistake)
