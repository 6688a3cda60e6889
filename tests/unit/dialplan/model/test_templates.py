from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialplan.model.templates import MAX_VALUE, TemplateFailed, Values, fill, parse_template

pytestmark = pytest.mark.unit

AT = datetime(2026, 12, 24, 10, 5, tzinfo=UTC)
VALUES = Values("+4930123", "1000", {"x-name": "Example"}, {"area": "30"}, AT, "main", "front", {"team": "north"})


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("plain {1: 2}\n", "plain {1: 2}\n"),
        ("{{ caller }}/{{ called }}/{{ trunk }}/{{ route }}", "+4930123/1000/main/front"),
        ("{{ headers['X-NAME'] }} {{ headers.x_name }}", "Example Example"),
        ("{{ headers['X-No'] }}|{{ headers['X-No'] | default('none') }}", "|none"),
        ("{% if headers['X-No'] %}a{% else %}b{% endif %}", "b"),
        ("{{ groups.area }} {{ metadata.team | upper }}", "30 NORTH"),
        ("{{ time.weekday }} {{ time.part }} {{ time.date }} {{ time.clock }}", "Thursday morning 2026-12-24 10:05"),
        ("{{ called | digits }} {{ caller[-3:] }} {{ time.hour + 1 }}", "1 0 0 0 123 11"),
        ("{{ 'x' if caller in ['+4930123'] else 'y' }}\n", "x\n"),
    ],
)
def test_places_are_filled_in(source: str, text: str) -> None:
    assert fill(source, VALUES) == text


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ calle }}", "there is no variable 'calle'"),
        ("{{", "unexpected"),
        ("a\n{% if caller %}", "line 2"),
        ("{% for x in caller %}{% endfor %}", "for is not available"),
        ("{% set x = 1 %}", "set is not available"),
        ("{{ caller.upper() }}", "a call is not available"),
        ("{{ 'a' * 999999999 }}", r"\* is not available"),
        ("{{ '%999999999d' % 1 }}", "% is not available"),
        ("{{ caller | center(999999999) }}", "no filter 'center'"),
        ("{{ caller is callable }}", "no test 'callable'"),
        ("{% include 'x' %}", "include is not available"),
        ("{% macro a() %}{% endmacro %}", "macro is not available"),
        ("{{ range(9) }}", "not available|there is no variable 'range'"),
        ("{{" + "(" * 5000 + "}}", "nested too deeply"),
        ("{{ " + "9" * 5000 + " }}", "integer"),
    ],
)
def test_what_a_template_may_not_have_is_told(source: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_template(source)


@pytest.mark.parametrize(
    "source",
    ["{{ groups.no }}", "{{ caller + 1 }}", "{{ caller.__class__ }}", "{{ caller[::0] }}", "{{ -caller }}"],
)
def test_what_cannot_be_filled_in_is_a_typed_error(source: str) -> None:
    with pytest.raises(TemplateFailed, match="cannot be filled in"):
        fill(source, VALUES)


def test_values_are_data_on_one_line_and_not_longer_than_they_may_be() -> None:
    evil = VALUES._replace(caller="{{ called }}\r\nIgnore all\x00of it\u2028" + "x" * 5000)
    text = fill("<{{ caller }}>", evil)
    assert text.startswith("<{{ called }} Ignore all of it x")
    assert len(text) == MAX_VALUE + 2


def test_in_a_uri_values_cannot_name_another_host() -> None:
    evil = VALUES._replace(called="1@evil.example;x=y?a#b c")
    assert fill("sip:{{ called }}@pbx", evil, "uri") == "sip:1%40evil.example%3Bx%3Dy%3Fa%23b%20c@pbx"
    assert fill("sip:{{ called }}@pbx", VALUES._replace(called="+4930*12"), "uri") == "sip:+4930*12@pbx"


PIECES = ["{{", "}}", "{%", "%}", "if ", "endif", "caller", "headers", "['x']", ".a", "|", "default", "(", ")", "'a'"]
PIECES += [
    "+",
    "-",
    "~",
    "1",
    "[",
    "]",
    ":",
    " ",
    "time.hour",
    "not ",
    "is ",
    "in ",
    "{#",
    "#}",
    "\n",
    "else",
    "digits",
]


@settings(max_examples=1500)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), st.text(max_size=30))
def test_any_template_with_any_value_gives_text_or_a_typed_error(source: str, value: str) -> None:
    values = VALUES._replace(caller=value, headers={"x": value})
    try:
        parse_template(source)
    except ValueError:
        return
    with contextlib.suppress(TemplateFailed):
        assert isinstance(fill(source, values), str)
