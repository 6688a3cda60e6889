"""What pydantic says about a wrong dialplan, in words for its author and at its place in the file."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from gateway.dialplan.model.fields import PlanPath
from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.model.rule import ROUTE_KEYS, Rule
from gateway.dialplan.model.steps import STEPS
from gateway.dialplan.read.source import PlanSource
from gateway.errors import Mistake

_KINDS = {
    "dict_type": "should be a mapping: lines of `key: value`",
    "model_type": "should be a mapping: lines of `key: value`",
    "model_attributes_type": "should be a mapping: lines of `key: value`",
    "tuple_type": "should be a list: lines that begin with `-`",
    "string_type": "should be text",
    "too_short": "is empty; give at least one",
}
_HINTS = {"called": "write `match: {to: ...}`", "caller": "write `match: {from: ...}`"}
_WHOLE_PLAN = ("defaults",)  # known at the top, but no field of the model


class Finding(NamedTuple):
    """
    Further checks of a plan whose parts are valid by themselves.

    Attributes:
        path: where in the plan.
        problem: what it is, and the cure.
        is_remark: the plan can be used all the same.
    """

    path: PlanPath
    problem: str
    is_remark: bool = False


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the nearest of the known words as a question, or some of them."""
    words = list(known)
    near = difflib.get_close_matches(word, words, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    if len(words) < 2:
        return f"there is only {words[0]!r}" if words else "there are none"
    more = f" and {len(words) - 12} more" if len(words) > 12 else ""
    return f"there are {', '.join(map(repr, words[:12]))}{more}"


def mistake_of(details: ErrorDetails, written: PlanSource) -> Mistake:
    """Turn one of pydantic's errors into a mistake with its place."""
    place = _place(details["loc"], written.plain)
    path, kind, value = place.path, details["type"], details["input"]
    if kind == "extra_forbidden":
        known = _keys_of(_place(details["loc"][:-1], written.plain))
        words = _HINTS.get(str(path[-1])) or did_you_mean(str(path[-1]), known)
        return written.mistake(path, f"unknown key; {words}", at_key=True)
    if kind == "missing":
        return written.mistake(path, "is missing")
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return _no_such_action(path, value, written)
    if kind == "literal_error":
        choices = _choices(details["ctx"]["expected"])
        return written.mistake(path, f"{_quoted(value)} is not among the values; {did_you_mean(str(value), choices)}")
    if kind == "value_error":
        return written.mistake(path, details["msg"].removeprefix("Value error, "))
    problem = _KINDS.get(kind) or details["msg"].replace("Input should", "should", 1)
    bare = isinstance(value, dict | list | tuple | BaseModel)
    return written.mistake(path, problem if bare else f"{problem}, not {_quoted(value)}")


def _no_such_action(path: PlanPath, value: object, written: PlanSource) -> Mistake:
    action = value.get("action") if isinstance(value, dict) else None
    if isinstance(action, str):
        return written.mistake((*path, "action"), f"unknown action {action!r}; {did_you_mean(action, STEPS)}")
    return written.mistake(path, f"does nothing; give agent: NAME, or action: with one of {', '.join(STEPS)}")


def _quoted(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _choices(expected: str) -> list[str]:
    return expected.replace("'", "").replace(" or ", ", ").split(", ")


class _Spot(NamedTuple):
    """Where pydantic's path leads: the path in the files, and the type there."""

    path: PlanPath
    kind: Any


def _place(loc: tuple[int | str, ...], plain: object) -> _Spot:
    """
    Follow pydantic's path through types and written values.

    pydantic's path has parts that were never written (tags of unions, the ``step`` of a route, the index of a value
    that was made a list), and goes on where the author wrote a short form.
    """
    path: list[str | int] = []
    kind: Any = _bare(Dialplan)
    value = plain
    for part in loc:
        if part == "[key]":
            continue
        if kind is _STEP:
            kind = STEPS.get(str(part))
            continue
        if kind is Rule and part == "step":
            kind = _STEP
            continue
        if not isinstance(value, dict | list) or kind is None:
            break
        kind, written_so = _inner(kind, part, value)
        if written_so:
            path.append(part)
            value = _at(value, part)
    return _Spot(tuple(path), kind)


def _inner(kind: Any, part: int | str, value: object) -> tuple[Any, bool]:
    """Return the type at ``part`` of a type, and whether the author wrote ``part``."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _field(kind, str(part)), True
    arguments = get_args(kind)
    if get_origin(kind) is dict:
        return _bare(arguments[1]), True
    if get_origin(kind) is tuple:
        return _bare(arguments[0]), isinstance(value, list)
    return None, False


def _at(value: object, part: int | str) -> object:
    if isinstance(value, dict):
        return value.get(part)
    return value[part] if isinstance(value, list) and isinstance(part, int) and part < len(value) else None


_STEP = object()
"""A marker for the union of all steps."""


def _field(model: type[BaseModel], name: str) -> Any:
    for field_name, field in model.model_fields.items():
        if name == (field.alias or field_name):
            return _bare(field.annotation)
    return None


def _bare(kind: Any) -> Any:
    """Return a type without ``Annotated`` and ``| None``; the union of all steps as ``_STEP``."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, UnionType):
        members = [_bare(each) for each in get_args(kind) if each is not type(None)]
        if set(STEPS.values()) <= set(members):
            return _STEP
        return members[0] if len(members) == 1 else None
    return typing.Any if isinstance(kind, str) else kind


def keys_with_steps() -> dict[str, bool]:
    """Return the keys of steps that hold other steps: True for a mapping of them, False for one or a list of them."""
    found: dict[str, bool] = {}
    for step in STEPS.values():
        for name, field in step.model_fields.items():
            kind = _bare(field.annotation)
            held = [kind, *map(_bare, get_args(kind))]
            if any(each is _STEP for each in held):
                found[name] = get_origin(kind) is dict
    return found


def _keys_of(place: _Spot) -> list[str]:
    """Return the keys the model knows at a place."""
    kind = place.kind
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return []
    keys = [field.alias or name for name, field in kind.model_fields.items()]
    if kind is Dialplan:
        keys += _WHOLE_PLAN
    if len(place.path) == 2 and place.path[0] == "agents":
        keys.append("extends")
    if len(place.path) == 2 and place.path[0] == "routes":
        keys = [*(key for key in keys if key != "step"), *sorted(ROUTE_KEYS - set(keys))]
    return keys
