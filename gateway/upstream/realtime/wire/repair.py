"""
What can be made of a message that is not as the protocol has it. No I/O.

Services leave fields out, send null or another type, cut an emoji in half. Such a message is read once more without the
places that are wrong, so that one field costs no message, and one message no call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

T = TypeVar("T")
Steps = tuple[int | str, ...]

MAX_ROUNDS = 8
"""How often a message is read again; each round shows mistakes that the previous one hid."""


@dataclass(frozen=True, slots=True)
class Oddity:
    """
    Something in a message that is not as the protocol has it; nothing of what was said is repeated.

    Attributes:
        event_type: of the message; empty if it is no event.
        place: the field (``response.output.*.content``); empty for the message as a whole.
        problem: what is wrong, in words.
    """

    event_type: str
    place: str
    problem: str


class NoEvent(ValueError):
    """A message that is no JSON object with a type; the text says which of these."""


def read_leniently(text: str | bytes) -> dict[str, Any]:
    """
    Read a message whose characters may be broken; those that are become ``?`` or U+FFFD.

    Raises:
        NoEvent: it is no JSON, no object, or has no type.
    """
    try:
        event = json.loads(text.decode("utf-8-sig", "replace") if isinstance(text, bytes) else text)
    except (ValueError, RecursionError):  # RecursionError: nested a thousand deep
        raise NoEvent("not JSON") from None
    if not isinstance(event, dict):
        raise NoEvent("not a JSON object")
    if not isinstance(event.get("type"), str):
        raise NoEvent("no type")
    return event


def repair(event: dict[str, Any], validate: Callable[[bytes], T]) -> tuple[T | None, tuple[Oddity, ...]]:
    """
    Validate an event without the places that are wrong, which are taken out of it.

    Args:
        event: a JSON object with a type; changed.
        validate: makes a typed event of JSON, or raises ``ValidationError`` with places that begin with the type.

    Returns:
        The typed event, None where it lacks what it must have; and what was wrong.
    """
    odd: list[Oddity] = []
    for _ in range(MAX_ROUNDS):
        try:
            return validate(_encode(event)), tuple(odd)
        except ValidationError as error:
            mistakes = error.errors(include_url=False, include_input=False)
        except RecursionError:
            break
        wrong = {_place_of(event, mistake["loc"][1:]): mistake for mistake in mistakes}
        inmost = [place for place in wrong if not any(place == other[: len(place)] != other for other in wrong)]
        odd += [_oddity(event["type"], place, wrong[place]) for place in inmost]
        if inmost == [()]:
            break
        for place in sorted(inmost, key=_last_first, reverse=True):
            _take_out(event, place)
    return None, tuple(odd)


def _encode(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode("utf-8", "replace")


def _place_of(event: object, steps: Sequence[int | str]) -> Steps:
    """Return the steps that exist in ``event``; pydantic puts the members of a union in between."""
    place: list[int | str] = []
    here: Any = event
    for step in steps:
        exists = step in here if isinstance(here, dict) else isinstance(here, list) and isinstance(step, int)
        if exists:
            here = here[step]
            place.append(step)
    return tuple(place)


def _oddity(event_type: str, place: Steps, mistake: Mapping[str, Any]) -> Oddity:
    missing = (mistake["loc"][-1],) if mistake["type"] == "missing" else ()
    # Numbers of elements go, and so do details such as an offset: a kind of mistake is to look the same each time.
    steps = ("*" if isinstance(step, int) else step for step in (*place, *missing))
    return Oddity(event_type, ".".join(steps), mistake["msg"].partition(":")[0])


def _last_first(place: Steps) -> list[tuple[int, str]]:
    return [(step, "") if isinstance(step, int) else (-1, step) for step in place]


def _take_out(event: Any, place: Steps) -> None:
    for step in place[:-1]:
        event = event[step]
    del event[place[-1]]
