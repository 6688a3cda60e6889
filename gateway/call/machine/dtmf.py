"""
The keys a caller presses: a shortcut, or a number that the agent is told.

A part of ``Talk`` and as pure.
"""

from __future__ import annotations

from typing import Final

from gateway.call.actions import CallAction, CancelTimer, StartTimer, TellAgent
from gateway.call.events import Keypad

KEYS = "keys"
"""Timer: the pause that ends a number."""

MOST_KEYS: Final = 64
"""A longer number is told in parts: whoever leans on the keys cannot fill our memory."""


class KeyCollector:
    """
    The keys of one call that were not told yet.

    Args:
        keypad: what keys do.
    """

    def __init__(self, keypad: Keypad) -> None:
        self._keypad = keypad
        self._keys: list[str] = []

    @property
    def collecting(self) -> bool:
        """A number has begun and not ended."""
        return bool(self._keys)

    def counts(self, digit: str) -> bool:
        """Return whether this key does anything now."""
        return self._keypad.to_agent or self.shortcut(digit) is not None

    def shortcut(self, digit: str) -> str | None:
        """Return whom this key transfers the caller to. A key in the midst of a number belongs to the number."""
        return None if self._keys else self._keypad.shortcuts.get(digit)

    def add(self, digit: str, *, respond: bool) -> tuple[CallAction, ...]:
        """Take a key of a number; ``#`` ends it."""
        running = (CancelTimer(KEYS),) if self._keys else ()
        self._keys.append(digit)
        if digit == "#" or len(self._keys) >= MOST_KEYS:
            return (*running, *self.tell(respond=respond))
        return (*running, StartTimer(KEYS, self._keypad.pause_s))

    def tell(self, *, respond: bool) -> tuple[CallAction, ...]:
        """Tell the agent what was pressed."""
        text = f"The caller pressed: {' '.join(self._keys)}"
        self._keys.clear()
        return (TellAgent(text, respond),)
