from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialplan.model.patterns import MAX_TEXT, parse_pattern

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("pattern", "fits", "differs"),
    [
        ("1000", ["1000"], ["10000", "", "100"]),
        ("+49*", ["+49", "+4930"], ["+48", "049"]),
        ("*", ["", "x"], []),
        ("*98", ["*98"], ["98", "x98"]),
        ("_1NXXNXXXXXX", ["12125550100"], ["11125550100", "1212555010", "121255501000", "1212555010x"]),
        ("_ZX", ["10", "99"], ["01", "1"]),
        ("_[15-7]!", ["1", "6", "5abc"], ["2", "8", ""]),
        ("_0.", ["00", "0x"], ["0", "1"]),
        ("_xzn", ["012"], ["001", "010"]),
        (r"/^\+49\d+$/", ["+4930"], ["+49", "x+4930", "+4930x"]),
        ("/a|b/", ["a", "b"], ["ab", "xa"]),
        ("/(?i)spring/", ["SPRING"], ["springs"]),
    ],
)
def test_a_pattern_fits_whole_values(pattern: str, fits: list[str], differs: list[str]) -> None:
    compiled = parse_pattern(pattern)
    assert all(compiled.match(value) is not None for value in fits)
    assert not any(compiled.match(value) is not None for value in differs)


def test_named_groups_are_returned_and_those_without_a_part_are_empty() -> None:
    pattern = parse_pattern(r"/(?P<a>\d)|(?P<b>x)/")
    assert pattern.groups == ("a", "b")
    assert pattern.match("7") == {"a": "7", "b": ""}


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "is empty"),
        ("/abc", "end it with / too"),
        ("//", "end it with /"),
        ("/(/", "missing )"),
        (r"/(a)\1/", "linear time"),
        ("/(?=a)/", "linear time"),
        ("/(?:(?:x{1000}){1000}){1000}/", "linear time"),
        ("_", "without digits"),
        ("_1Q", "has 'Q'"),
        ("_1.2", "has '.'"),
        ("_[12", "without ]"),
        ("_[]", "give digits"),
        ("_[9-1]", "smaller digit comes first"),
        ("x" * 600, "more than 512"),
    ],
)
def test_what_cannot_be_a_pattern_is_told(pattern: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("(", r"\(").replace(")", r"\)").replace(".", r"\.")):
        parse_pattern(pattern)


@pytest.mark.parametrize("source", ["(a+)+", "(a|a)*", "(a|aa)+", "(.*a){20}"])
def test_no_pattern_takes_longer_than_its_length_times_the_value(source: str) -> None:
    pattern = parse_pattern(f"/{source}$/")
    assert pattern.match("a" * (MAX_TEXT - 1) + "!") is None  # a back-tracking engine never comes back


def test_a_value_longer_than_any_number_matches_no_regular_expression() -> None:
    assert parse_pattern("/.*/").match("1" * (MAX_TEXT + 1)) is None
    assert parse_pattern("*").match("1" * (MAX_TEXT + 1)) is not None


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("*", "/x/"),
        ("+49*", "+4930"),
        ("+49*", "+4930*"),
        ("_1XX", "_1NX"),
        ("_1XX", "123"),
        ("_1.", "_1XX"),
        ("_1!", "_1."),
        ("_X.", "_XX."),
        ("/.*/", "+49*"),
        ("/1+/", "11"),
        ("1*", "_1XX"),
    ],
)
def test_a_wider_pattern_covers_a_narrower_one(wide: str, narrow: str) -> None:
    assert parse_pattern(wide).covers(parse_pattern(narrow))
    assert not parse_pattern(narrow).covers(parse_pattern(wide))


SIGNS = st.lists(st.sampled_from(["X", "Z", "N", "[1-3]", "1", "2", "9"]), min_size=1, max_size=3)
PATTERNS = st.one_of(
    st.tuples(SIGNS, st.sampled_from(["", ".", "!"])).map(lambda p: "_" + "".join(p[0]) + p[1]),
    st.text("129", min_size=1, max_size=3).map(lambda text: text + "*"),
    st.text("129", min_size=1, max_size=3),
)


@given(PATTERNS, PATTERNS, st.lists(st.text("1239", min_size=1, max_size=5), max_size=20))
def test_whatever_the_covered_pattern_fits_the_covering_one_fits_too(one: str, two: str, values: list[str]) -> None:
    wide, narrow = parse_pattern(one), parse_pattern(two)
    if wide.covers(narrow):
        assert all(wide.match(value) is not None for value in values if narrow.match(value) is not None)
