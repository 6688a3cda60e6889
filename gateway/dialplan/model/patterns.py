"""
Texts that a route compares with: exact values, prefixes, digit patterns, regular expressions.

How a text is written says what it is: ``/.../`` is a regular expression, a leading ``_`` a digit pattern, a trailing
``*`` a prefix; everything else is compared literally.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import re2

MAX_PATTERN = 512
"""Characters of a pattern in a dialplan."""

MAX_TEXT = 256
"""Characters of a value from the network that are compared; longer values match nothing but ``*``."""

PatternKind = Literal["exact", "prefix", "digits", "regex"]

_EVERYTHING = frozenset({"/.*/", "/^.*$/", "/^.*/", "/.*$/", "/.+/", "/^.+$/"})
_SETS = {"X": frozenset("0123456789"), "Z": frozenset("123456789"), "N": frozenset("23456789")}
_LITERAL = frozenset("0123456789+*#")
_NO_GROUPS: Mapping[str, str] = {}


def _regex_options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20  # bounds what x{1000}{1000} may become
    return options


_OPTIONS = _regex_options()


@dataclass(frozen=True, slots=True)
class Pattern:
    """
    One compiled text of a route.

    Attributes:
        text: as it was written.
        kind: what it is.
        head: what every value that fits begins with; for ``exact`` all of it.
        classes: ``digits``: the characters allowed at each position.
        tail: ``digits``: ``.`` one more character or several, ``!`` any number of them, or nothing.
        groups: ``regex``: names of its groups.
    """

    text: str
    kind: PatternKind
    head: str = ""
    classes: tuple[frozenset[str], ...] = ()
    tail: str = ""
    groups: tuple[str, ...] = ()
    _compiled: re.Pattern[str] | None = field(default=None, compare=False, repr=False)

    def match(self, value: str) -> Mapping[str, str] | None:
        """Return the named groups when ``value`` fits as a whole; None when it does not. Takes linear time."""
        if self.kind == "exact":
            return _NO_GROUPS if value == self.text else None
        if self.kind == "prefix":
            return _NO_GROUPS if value.startswith(self.head) else None
        if len(value) > MAX_TEXT or self._compiled is None:
            return None
        found = self._compiled.fullmatch(value)
        if found is None:
            return None
        return {name: text or "" for name, text in found.groupdict().items()} if self.groups else _NO_GROUPS

    def covers(self, other: Pattern) -> bool:
        """Return whether everything that ``other`` fits, this one fits too; False where that is not known."""
        if self.text == other.text or (self.kind == "prefix" and not self.head):
            return True
        if other.kind == "exact":
            return self.match(other.text) is not None
        if self.kind == "prefix":
            return other.kind != "regex" and other.head.startswith(self.head)
        if self.kind == "digits" and other.kind == "digits":
            return _digits_cover(self, other)
        return self.text in _EVERYTHING and ("*" in self.text or other.kind == "digits")

    def __str__(self) -> str:
        return self.text


def _digits_cover(wide: Pattern, narrow: Pattern) -> bool:
    least_more = {"": 0, ".": 1, "!": 0}
    length = len(wide.classes)
    if not wide.tail:
        if narrow.tail or len(narrow.classes) != length:
            return False
    elif len(narrow.classes) + least_more[narrow.tail] < length + least_more[wide.tail]:
        return False
    if len(narrow.classes) < length:  # its tail stands where this one has a class
        return False
    return all(ours >= theirs for ours, theirs in zip(wide.classes, narrow.classes, strict=False))


@lru_cache(maxsize=16_384)
def parse_pattern(text: str) -> Pattern:
    """
    Compile one text of a route.

    Raises:
        ValueError: it can match nothing or cannot be read; says what is wrong with it.
    """
    if not text:
        raise ValueError("is empty; leave it out, or write * for any value")
    if len(text) > MAX_PATTERN:
        raise ValueError(f"has more than {MAX_PATTERN} characters")
    if len(text) > 1 and text.startswith("/"):
        return _parse_regex(text)
    if text.startswith("_"):
        return _parse_digits(text)
    if text.endswith("*"):
        return Pattern(text, "prefix", text[:-1])
    return Pattern(text, "exact", text)


def _parse_regex(text: str) -> Pattern:
    if len(text) < 3 or not text.endswith("/"):
        raise ValueError(f"{text!r} starts a regular expression; end it with / too: /^...$/")
    source = text[1:-1]
    try:
        compiled = re2.compile(source, _OPTIONS)
    except re2.error as error:
        detail = error.args[0] if error.args else "unknown"
        words = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)
        raise ValueError(f"{text!r} is not a regular expression that runs in linear time (RE2): {words}") from None
    return Pattern(text, "regex", groups=tuple(compiled.groupindex), _compiled=compiled)


def _parse_digits(text: str) -> Pattern:
    classes: list[frozenset[str]] = []
    body, tail = (text[1:-1], text[-1]) if text[-1] in ".!" else (text[1:], "")
    position = 0
    while position < len(body):
        sign = body[position].upper()
        if sign == "[":
            end = body.find("]", position)
            if end < 0:
                raise ValueError(f"{text!r} has [ without ]")
            classes.append(_class(body[position + 1 : end], text))
            position = end + 1
            continue
        if sign not in _SETS and sign not in _LITERAL:
            raise ValueError(
                f"{text!r} has {body[position]!r}; a digit pattern takes 0-9 + * #, X (0-9), Z (1-9), N (2-9), [2-5], "
                "and at its end . (one character or more) or ! (any number)"
            )
        classes.append(_SETS.get(sign, frozenset(sign)))
        position += 1
    if not classes and not tail:
        raise ValueError(f"{text!r} is a digit pattern without digits")
    head = ""
    for each in classes:
        if len(each) != 1:
            break
        head += next(iter(each))
    source = "".join(f"[{re.escape(''.join(sorted(each)))}]" for each in classes)
    compiled = re.compile(source + {"": "", ".": ".+", "!": ".*"}[tail], re.DOTALL)
    return Pattern(text, "digits", head, tuple(classes), tail, _compiled=compiled)


def _class(inside: str, text: str) -> frozenset[str]:
    """Return the characters of ``[15-9]``."""
    found: set[str] = set()
    for first, last in re.findall(r"([0-9+*#])(?:-([0-9]))?", inside):
        if last and not first <= last:
            raise ValueError(f"{text!r} has the range {first}-{last}; the smaller digit comes first")
        found |= {chr(code) for code in range(ord(first), ord(last or first) + 1)}
    if not found or re.fullmatch(r"([0-9+*#](-[0-9])?)+", inside) is None:
        raise ValueError(f"{text!r} has [{inside}]; give digits or ranges such as [15-9]")
    return frozenset(found)
