"""What an examination finds: one subject, how it is, and the cure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "warning", "failure", "skipped"]
"""``failure``: calls will fail. ``warning``: some will, or will soon. ``note``: worth knowing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One result.

    Attributes:
        subject: what was looked at, in a few words.
        state: how it is.
        detail: what was seen.
        cure: what to do about it; empty where there is nothing to do.
    """

    subject: str
    state: State
    detail: str
    cure: str = ""
