"""What the model passes to a tool, checked against the tool's JSON Schema before the tool runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import structlog
from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable

from gateway.tools.output import ToolAnswer, failed

MAX_CHARACTERS = 65_536
MAX_TOLD = 5
"""Mistakes reported at once; the model corrects these first."""

_log = structlog.get_logger(__name__)


class Parameters:
    """
    The arguments that a tool takes.

    Args:
        schema: JSON Schema (2020-12) of an object. References lead inside it only: nothing is ever fetched.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._validator = Draft202012Validator(dict(schema), registry=Registry())

    def read(self, text: str) -> dict[str, Any] | ToolAnswer:
        """Return the arguments, or what to tell the model: which one is wrong and what was expected."""
        if len(text) > MAX_CHARACTERS:
            return failed("the arguments are too long; shorten them")
        try:
            arguments = _loads(text) if text.strip() else {}
        except (ValueError, RecursionError):
            return failed("the arguments are not valid JSON; call the tool again with a JSON object")
        if not isinstance(arguments, dict):
            return failed("the arguments are not a JSON object; call the tool again with one")
        try:
            mistakes = [_told(mistake) for mistake, _ in zip(self._mistakes(arguments), range(MAX_TOLD), strict=False)]
        except (Unresolvable, RecursionError) as error:
            _log.error("tool_schema_unusable", error=str(error))
            return failed("this tool is not set up correctly and cannot be used")
        if mistakes:
            return failed("wrong arguments; correct them and call the tool again: " + "; ".join(mistakes))
        return arguments

    def _mistakes(self, arguments: dict[str, Any]) -> Iterator[ValidationError]:
        yield from self._validator.iter_errors(arguments)


def _loads(text: str) -> object:
    """Return JSON. Raises ValueError also for numbers that no double can hold: they could not be passed on as JSON."""
    return json.loads(text, parse_int=_int, parse_float=_float, parse_constant=_float)


def _int(text: str) -> int:
    _float(text)
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is no finite number")
    return number


def _told(mistake: ValidationError) -> str:
    """Return one mistake: ``order.amount: 'x' is not of type 'number'``."""
    place = ".".join(str(step) for step in mistake.absolute_path)
    words = mistake.message if len(mistake.message) <= 200 else f"{mistake.message[:200]}..."
    return f"{place}: {words}" if place else words
