"""
Texts with places to fill in: Jinja2, cut down to what cannot run away.

A template may fill in, choose (``if``) and shape values (a few filters). It has no loops, no calls, no assignments and
no multiplication, so its work and its output grow with its own length alone. Values of a call are data: they are
shortened, lose their control characters, and are never read as a template. In URIs they are percent-encoded besides; in
headers they are whole, and written so that they cannot leave the place they are put in: the caller writes the values,
and the carrier believes the header. Within a quoted string quotes are escaped; within angle brackets everything but the
plain characters of a URI is percent-encoded; the value of a parameter is a token or is put in quotes (RFC 3261 section
25.1). Anywhere else a value is written as it is, except in a header that says who calls: there it must be a token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined, Template, TemplateError, Undefined, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gateway.dialplan.model.times import DAY_NAMES
from gateway.errors import ConfigError

MAX_VALUE = 200
"""Characters of a value from the network that go into a text."""
WHOLE = 64_000
"""The same, where a value must be whole or not at all: no SIP message is so long."""
MAX_OUTPUT = 64_000
"""Characters of a text that was filled in."""

Use = Literal["text", "uri", "header"]
VARIABLES = ("caller", "called", "headers", "groups", "time", "trunk", "route", "metadata")
TIME_PARTS = ("date", "year", "month", "day", "weekday", "clock", "hour", "minute", "part", "zone")
FILTERS = ("default", "d", "lower", "upper", "title", "capitalize", "trim", "length", "int", "truncate", "digits")
TESTS = ("defined", "undefined", "none", "in", "eq", "ne", "lt", "le", "gt", "ge", "odd", "even", "lower", "upper")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_ALLOWED = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem),
    *(nodes.Slice, nodes.If, nodes.CondExpr, nodes.Filter, nodes.Test, nodes.Compare, nodes.Operand, nodes.And),
    *(nodes.Or, nodes.Not, nodes.Concat, nodes.Add, nodes.Sub, nodes.Neg, nodes.List, nodes.Tuple, nodes.Keyword),
)
_WORDS = {"For": "for", "Call": "a call", "Assign": "set", "AssignBlock": "set", "Mul": "*", "Pow": "**", "Mod": "%"}
_FAILURES = (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError)


class TemplateFailed(ConfigError):
    """A template could not be filled in for this call; says which and why."""


class Values(NamedTuple):
    """What a template is filled in with."""

    caller: str
    called: str
    headers: Mapping[str, str]
    groups: Mapping[str, str]
    at: datetime
    trunk: str
    route: str
    metadata: Mapping[str, str]
    longest: int = MAX_VALUE


class _Headers(dict[str, str]):
    """Header values by name, in upper or lower case; a missing one is empty, and ``default`` fills it."""

    def __getitem__(self, name: object) -> Any:
        found = self.get(str(name).lower().replace("_", "-"))
        return Undefined(name=str(name)) if found is None else found


_BEGIN, _END = "\x02", "\x03"  # no value holds control characters
_VALUE = re.compile(f"{_BEGIN}([^{_END}]*){_END}")
_TOKEN = re.compile(r"[A-Za-z0-9.!%*_+`'~-]*")
_SAY_WHO_CALLS = frozenset(
    {
        *("p-asserted-identity", "p-preferred-identity", "remote-party-id", "privacy", "identity", "p-served-user"),
        *("diversion", "history-info", "p-called-party-id", "p-charging-vector", "p-charge-info", "referred-by"),
        *("p-associated-uri", "p-access-network-info", "p-visited-network-id", "p-profile-key", "reply-to"),
    }
)


def marked(value: str) -> str:
    """Return a value without control characters as ``in_their_places`` will know it again."""
    return f"{_BEGIN}{value}{_END}"


def in_their_places(name: str, text: str) -> str:
    """
    Return a header with its marked values written as their places demand.

    Args:
        name: the header's name.
        text: its value.

    Raises:
        ValueError: a header that identifies the caller would have a caller's value outside of quotes and brackets.
    """
    strict = name.lower() in _SAY_WHO_CALLS
    written: list[str] = []
    place = ""
    for number, piece in enumerate(_VALUE.split(text)):
        if number % 2 == 0:
            written.append(piece)
            place = _place_after(piece, place)
        else:
            if place == "\\":  # the backslash is the template's own, and must not take the value's first character
                written.append("\\")
                place = '"'
            written.append(_written(piece, place, "".join(written[-1:]).rstrip(" "), strict=strict))
    return "".join(written)


def _place_after(literal: str, place: str) -> str:
    """Return where a text ends: in a quoted string (behind a backslash of its own), in angle brackets, or nowhere."""
    for char in literal:
        if place == "\\":
            place = '"'
        elif place == '"':
            place = {"\\": "\\", '"': ""}.get(char, place)
        elif place == "<":
            place = "" if char == ">" else place
        elif char in '"<':
            place = char
    return place


def _written(value: str, place: str, before: str, *, strict: bool) -> str:
    if place == '"':
        return value.replace("\\", "\\\\").replace('"', '\\"')
    if place == "<":
        return quote(value, safe="+-_.!~*'()")
    if _TOKEN.fullmatch(value):
        return value
    if before.endswith("="):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if strict:
        raise ValueError(
            f"{value[:40]!r} comes from the caller and would be believed; put it in quotes or brackets, or use the "
            "keys caller_id and diverted_from"
        )
    return value


def clean(value: str, longest: int = MAX_VALUE) -> str:
    """Return a value from the network on one line, without control characters, and not too long."""
    return _CONTROL.sub(" ", value[: 4 * longest]).strip()[:longest]


def _digits(value: object) -> str:
    """Return the characters one by one, as a number is read out: ``1 2 3``."""
    return " ".join(str(value))


def _encoded(value: object) -> object:
    if isinstance(value, Undefined):
        return value
    return quote(str(value), safe="+-_.!~*'()")  # RFC 3261 section 25.1: what a user part may hold as it is


def _marked(value: object) -> object:
    return value if isinstance(value, Undefined) else marked(_CONTROL.sub(" ", str(value)))


_FINALIZE: Mapping[Use, Callable[[object], object] | None] = {"text": None, "uri": _encoded, "header": _marked}


def _environment(use: Use) -> Environment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=False,
        finalize=_FINALIZE[use],
        keep_trailing_newline=True,
    )
    environment.globals.clear()
    kept = {name: environment.filters[name] for name in FILTERS if name in environment.filters}
    environment.filters = {**kept, "digits": _digits}
    environment.tests = {name: environment.tests[name] for name in TESTS if name in environment.tests}
    return environment


_ENVIRONMENTS: Mapping[Use, Environment] = {use: _environment(use) for use in _FINALIZE}


class Lookup(NamedTuple):
    """A part of a variable that a template names: ``groups.area``."""

    variable: str
    part: str


class Parsed(NamedTuple):
    """A template that may be used, and what it asks for."""

    template: Template
    lookups: tuple[Lookup, ...]


@lru_cache(maxsize=16_384)
def parse_template(source: str, use: Use = "text") -> Parsed:
    """
    Compile a template.

    Raises:
        ValueError: it cannot be read, or uses what is not available; says what, with the line in the text.
    """
    environment = _ENVIRONMENTS[use]
    try:
        tree = environment.parse(source)
        lookups = tuple(_checked(tree))
        return Parsed(environment.from_string(tree), lookups)
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        raise ValueError(f"template{f', line {line}' if line and line > 1 else ''}: {_plain(error)}") from None
    except (RecursionError, MemoryError, SyntaxError, OverflowError):  # Python's own limits
        raise ValueError("template: nested too deeply") from None


def check_template(source: str) -> str:
    """
    Return a text whose places can be filled in.

    Raises:
        ValueError: they cannot; says why.
    """
    if "{" in source:
        parse_template(source)
    return source


def check_uri_template(source: str) -> str:
    """Do the same as ``check_template`` for a text that becomes a URI."""
    if "{" in source:
        parse_template(source, "uri")
    return source


def check_header_template(source: str) -> str:
    """Do the same as ``check_template`` for a text that becomes a SIP header."""
    if "{" in source:
        parse_template(source, "header")
    return source


def fill_header(name: str, source: str, values: Values) -> str:
    """
    Return the value of a SIP header filled in, on one line.

    Raises:
        TemplateFailed: it could not be, or a value would have become a part of the header that is not its own.
    """
    text = fill(source, values, "header")
    try:
        return clean(in_their_places(name, text), WHOLE)
    except ValueError as error:
        raise TemplateFailed(f"the header {name} cannot be filled in: {error}") from None


def _plain(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _checked(tree: nodes.Template) -> Iterator[Lookup]:
    """Yield what a template looks up; raise ValueError at what is not allowed."""
    pending: list[nodes.Node] = [tree]
    while pending:
        node = pending.pop()
        if not isinstance(node, _ALLOWED):
            kind = type(node).__name__
            raise ValueError(
                f"template, line {node.lineno}: {_WORDS.get(kind, kind.lower())} is not available here; "
                "templates fill in values, choose with if, and apply filters"
            )
        if isinstance(node, nodes.Filter) and node.name not in FILTERS:
            raise ValueError(f"template: there is no filter {node.name!r}; there are {', '.join(FILTERS)}")
        if isinstance(node, nodes.Test) and node.name not in TESTS:
            raise ValueError(f"template: there is no test {node.name!r}; there are {', '.join(TESTS)}")
        if isinstance(node, nodes.Name) and node.name not in VARIABLES:
            raise ValueError(f"template: there is no variable {node.name!r}; there are {', '.join(VARIABLES)}")
        if (lookup := _lookup(node)) is not None:
            yield lookup
        pending.extend(node.iter_child_nodes())


def _lookup(node: nodes.Node) -> Lookup | None:
    if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name):
        return Lookup(node.node.name, node.attr)
    if isinstance(node, nodes.Getitem) and isinstance(node.node, nodes.Name) and isinstance(node.arg, nodes.Const):
        return Lookup(node.node.name, str(node.arg.value)) if isinstance(node.arg.value, str) else None
    return None


def fill(source: str, values: Values, use: Use = "text") -> str:
    """
    Return the text filled in; one without places is returned as it is.

    Raises:
        TemplateFailed: it could not be: a value that is not there, a sum of a word and a number.
    """
    if "{" not in source:
        return source
    try:
        text = parse_template(source, use).template.render(_variables(values))
    except _FAILURES as error:
        raise TemplateFailed(f"the template {source[:60]!r} cannot be filled in: {_plain(error)}") from None
    if len(text) > MAX_OUTPUT:
        raise TemplateFailed(f"the template {source[:60]!r} produces more than {MAX_OUTPUT} characters")
    return text


def _variables(values: Values) -> dict[str, object]:
    longest = values.longest
    return {
        "caller": clean(values.caller, longest),
        "called": clean(values.called, longest),
        "headers": _Headers({name: clean(text, longest) for name, text in values.headers.items()}),
        "groups": {name: clean(text, longest) for name, text in values.groups.items()},
        "time": time_parts(values.at),
        "trunk": clean(values.trunk),
        "route": values.route,
        "metadata": {name: clean(text, longest) for name, text in values.metadata.items()},
    }


def time_parts(at: datetime) -> dict[str, str | int]:
    """Return what ``time`` holds in a template."""
    parts = ((5, "night"), (12, "morning"), (18, "afternoon"), (22, "evening"), (24, "night"))
    return {
        "date": f"{at:%Y-%m-%d}",
        "year": at.year,
        "month": at.month,
        "day": at.day,
        "weekday": DAY_NAMES[at.weekday()],
        "clock": f"{at:%H:%M}",
        "hour": at.hour,
        "minute": at.minute,
        "part": next(word for end, word in parts if at.hour < end),
        "zone": str(at.tzinfo),
    }
