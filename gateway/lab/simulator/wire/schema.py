"""
Checks of JSON values, put together from small functions: the grammar in which ``validate.py`` writes the protocol.

A check takes a value and its path (``session.audio.input.format.rate``) and raises ``ClientMistake`` at the first thing
that is wrong. Unknown keys are refused at every depth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any, str], None]

_KINDS = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


class ClientMistake(Exception):
    """
    A client event that the protocol does not allow; becomes one ``error`` event.

    Args:
        code: the API's error code, None where the service gives none.
        message: what is wrong, in words.
        param: path of the field at fault.
        is_violation: false where the client could not know better.
    """

    def __init__(self, code: str | None, message: str, param: str | None = None, *, is_violation: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.is_violation = is_violation


def join(path: str, key: str) -> str:
    """Return the path of a key in the object at ``path``; the root's path is empty."""
    return f"{path}.{key}" if path else key


def _kind_of(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)


def _expect(value: Any, kind: type, path: str) -> None:
    # bool is an int to Python, not to JSON.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        message = f"Invalid type for '{path}': expected {_KINDS[kind]}, but got {_kind_of(value)} instead."
        raise ClientMistake("invalid_type", message, path)


def invalid_value(value: Any, path: str, supported: tuple[Any, ...]) -> ClientMistake:
    """Return the complaint about a value outside its set."""
    known = ", ".join(f"'{each}'" for each in supported)
    return ClientMistake("invalid_value", f"Invalid value: '{value}'. Supported values are: {known}.", path)


def anything(value: Any, path: str) -> None:
    """Accept every value."""


def boolean(value: Any, path: str) -> None:
    """Accept true and false."""
    _expect(value, bool, path)


def text(*, longest: int | None = None) -> Check:
    """Accept a string of at most ``longest`` characters."""

    def check(value: Any, path: str) -> None:
        _expect(value, str, path)
        if longest is not None and len(value) > longest:
            message = f"Invalid '{path}': string too long. Expected at most {longest} characters, got {len(value)}."
            raise ClientMistake("string_above_max_length", message, path)

    return check


def one_of(*supported: str) -> Check:
    """Accept one of these strings."""

    def check(value: Any, path: str) -> None:
        _expect(value, str, path)
        if value not in supported:
            raise invalid_value(value, path, supported)

    return check


def _in_range(value: float, least: float | None, most: float | None, path: str, kind: str) -> None:
    if least is not None and value < least:
        message = f"Invalid '{path}': {kind} below minimum value. Expected a value >= {least}, but got {value} instead."
        raise ClientMistake(f"{kind}_below_min_value", message, path)
    if most is not None and value > most:
        message = f"Invalid '{path}': {kind} above maximum value. Expected a value <= {most}, but got {value} instead."
        raise ClientMistake(f"{kind}_above_max_value", message, path)


def integer(least: int | None = None, most: int | None = None) -> Check:
    """Accept a whole number within the limits, both included."""

    def check(value: Any, path: str) -> None:
        _expect(value, int, path)
        _in_range(value, least, most, path, "integer")

    return check


def number(least: float | None = None, most: float | None = None) -> Check:
    """Accept a number, whole or not, within the limits, both included."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            _expect(value, float, path)
        _in_range(value, least, most, path, "decimal")

    return check


def nullable(inner: Check) -> Check:
    """Accept null, or what ``inner`` accepts."""

    def check(value: Any, path: str) -> None:
        if value is not None:
            inner(value, path)

    return check


def by_kind(choices: Mapping[type, Check]) -> Check:
    """Accept what the check for the value's own JSON type accepts (a string or an object, for instance)."""
    expected = " or ".join(_KINDS[kind] for kind in choices)

    def check(value: Any, path: str) -> None:
        inner = choices.get(type(value))
        if inner is None:
            message = f"Invalid type for '{path}': expected {expected}, but got {_kind_of(value)} instead."
            raise ClientMistake("invalid_type", message, path)
        inner(value, path)

    return check


def array(inner: Check, *, least: int = 0, most: int | None = None) -> Check:
    """Accept an array of ``least`` to ``most`` values, each accepted by ``inner``."""

    def check(value: Any, path: str) -> None:
        _expect(value, list, path)
        if len(value) < least or (most is not None and len(value) > most):
            span = f"{least}" if least == most else f"{least} to {most if most is not None else 'any number of'}"
            message = f"Invalid '{path}': expected an array with {span} entries, but got {len(value)}."
            raise ClientMistake("invalid_value", message, path)
        for index, entry in enumerate(value):
            inner(entry, f"{path}[{index}]")

    return check


def keyed(*, most: int, longest_key: int, value: Check) -> Check:
    """Accept an object with free keys, as ``metadata`` is."""

    def check(mapping: Any, path: str) -> None:
        _expect(mapping, dict, path)
        if len(mapping) > most:
            raise ClientMistake("invalid_value", f"Invalid '{path}': more than {most} pairs.", path)
        for key, entry in mapping.items():
            if len(key) > longest_key:
                raise ClientMistake("invalid_value", f"Invalid '{path}': key longer than {longest_key}.", path)
            value(entry, join(path, key))

    return check


def record(optional: Mapping[str, Check], *, required: Mapping[str, Check] | None = None) -> Check:
    """Accept an object with these keys and no other."""
    wanted = dict(required or {})
    fields = wanted | dict(optional)

    def check(value: Any, path: str) -> None:
        _expect(value, dict, path)
        for key in value:
            if key not in fields:
                raise ClientMistake("unknown_parameter", f"Unknown parameter: '{join(path, key)}'.", join(path, key))
        for key in wanted:
            if key not in value:
                raise missing(join(path, key))
        for key, entry in value.items():
            fields[key](entry, join(path, key))

    return check


def missing(path: str) -> ClientMistake:
    """Return the complaint about a field that must be there."""
    return ClientMistake("missing_required_parameter", f"Missing required parameter: '{path}'.", path)


def tagged(tag: str, kinds: Mapping[str, Check]) -> Check:
    """Accept an object whose ``tag`` says which of ``kinds`` it is; those must accept the tag as a field too."""

    def check(value: Any, path: str) -> None:
        _expect(value, dict, path)
        if tag not in value:
            raise missing(join(path, tag))
        name = value[tag]
        _expect(name, str, join(path, tag))
        if name not in kinds:
            raise invalid_value(name, join(path, tag), tuple(kinds))
        kinds[name](value, path)

    return check
