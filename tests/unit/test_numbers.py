from __future__ import annotations

import pytest

from gateway.numbers import DialFormat, dialled_number, is_country, looks_like_number, normalised

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "country", "expected"),
    [
        ("030 12345678", "DE", "+493012345678"),
        ("+49 (0)30 / 123456-78", "DE", "+493012345678"),
        ("0049 30 12345678", "DE", "+493012345678"),
        ("+493012345678", None, "+493012345678"),
        ("(650) 253-0000", "US", "+16502530000"),
        ("011 49 30 12345678", "US", "+493012345678"),
        # What cannot be known stays as it is, without separators.
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


@pytest.mark.parametrize(
    ("text", "dial_format", "country", "expected"),
    [
        ("030 12345678", "e164", "DE", "+493012345678"),
        ("+493012345678", "national", "DE", "03012345678"),
        ("+16502530000", "national", "DE", "0016502530000"),
        ("+493012345678", "national", "US", "011493012345678"),
        ("030/12345678", "as_given", "DE", "03012345678"),
        ("110", "e164", "DE", "110"),
        ("*21#", "national", "DE", "*21#"),
        ("+15550100", "e164", None, "+15550100"),
    ],
)
def test_a_number_is_sent_as_the_trunk_wants_it(
    text: str, dial_format: DialFormat, country: str | None, expected: str
) -> None:
    assert dialled_number(text, dial_format, country) == expected


def test_only_digits_and_what_stands_between_them_are_a_number() -> None:
    for number in ("1", "+49 30", "030/1-2.3", "*61#", "(030) 1"):
        assert looks_like_number(number), number
    for other in ("", "+", "++49", "1a", "sip:1@x", "1;ext=2", "1\n", "\u0663", "1" * 65, "-1"):
        assert not looks_like_number(other), other


def test_countries_are_those_of_iso_3166() -> None:
    assert is_country("DE")
    assert is_country("GB")
    assert not is_country("UK")
    assert not is_country("de")
