"""A table that remembers the newest entries alone, so that strangers cannot fill memory. No I/O."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def keep_newest(table: OrderedDict[K, V], key: K, value: V, limit: int) -> None:
    """Put an entry in as the newest; beyond ``limit`` entries the oldest is forgotten."""
    table[key] = value
    table.move_to_end(key)
    if len(table) > limit:
        table.popitem(last=False)
