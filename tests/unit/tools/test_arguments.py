from __future__ import annotations

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.tools.arguments import MAX_CHARACTERS, Parameters
from gateway.tools.output import ToolAnswer

pytestmark = pytest.mark.unit

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "number": {"type": "integer", "minimum": 1},
        "kind": {"enum": ["order", "return"]},
        "items": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["number"],
    "additionalProperties": False,
}


def told(text: str, schema: dict[str, Any] = SCHEMA) -> str:
    answer = Parameters(schema).read(text)
    assert isinstance(answer, ToolAnswer)
    assert answer.failed
    return str(json.loads(answer.output)["error"])


def test_right_arguments_are_read() -> None:
    assert Parameters(SCHEMA).read('{"number": 7, "items": ["a"]}') == {"number": 7, "items": ["a"]}


def test_no_text_at_all_means_no_arguments() -> None:
    assert Parameters({"type": "object", "properties": {}}).read(" ") == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"number": "x"}', "number: 'x' is not of type 'integer'"),
        ("{}", "'number' is a required property"),
        ('{"number": 0}', "number: 0 is less than the minimum of 1"),
        ('{"number": 1, "kind": "gift"}', "kind: 'gift' is not one of ['order', 'return']"),
        ('{"number": 1, "items": ["a", 2]}', "items.1: 2 is not of type 'string'"),
        ('{"number": 1, "colour": "red"}', "('colour' was unexpected)"),
        ("[1]", "not a JSON object"),
        ('{"number": 1', "not valid JSON"),
        ('{"number": 1e999}', "not valid JSON"),
        ('{"number": NaN}', "not valid JSON"),
        (f'{{"number": {"9" * 400}}}', "not valid JSON"),
        (f'{{"number": {"9" * 5000}}}', "not valid JSON"),
        ("[" * 100_000, "too long"),
        ("[" * (MAX_CHARACTERS - 1), "not valid JSON"),
    ],
)
def test_the_model_is_told_which_argument_is_wrong_and_what_was_expected(text: str, expected: str) -> None:
    assert expected in told(text)


def test_several_mistakes_are_told_at_once_but_not_without_end() -> None:
    words = told(json.dumps({"number": 0, "kind": "x", "items": list(range(50)), "more": 1}))
    assert "number: 0" in words
    assert "kind: 'x'" in words
    assert words.count(";") == 5
    assert len(told(json.dumps({"number": "x" * 10_000}))) < 400


def test_a_reference_that_leads_nowhere_is_no_exception_and_nothing_is_fetched() -> None:
    with capture_logs() as logs:
        for target in ("#/$defs/none", "http://127.0.0.1:1/schema.json"):
            assert "not set up correctly" in told('{"a": 1}', {"properties": {"a": {"$ref": target}}})
    assert [entry["event"] for entry in logs] == ["tool_schema_unusable"] * 2
