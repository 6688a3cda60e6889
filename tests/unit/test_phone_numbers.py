from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.phone_numbers import (
    NumberFormat,
    dialled_number,
    in_context,
    is_country,
    is_e164,
    looks_like_number,
    normalised,
)

pytestmark = pytest.mark.unit

FORMATS: tuple[NumberFormat | None, ...] = (None, "plus", "e164-without-plus", "national", "as-is")


@pytest.mark.parametrize(
    ("text", "country", "expected"),
    [
        ("030 12345678", "DE", "+493012345678"),
        ("+49 (0)30 / 123456-78", "DE", "+493012345678"),
        ("0049 30 12345678", "DE", "+493012345678"),
        ("0044 7700 900123", "DE", "+447700900123"),
        ("+493012345678", None, "+493012345678"),
        ("(202) 555-0142", "US", "+12025550142"),
        ("1 202 555 0142", "US", "+12025550142"),
        ("011 49 30 12345678", "US", "+493012345678"),
        ("0612345678", "IT", "+390612345678"),
        ("915550100", "ES", "+34915550100"),
        ("493012345678", "DE", "+493012345678"),
        # What cannot be known stays as it is, without separators.
        ("447700900123", "DE", "447700900123"),
        ("3012345678", "DE", "3012345678"),
        ("2079460000", "GB", "2079460000"),
        ("84951234567", "RU", "84951234567"),
        ("13232345678", "CN", "13232345678"),
        ("030 12345678", None, "03012345678"),
        ("+1 555 0100", None, "+15550100"),
        ("1000", "DE", "1000"),
        ("110", "DE", "110"),
        ("*61#", "DE", "*61#"),
        ("reception", "DE", "reception"),
        ("anonymous", None, "anonymous"),
        ("", "DE", ""),
        ("1" * 500, "DE", "1" * 500),
        ("+49\u0663\u0660", "DE", "+49\u0663\u0660"),
    ],
)
def test_numbers_are_e164_inside_wherever_that_can_be_known(text: str, country: str | None, expected: str) -> None:
    assert normalised(text, country) == expected


@pytest.mark.parametrize("country", ["DE", "AT", "CH", "FR", "GB", "US", "NL", "BR", "AU", "JP", None])
@pytest.mark.parametrize("written", FORMATS)
@pytest.mark.parametrize(
    "foreign",
    ["447700900123", "33155501234", "41446681800", "15551234567", "436641234567", "4930555012345", "819012345678"],
)
def test_a_foreign_number_without_plus_never_becomes_another(
    foreign: str, country: str | None, written: NumberFormat | None
) -> None:
    assert normalised(foreign, country, written) in (foreign, f"+{foreign}")
    for wanted in FORMATS[1:]:
        assert wanted is not None
        sent = dialled_number(foreign, wanted, country)
        assert sent in (foreign, f"+{foreign}") or normalised(sent, country, "national") == f"+{foreign}"


@pytest.mark.parametrize(
    ("written", "text", "country", "expected"),
    [
        ("plus", "+493012345678", "DE", "+493012345678"),
        ("plus", "03012345678", "DE", "03012345678"),
        ("plus", "0049301234567", "DE", "0049301234567"),
        ("e164-without-plus", "447700900123", "DE", "+447700900123"),
        ("e164-without-plus", "447700900123", None, "+447700900123"),
        ("e164-without-plus", "15551234567", "DE", "+15551234567"),
        ("e164-without-plus", "+15551234567", "DE", "+15551234567"),
        ("e164-without-plus", "03012345678", "DE", "+493012345678"),
        ("e164-without-plus", "1000", "DE", "1000"),
        ("e164-without-plus", "110", None, "110"),
        ("e164-without-plus", "2025550142", "US", "2025550142"),
        ("national", "03012345678", "DE", "+493012345678"),
        ("national", "00447700900123", "DE", "+447700900123"),
        ("national", "84951234567", "RU", "+74951234567"),
        ("national", "13232345678", "CN", "+8613232345678"),
        ("national", "447700900123", "DE", "447700900123"),
        ("as-is", "030 12345678", "DE", "03012345678"),
        ("as-is", "+493012345678", "DE", "+493012345678"),
    ],
)
def test_a_trunk_says_how_it_writes_numbers(
    written: NumberFormat, text: str, country: str | None, expected: str
) -> None:
    assert normalised(text, country, written) == expected


@pytest.mark.parametrize(
    ("text", "context", "expected"),
    [
        ("55501234", "+4930", "+493055501234"),
        ("3055501234", "+49", "+493055501234"),
        ("030 55501234", "+49", "+493055501234"),
        ("863-1234", "+1-914", "+19148631234"),
        ("1234", "+1-914-863", "+19148631234"),
        ("5550142", "+1-202", "+12025550142"),
        ("+447700900123", "+49", "+447700900123"),
        ("1000", "pbx.example", "1000"),
        ("030 55501234", "pbx.example", "03055501234"),
        ("7042", "+", "7042"),
        ("reception", "+49", "reception"),
    ],
)
def test_a_local_number_is_that_of_its_context_or_stays_as_it_is(text: str, context: str, expected: str) -> None:
    assert in_context(text, context) == expected


@given(st.text("0123456789+ *#()", max_size=16), st.sampled_from(FORMATS), st.sampled_from(["DE", "US", "ES", None]))
def test_what_is_read_ends_as_it_was_written(text: str, written: NumberFormat | None, country: str | None) -> None:
    read = normalised(text, country, written)
    bare = text.translate(str.maketrans("", "", " ()"))
    assert read in (text, bare) or (is_e164(read) and bare.endswith(read[-6:]))
    assert normalised(read, country, written) == read


@pytest.mark.parametrize(
    ("text", "wanted", "country", "expected"),
    [
        ("030 12345678", "plus", "DE", "+493012345678"),
        ("030 12345678", "e164-without-plus", "DE", "493012345678"),
        ("+15550100", "e164-without-plus", None, "15550100"),
        ("+447700900123", "e164-without-plus", "DE", "447700900123"),
        ("+493012345678", "national", "DE", "03012345678"),
        ("+12025550142", "national", "DE", "0012025550142"),
        ("+447700900123", "national", "DE", "00447700900123"),
        ("+493012345678", "national", "US", "011493012345678"),
        ("447700900123", "national", "DE", "447700900123"),
        ("447700900123", "plus", "DE", "447700900123"),
        ("030/12345678", "as-is", "DE", "03012345678"),
        ("110", "plus", "DE", "110"),
        ("*21#", "national", "DE", "*21#"),
        ("+15550100", "plus", None, "+15550100"),
    ],
)
def test_a_number_is_sent_as_the_trunk_wants_it(
    text: str, wanted: NumberFormat, country: str | None, expected: str
) -> None:
    assert dialled_number(text, wanted, country) == expected


def test_only_digits_and_what_stands_between_them_are_a_number() -> None:
    for number in ("1", "+49 30", "030/1-2.3", "*61#", "(030) 1"):
        assert looks_like_number(number), number
    for other in ("", "+", "++49", "1a", "sip:1@x", "1;ext=2", "1\n", "\u0663", "1" * 65, "-1"):
        assert not looks_like_number(other), other
    assert is_e164("+4930")
    assert not is_e164("4930")
    assert not is_e164("+a")


def test_countries_are_those_of_iso_3166() -> None:
    assert is_country("DE")
    assert is_country("GB")
    assert not is_country("UK")
    assert not is_country("de")
