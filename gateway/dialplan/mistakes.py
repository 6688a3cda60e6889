"""What the model says about a wrong dialplan, in words for its author."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from gateway.dialplan.model import Dialplan
from gateway.dialplan.tree import NodePath, YamlTree
from gateway.errors import Mistake

_KINDS = {
    "dict_type": "should be a mapping: lines of `key: value`",
    "model_type": "should be a mapping: lines of `key: value`",
    "tuple_type": "should be a list: lines that begin with `-`",
    "string_type": "should be text",
}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the nearest of the known words as a question, or all of them."""
    words = list(known)
    near = difflib.get_close_matches(word, words, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there is {', '.join(map(repr, words))}"


def explain(details: ErrorDetails, tree: YamlTree) -> Mistake:
    """Turn one of pydantic's errors into a mistake with its place."""
    # For a wrong key of a mapping pydantic appends "[key]" to the path.
    path: NodePath = tuple(part for part in details["loc"] if part != "[key]")
    kind, value = details["type"], details["input"]
    if kind == "extra_forbidden":
        return tree.mistake(path, f"unknown key; {did_you_mean(str(path[-1]), _keys_of(path[:-1]))}", at_key=True)
    if kind == "missing":
        return tree.mistake(path, "is missing")
    if kind == "literal_error":
        choices = _choices(details["ctx"]["expected"])
        return tree.mistake(path, f"{_quoted(value)} is not among the values; {did_you_mean(str(value), choices)}")
    if kind == "value_error":
        return tree.mistake(path, details["msg"].removeprefix("Value error, "))
    problem = _KINDS.get(kind) or details["msg"].replace("Input should", "should", 1)
    return tree.mistake(path, problem if isinstance(value, dict | list) else f"{problem}, not {_quoted(value)}")


def _quoted(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _choices(expected: str) -> list[str]:
    return expected.replace("'", "").replace(" or ", ", ").split(", ")


def _keys_of(path: NodePath) -> list[str]:
    """Return the keys the model knows at ``path``."""
    kind: Any = Dialplan
    for part in path:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = _bare(kind.model_fields[str(part)].annotation)
        else:  # dict[str, X] or tuple[X, ...]
            kind = _bare(get_args(kind)[1 if typing.get_origin(kind) is dict else 0])
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def _bare(annotation: Any) -> Any:
    """Return ``X`` for ``X | None``."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return kinds[0] if len(kinds) == 1 and type(None) in get_args(annotation) else annotation
