"""
YAML nodes as plain values, with the place of each.

YAML guesses types (``called: 0123`` is 83, ``name: no`` is false). Here every scalar is the text that was written, and
the model's own types decide what it means; only ``null``, ``~`` and nothing at all are null. There are no such types
behind the JSON Schema of a tool's arguments: in there scalars are what the core schema of YAML 1.2 says, as in JSON.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

import yaml
from yaml.resolver import BaseResolver

from gateway.dialplan.model.fields import PlanPath
from gateway.errors import DialplanError, Mistake

MAX_DEPTH = 64
MAX_NODES = 400_000
"""Nodes of a file, also with every alias written out: a few lines of nested aliases can mean billions."""

_YAML = "tag:yaml.org,2002:"
_TEXT_TAGS = frozenset(_YAML + kind for kind in ("str", "int", "float", "bool", "timestamp", "value", "merge"))
_NO_KEYS = frozenset(_YAML + kind for kind in ("int", "float", "bool", "null"))
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")  # how JSON escapes what lies beyond U+FFFF
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def mistake_at(file: str, mark: yaml.Mark | None, problem: str, path: PlanPath = ()) -> Mistake:
    """Return a mistake at a place PyYAML tells (it counts from 0, or does not know)."""
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    return Mistake(file, line, column, dotted(path), problem)


def dotted(path: PlanPath) -> str:
    """Return a path as people write it: ``routes[0].agent``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _joined(pair: str) -> str:
    return pair.encode("utf-16", "surrogatepass").decode("utf-16")


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
        raise ValueError(f"{_short(text)} is not of the type {kind} in YAML 1.2; correct it or remove the tag !!{kind}")
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
        raise ValueError(f"{text} is not a number in JSON; write a finite one, or leave the key out")
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


class YamlTree:
    """
    Turns nodes into dict, list, str and None; in JSON Schemas also into int, float and bool.

    Args:
        file: name of the file.
        is_json: whether a path leads into JSON.

    Attributes:
        file: name of the file.
        mistakes: what cannot be turned: duplicate keys, odd tags, control characters.
    """

    def __init__(self, file: str, is_json: Callable[[PlanPath], bool] = lambda path: False) -> None:
        self.file = file
        self._is_json = is_json
        self._count = 0
        self._open: set[int] = set()
        self._values: dict[PlanPath, yaml.Mark] = {}
        self._keys: dict[PlanPath, yaml.Mark] = {}
        self.mistakes: list[Mistake] = []

    def mistake(self, path: PlanPath, problem: str, *, at_key: bool = False) -> Mistake:
        """Return a mistake at the value of ``path`` (or at its key), or at the nearest part of the file around it."""
        mark = self._keys.get(path) if at_key else None
        known = path
        while mark is None and (mark := self._values.get(known)) is None and known:
            known = known[:-1]
        return mistake_at(self.file, mark, problem, path)

    def line_of(self, path: PlanPath) -> int:
        """Return the line of the value of ``path``, from 1; 0 when it is not known."""
        mark = self._values.get(path)
        return mark.line + 1 if mark else 0

    def refuse(self, node: yaml.Node, path: PlanPath, problem: str) -> None:
        """Add a mistake at ``node``."""
        self.mistakes.append(mistake_at(self.file, node.start_mark, problem, path))

    def value(self, node: yaml.Node, path: PlanPath = (), depth: int = 0) -> object:
        """
        Return the node's value; what cannot be converted is None and added to ``mistakes``.

        Raises:
            DialplanError: aliases multiply to more than ``MAX_NODES``; there is no point in reading on.
        """
        if id(node) in self._open:
            self.refuse(node, path, "an alias inside the value it refers to")
            return None
        self._count += 1
        if self._count > MAX_NODES or depth > MAX_DEPTH:
            self.refuse(node, path, "its aliases expand to too many values, or too deep ones")
            raise DialplanError(*self.mistakes)
        self._values.setdefault(path, node.start_mark)
        self._open.add(id(node))
        try:
            return self._plain(node, path, depth)
        finally:
            self._open.discard(id(node))

    def _plain(self, node: yaml.Node, path: PlanPath, depth: int) -> object:
        if isinstance(node, yaml.MappingNode) and node.tag == _YAML + "map":
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == _YAML + "seq":
            return [self.value(item, (*path, index), depth + 1) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            text = self._scalar(node, path)
            return self._json(node, text, path) if text is not None and self._is_json(path) else text
        self.refuse(node, path, f"the tag {node.tag} has no meaning here; remove it")
        return None

    def _json(self, node: yaml.ScalarNode, text: str, path: PlanPath) -> object:
        try:
            return json_value(node.tag, text)
        except ValueError as problem:
            self.refuse(node, path, str(problem))
            return None

    def _scalar(self, node: yaml.ScalarNode, path: PlanPath) -> str | None:
        if node.tag == _YAML + "null":
            return None
        if node.tag not in _TEXT_TAGS:
            self.refuse(node, path, f"the tag {node.tag} has no meaning here; remove it")
            return None
        text = _SURROGATE_PAIR.sub(lambda pair: _joined(pair[0]), str(node.value))
        if found := _CONTROL.search(text):
            self.refuse(node, path, f"the character U+{ord(found[0]):04X} is not allowed; remove it")
            return None
        return text

    def _mapping(self, node: yaml.MappingNode, path: PlanPath, depth: int) -> dict[str, object]:
        found: dict[str, object] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == _YAML + "merge":
                merged.append(value_node)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self.refuse(key_node, path, "a key must be plain text")
                continue
            if self._is_json(path) and key_node.tag in _NO_KEYS:
                self.refuse(key_node, path, f'a key in JSON is text; write it in quotes: "{key_node.value}"')
                continue
            key = self._scalar(key_node, path) or ""
            inner = (*path, key)
            if key in found:
                first = self._keys[inner].line + 1
                self.refuse(key_node, inner, f"written twice (first in line {first}); remove one")
                continue
            self._keys.setdefault(inner, key_node.start_mark)
            found[key] = self.value(value_node, inner, depth + 1)
        for source in merged:
            self._merge(source, found, path, depth + 1)
        return found

    def _merge(self, source: yaml.Node, into: dict[str, object], path: PlanPath, depth: int) -> None:
        """Add what ``<<: *name`` or ``<<: [*one, *two]`` brings; keys that are there already win."""
        for node in source.value if isinstance(source, yaml.SequenceNode) else [source]:
            if not isinstance(node, yaml.MappingNode):
                self.refuse(node, path, "<< takes a mapping, or a list of mappings")
                continue
            brought = self.value(node, path, depth)
            if isinstance(brought, dict):
                into.update({key: value for key, value in brought.items() if key not in into})
