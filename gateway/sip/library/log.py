"""
The library's own log lines, into ours: short, without secrets, and each kind of line now and then only.

A stranger can make the library write a line for each packet, with the whole packet in it: kilobytes of numbers, keys
and passwords. The first line tells what went wrong.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict

import structlog

from gateway.sip.core.ladder import masked
from gateway.sip.core.message import clean
from gateway.sip.library.pj import pj

_pjsip_log = structlog.get_logger("pjsip")
_DEBUG = 4  # from here on the operator has asked for everything
_MOST_CHARACTERS = 300
_EVERY_S = 10.0
_KINDS = 64
_VARIABLE = re.compile(r"'[^']*'|\"[^\"]*\"|\S*[0-9]\S*")


class LineLimit:
    """Lets a line of each kind through once in ``_EVERY_S``; numbers and what is quoted make no other kind."""

    def __init__(self) -> None:
        self._kinds: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, line: str, now: float) -> int:
        """Return how many lines of this kind this one represents; 0 if it is not to be written now."""
        kind = _VARIABLE.sub("#", line)
        since, held_back = self._kinds.pop(kind, (-_EVERY_S, 0))
        due = now - since >= _EVERY_S
        self._kinds[kind] = (now, 0) if due else (since, held_back + 1)
        if len(self._kinds) > _KINDS:
            self._kinds.popitem(last=False)
        return held_back + 1 if due else 0


def first_line(text: str) -> str:
    """Return the first line of what the library wrote, fit for every reader."""
    line = text.strip().partition("\n")[0][:_MOST_CHARACTERS]
    return clean(masked(line).strip())


class PjLog(pj.LogWriter):
    """Takes PJSIP's lines. Those of its other threads are handed over on ``sip`` too."""

    # What PJSIP calls an error is mostly a peer's: an offer without a codec of ours, a connection that broke.
    _LEVELS = ("error", "warning", "info", "info", "debug", "debug", "debug")

    def __init__(self) -> None:
        super().__init__()
        self._limit = LineLimit()

    def write(self, entry: pj.LogEntry) -> None:
        """Write a line of the library."""
        write = getattr(_pjsip_log, self._LEVELS[min(entry.level, 6)])
        if entry.level >= _DEBUG:
            write(masked(entry.msg.strip()).encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
            return
        line = first_line(entry.msg)
        lines = self._limit.take(line, time.monotonic())
        if lines:
            write(line, **({"lines": lines} if lines > 1 else {}))
