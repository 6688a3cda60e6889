"""Hides the numbers that a caller keyed in (card numbers, PINs) from a call's record and its stream of events."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gateway.call.events import Scalar
from gateway.call.machine.dtmf import MOST_KEYS

_SEPARATORS = r"[\s.,;:/()-]*"
_SHORTEST = 3  # digits; a shorter number may be in any text by chance
_SPOKEN = frozenset({"text", "arguments", "output", "digits", "reason", "detail", "end_detail"})
"""Fields in which such a number may be repeated."""


class KeyMask:
    """
    Hides the numbers a caller keyed in from what is written down.

    It also finds them where the agent or a tool repeats them in digits, with or without separators; numbers spelled out
    in words are not found.
    """

    def __init__(self) -> None:
        self._open: list[str] = []  # the number being pressed
        self._numbers: dict[str, None] = {}

    def press(self, digit: str) -> None:
        """Remember a key."""
        if digit.isdecimal():
            self._open.append(digit)
        if digit == "#" or len(self._open) >= MOST_KEYS:
            self.end()

    def end(self) -> None:
        """End the number: the agent has received it, and the next key begins another."""
        if len(self._open) >= _SHORTEST:
            self._numbers["".join(self._open)] = None
        self._open.clear()

    def hide(self, text: str) -> str:
        """Return the text with ``*`` for each digit of a number that was keyed in, the longest number first."""
        open_number = ["".join(self._open)] if len(self._open) >= _SHORTEST else []
        for number in sorted([*self._numbers, *open_number], key=len, reverse=True):
            text = re.sub(_SEPARATORS.join(number), lambda found: re.sub(r"\d", "*", found.group()), text)
        return text

    def hide_in(self, fields: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
        """Return the fields with those numbers hidden, in what was said, asked and found."""
        return {
            name: self.hide(text) if name in _SPOKEN and isinstance(text, str) else text
            for name, text in fields.items()
        }
