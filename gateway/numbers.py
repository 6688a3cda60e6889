"""
Telephone numbers as people and carriers write them, and as the gateway compares them.

The inside form is E.164 with a plus (``+493012345``) wherever that can be known. What cannot be (extensions, short
codes, names) stays as it was written. The rules of countries are those of the ``phonenumbers`` library.
"""

from __future__ import annotations

import re
from typing import Literal

import phonenumbers

DialFormat = Literal["e164", "national", "as_given"]

MAX_NUMBER = 64
_NUMBER = re.compile(r"\(?\+?\(?[0-9*#][0-9*# ().\-/]*")
_SEPARATORS = re.compile(r"[ ().\-/]")


def looks_like_number(text: str) -> bool:
    """Return whether ``text`` is a number to be dialled: digits, ``*``, ``#``, a plus before them, separators."""
    return len(text) <= MAX_NUMBER and _NUMBER.fullmatch(text) is not None


def is_country(code: str) -> bool:
    """Return whether ``code`` is an ISO 3166 country (two large letters) whose numbers are known."""
    return code in phonenumbers.SUPPORTED_REGIONS


def normalised(text: str, country: str | None) -> str:
    """
    Return a number in E.164 where that can be known, else as it was written, without separators.

    Args:
        text: a number, or anything else that stood in its place, which is returned as it is.
        country: whose national numbers ``text`` may be; None takes international ones alone.
    """
    number = _parsed(text, country)
    if number is None:
        return _SEPARATORS.sub("", text) if looks_like_number(text) else text
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def dialled_number(text: str, dial_format: DialFormat, country: str | None) -> str:
    """
    Return a number as a trunk wants it, without separators.

    Args:
        text: the number.
        dial_format: ``e164`` with a plus, ``national`` as it is dialled within ``country`` (foreign ones with that
            country's international prefix), or ``as_given``.
        country: of the trunk; None knows no national numbers.
    """
    number = None if dial_format == "as_given" else _parsed(text, country)
    if number is None:
        return _SEPARATORS.sub("", text)
    if dial_format == "e164" or country is None:
        return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return _SEPARATORS.sub("", phonenumbers.format_out_of_country_calling_number(number, country))


def _parsed(text: str, country: str | None) -> phonenumbers.PhoneNumber | None:
    """Return the number that ``text`` surely is: a real one of its country, not a short code or an extension."""
    if not looks_like_number(text) or "*" in text or "#" in text:
        return None
    try:
        number = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException:
        return None
    return number if phonenumbers.is_valid_number(number) else None
