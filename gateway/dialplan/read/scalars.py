"""
Plain scalars by the core schema of YAML 1.2 (section 10.3.2), which is what JSON has.

PyYAML resolves by YAML 1.1, where ``yes`` is true, ``0o17`` is text and ``1:30`` is 90. ``<<`` is kept from 1.1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from yaml.resolver import BaseResolver

_YAML = "tag:yaml.org,2002:"
_NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)


class CoreResolver(BaseResolver):
    """Gives plain scalars their tags."""


for _kind, _pattern, _first in (
    ("bool", _BOOL, "tTfF"),
    ("int", _INT, "-+0123456789"),
    ("float", _FLOAT, "-+0123456789."),
    ("null", _NULL, ["~", "n", "N", ""]),
    ("merge", re.compile(r"<<\Z"), "<"),
):
    CoreResolver.add_implicit_resolver(_YAML + _kind, _pattern, list(_first))


def json_value(tag: str, text: str) -> str | int | float | bool | None:
    """
    Return the JSON value of a scalar.

    Args:
        tag: as the resolver or the author gave it; what is neither null, bool, int nor float is text.
        text: without quotes, its escapes resolved.

    Raises:
        ValueError: the text is no such value, or JSON cannot say it; says what to write.
    """
    kind = tag.removeprefix(_YAML)
    pattern, read = _READERS.get(kind, (None, str))
    if pattern is not None and pattern.match(text) is None:
        raise ValueError(f"{_short(text)} is no {kind} of YAML 1.2; correct it or take the tag !!{kind} away")
    return read(text)


def _int(text: str) -> int:
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    try:
        number = int(text[2:] if base != 10 else text, base)
        float(number)
    except (ValueError, OverflowError):  # Python reads 4300 digits at most; JSON's readers keep doubles
        raise ValueError(f"{_short(text)} is too large for a number in JSON; write a smaller one") from None
    return number


def _float(text: str) -> float:
    if text.lower().lstrip("+-") in (".inf", ".nan"):
        raise ValueError(f"{text} is no number in JSON; write a finite one, or leave the key out")
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{_short(text)} is too large for a number in JSON; write a smaller one")
    return number


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


_READERS: Mapping[str, tuple[re.Pattern[str], Callable[[str], str | int | float | bool | None]]] = {
    "null": (_NULL, lambda text: None),
    "bool": (_BOOL, lambda text: text.lower() == "true"),
    "int": (_INT, _int),
    "float": (_FLOAT, _float),
}
