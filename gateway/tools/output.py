"""What the model receives when a tool ends: short text or compact JSON, never more than it can use."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

MAX_BYTES = 16_384
"""Longer outputs are cut: every byte is read by the model, paid for, and waited for by the caller."""
CUT = " [cut here: the answer was longer than 16 kB]"


class ToolAnswer(NamedTuple):
    """A tool's output, as the model reads it."""

    output: str
    failed: bool = False


def succeeded(value: object, redact: Callable[[str], str] = str, *, cut: bool = False) -> ToolAnswer:
    """
    Return the answer of a tool that worked.

    Args:
        value: text, which is passed on as it is, or anything that JSON can say; nothing becomes ``{"ok":true}``.
        redact: takes secrets out of it, before it is cut: half a secret would not be found.
        cut: it was longer than this.

    Raises:
        TypeError: JSON cannot say it.
        ValueError: it contains itself.
    """
    if value is None or value == "":
        return ToolAnswer('{"ok":true}')
    text = redact(value if isinstance(value, str) else _compact(value))
    data = text.encode("utf-8", "replace")  # half a surrogate pair could not be sent
    if cut or len(data) > MAX_BYTES:
        return ToolAnswer(data[:MAX_BYTES].decode("utf-8", "ignore") + CUT)
    return ToolAnswer(data.decode("utf-8"))


def failed(problem: str, **more: str) -> ToolAnswer:
    """Return the answer of a tool that did not work: ``{"error": problem}``, in words that the model can act upon."""
    return ToolAnswer(_compact({"error": problem, **more}).encode("utf-8", "replace").decode("utf-8"), failed=True)


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
