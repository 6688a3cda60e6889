"""What is written down of the numbers a caller keyed in."""

from __future__ import annotations

import pytest

from gateway.call.session.key_mask import KeyMask

pytestmark = pytest.mark.unit


def pressed(*numbers: str) -> KeyMask:
    mask = KeyMask()
    for number in numbers:
        for digit in number:
            mask.press(digit)
        mask.end()
    return mask


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("Your number is 4111 1111 1111 1111.", "Your number is **** **** **** ****."),
        ('{"card": "4111111111111111"}', '{"card": "****************"}'),
        ("4-1-1-1 1-1-1-1 1-1-1-1 1-1-1-1", "*-*-*-* *-*-*-* *-*-*-* *-*-*-*"),
        ("Code 123, table 4111", "Code ***, table 4111"),
        ("Call me on 555 0100.", "Call me on 555 0100."),
    ],
)
def test_a_number_that_was_pressed_is_hidden_wherever_it_is_repeated(text: str, hidden: str) -> None:
    assert pressed("4111111111111111", "123").hide(text) == hidden


def test_a_number_is_hidden_while_it_is_still_being_pressed() -> None:
    mask = KeyMask()
    for digit in "98765":
        mask.press(digit)
    assert mask.hide("so far 98765") == "so far *****"


def test_two_digits_are_hidden_nowhere_else() -> None:
    assert pressed("12").hide("at 12 o'clock") == "at 12 o'clock"


def test_a_hash_ends_what_is_hidden_together() -> None:
    mask = KeyMask()
    for digit in "123#456":
        mask.press(digit)
    mask.end()
    assert mask.hide("123 456 and 456 and 123") == "*** *** and *** and ***"
