from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tools.output import CUT, MAX_BYTES, failed, succeeded

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("value", "output"),
    [
        ("It is open.", "It is open."),
        ({"a": [1, None, "ü"]}, '{"a":[1,null,"ü"]}'),
        (None, '{"ok":true}'),
        ("", '{"ok":true}'),
        ({}, "{}"),
        (0, "0"),
    ],
)
def test_text_is_passed_on_and_anything_else_becomes_compact_json(value: object, output: str) -> None:
    assert succeeded(value) == (output, False)


def test_a_long_answer_is_cut_with_a_notice_and_never_in_the_middle_of_a_character() -> None:
    answer = succeeded("ü" * MAX_BYTES)
    assert answer.output == "ü" * (MAX_BYTES // 2) + CUT
    assert succeeded("x" * MAX_BYTES).output == "x" * MAX_BYTES


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=50))
def test_whatever_text_comes_can_be_sent(text: str) -> None:
    for output in (succeeded(text).output, succeeded({"a": text}).output, failed(text).output):
        assert output.encode()


def test_what_json_cannot_say_is_an_error() -> None:
    with pytest.raises(TypeError):
        succeeded(object())


def test_a_failure_tells_the_model_what_went_wrong() -> None:
    answer = failed("no such order", answer="404")
    assert answer.failed
    assert json.loads(answer.output) == {"error": "no such order", "answer": "404"}
