"""Identifiers of calls and workers."""

from __future__ import annotations

import secrets
from typing import NewType

CallId = NewType("CallId", str)
"""Ours, one per SIP call; not the SIP ``Call-ID`` header, which the other side chooses."""


def new_call_id(unix_ns: int) -> CallId:
    """Return a new id that sorts by time: 11 hex digits of Unix milliseconds (of ``unix_ns``), then 48 random bits."""
    return CallId(f"{unix_ns // 1_000_000:011x}{secrets.token_hex(6)}")
