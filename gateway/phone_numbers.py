"""
Telephone numbers as people and carriers write them, and as the gateway compares them.

The inside form is E.164 with a plus (``+493012345``) wherever that can be known. What cannot be (extensions, short
codes, names, digits that may be a number of two countries) stays as it was written: a number must never become another.
The rules of countries are those of the ``phonenumbers`` library; a number that is valid in a country need not be meant
there (``447700900123`` is valid in Germany, and it is British).
"""

from __future__ import annotations

import re
from typing import Literal

import phonenumbers

NumberFormat = Literal["plus", "e164-without-plus", "national", "as-is"]
"""
How a trunk writes telephone numbers: ``+493012345678``; ``493012345678``; as they are dialled within its country
(``03012345678``, ``00442071234567``); or in a way of which nothing is assumed.
"""

MAX_NUMBER = 64
_LEAST_E164 = 8
"""Digits of the shortest number that is taken for E.164 without a plus; shorter ones are short codes and extensions."""
_NUMBER = re.compile(r"\(?\+?\(?[0-9*#][0-9*# ().\-/]*")
_SEPARATORS = re.compile(r"[ ().\-/]")


def looks_like_number(text: str) -> bool:
    """Return whether ``text`` is a number to be dialled: digits, ``*``, ``#``, a plus before them, separators."""
    return len(text) <= MAX_NUMBER and _NUMBER.fullmatch(text) is not None


def is_country(code: str) -> bool:
    """Return whether ``code`` is an ISO 3166 country (two capital letters) whose numbers are known."""
    return code in phonenumbers.SUPPORTED_REGIONS


def is_e164(text: str) -> bool:
    """Return whether ``text`` is a telephone number in the inside form."""
    return text.startswith("+") and looks_like_number(text)


def normalised(text: str, country: str | None, written: NumberFormat | None = None) -> str:
    """
    Return a number in E.164 where that can be known, else as it was written, without separators.

    Args:
        text: a number, or anything else in its place, which is returned unchanged.
        country: whose national numbers ``text`` may be; None takes international ones alone.
        written: how numbers are written where it comes from; None takes numbers with a plus, and those that are dialled
            so in ``country`` and can be nothing else.
    """
    return _e164(text, country, written) or (_SEPARATORS.sub("", text) if looks_like_number(text) else text)


def in_context(text: str, context: str) -> str:
    """
    Return a local number with its ``phone-context`` (RFC 3966 section 5.1.5) in E.164, or as it was written.

    Args:
        text: the number.
        context: the first digits of a global number (``+4930``), or a domain, of which nothing can be known.
    """
    if text.startswith("+") or not (looks_like_number(text) and is_e164(context)):
        return normalised(text, None)
    country = _country_of(context)
    # A number as it is dialled within the country comes first: carriers write +49 beside 030 55501234.
    return _e164(text, country, None) or _valid(context + _SEPARATORS.sub("", text)) or normalised(text, None)


def dialled_number(text: str, wanted: NumberFormat, country: str | None) -> str:
    """
    Return a number as a trunk wants it, without separators. What it is cannot always be known: then it goes as it is.

    Args:
        text: the number.
        wanted: how the trunk wants it; foreign numbers of ``national`` get the country's international prefix.
        country: of the trunk; None knows no national numbers.
    """
    number = None if wanted == "as-is" else _e164(text, country, None)
    if wanted == "e164-without-plus":
        return (number or _SEPARATORS.sub("", text)).removeprefix("+")
    if number is None or wanted == "plus" or country is None:
        return number or _SEPARATORS.sub("", text)
    parsed = phonenumbers.parse(number)
    return _SEPARATORS.sub("", phonenumbers.format_out_of_country_calling_number(parsed, country))


def _e164(text: str, country: str | None, written: NumberFormat | None) -> str | None:
    """Return the number that ``text`` surely is, in E.164: a real one, not a short code or an extension."""
    if not looks_like_number(text) or "*" in text or "#" in text or written == "as-is":
        return None
    digits = _SEPARATORS.sub("", text)
    if digits.startswith("+"):
        return _valid(text) or _possible(text)
    if written == "plus":
        return None
    nationally = _dialled_in(country, text, digits, surely=written == "national") if country else None
    if written != "e164-without-plus" or digits.startswith("0"):
        return nationally
    return _valid("+" + digits) or (None if nationally else _possible("+" + digits))


def _dialled_in(country: str, text: str, digits: str, *, surely: bool) -> str | None:
    """Return the number that a telephone in ``country`` reaches; not ``surely``: when it can be no other either."""
    try:
        number = phonenumbers.parse(text, country, keep_raw_input=True)
    except phonenumbers.NumberParseException:
        return None
    if number.country_code_source == phonenumbers.CountryCodeSource.FROM_NUMBER_WITH_IDD:
        e164 = _written(number)
        return _valid(e164) or _possible(e164)
    if not phonenumbers.is_valid_number(number):
        return None
    if number.country_code_source == phonenumbers.CountryCodeSource.FROM_NUMBER_WITHOUT_PLUS_SIGN:
        return _written(number)  # within the country it is no number
    national = _SEPARATORS.sub("", phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL))
    prefix = phonenumbers.ndd_prefix_for_region(country, True)
    if digits != national and not (prefix and digits.startswith(prefix)):
        return None  # the country writes it with a prefix: without one it is a number of somewhere else
    if not (surely or digits.startswith("0") or _valid("+" + digits) is None):
        return None  # a number of this country, and of another one
    return _written(number)


def _valid(text: str) -> str | None:
    """Return an international number in E.164; None when there is no such number."""
    number = _international(text)
    return _written(number) if number is not None and phonenumbers.is_valid_number(number) else None


def _possible(text: str) -> str | None:
    """Return an international number in E.164 when it is at least as long as one of its country."""
    number = _international(text)
    if number is None:
        return None
    fits = phonenumbers.is_possible_number_with_reason(number) == phonenumbers.ValidationResult.IS_POSSIBLE
    e164 = _written(number)
    return e164 if fits and len(e164) > _LEAST_E164 else None


def _international(text: str) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(text)
    except phonenumbers.NumberParseException:
        return None


def _written(number: phonenumbers.PhoneNumber) -> str:
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def _country_of(context: str) -> str | None:
    """Return the country that a global number, or the beginning of one, is of."""
    digits = _SEPARATORS.sub("", context).removeprefix("+")
    for length in range(1, min(len(digits), 3) + 1):
        region = phonenumbers.region_code_for_country_code(int(digits[:length]))
        if region != "ZZ":
            return str(region) if is_country(region) else None
    return None
