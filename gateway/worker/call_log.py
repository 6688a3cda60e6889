"""
What is written down of calls, on its way to Redis and the log, limited so that a flood fills neither.

An unanswered call costs its caller nothing, and forty a second pass every other limit. So all of them are counted
(``{gateway}:unanswered:{day}`` and the metrics) but only some are written down: ``BURST`` of them, then one each
``SECONDS_EACH``. While more arrive, the notes of a new call are held back until it is answered or has lasted
``HELD_S``; if it ends earlier, they are dropped. Every ``TOLD_EVERY_S`` a log line says how many calls that were.

This is also the one place where people are taken out of what is written down (``private_notes.py``): whatever a call
notes passes ``_write``, and nothing of a call reaches Redis, or whoever reads it there, by another way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from gateway.call.end_reasons import explained
from gateway.call.events import Scalar
from gateway.call.machine.phase import Phase
from gateway.call.outcome import Fault
from gateway.call.ports import Clock, SessionStore, TimerHandle
from gateway.ids import CallId
from gateway.metrics.call_counts import CallCounts
from gateway.settings.privacy import PrivacySettings
from gateway.worker.private_notes import PrivateNotes

BURST = 60
SECONDS_EACH = 10.0
HELD_S = 2.0
TOLD_EVERY_S = 60.0

_log = structlog.get_logger(__name__)


class CallStore(SessionStore, Protocol):
    """Where notes and numbers go: ``store/calls.py``."""

    def count(self, what: str, kind: str) -> None:
        """Count one more of a kind today. Never blocks and never raises."""

    def keep_live(self, call_id: CallId, /, **fields: Scalar) -> None:
        """Keep fields of a record for as long as the call lasts. Never blocks and never raises."""

    def add(self, amounts: Mapping[str, int]) -> None:
        """Add to the metrics. Never blocks and never raises."""


@dataclass(slots=True)
class _LoggedCall:
    began: float  # monotonic seconds
    ours: bool  # placed by us
    held: list[tuple[str, Mapping[str, Scalar]]] | None  # None where notes are written as they come
    answered: bool = False


class CallLog:
    """
    A ``SessionStore`` in front of the one that writes to Redis. Thread: loop.

    Args:
        store: where notes go that are kept, and what is counted.
        clock: time.
        privacy: what of the people in a call is written down.
        notes: where notes go instead, on their way to the store.
    """

    def __init__(
        self,
        store: CallStore,
        clock: Clock,
        privacy: PrivacySettings | None = None,
        notes: SessionStore | None = None,
    ) -> None:
        self._store = store
        self._notes = store if notes is None else notes
        self._private = PrivateNotes(privacy or PrivacySettings())
        self._clock = clock
        self._calls: dict[CallId, _LoggedCall] = {}
        self._metrics = CallCounts()
        self._room, self._room_at = float(BURST), clock.monotonic()  # unanswered calls that may be written down
        self._flooded = False
        self._forgotten = Counter[str]()
        self._telling: TimerHandle | None = None

    def note(self, call_id: CallId, event: str, /, **fields: Scalar) -> None:
        """Take a note of a call; its first one has ``created_at``, its last one the state ``ended``."""
        self._store.add(self._metrics.of(call_id, event, fields))
        now = self._clock.monotonic()
        if "created_at" in fields:
            ours = fields.get("direction") == "outbound"
            self._calls[call_id] = _LoggedCall(now, ours, held=[] if self._flooded and not ours else None)
        call = self._calls.get(call_id)
        if call is None:
            self._write(call_id, event, fields)
            return
        call.answered |= "answered_at" in fields
        waits = not call.answered and now - call.began < HELD_S
        if fields.get("state") == Phase.ENDED.value:
            del self._calls[call_id]
            waits = not (call.answered or call.ours or self._is_kept(call, fields, now))
        if call.held is None:
            self._write(call_id, event, fields)
            return
        call.held.append((event, fields))
        if not waits:
            for held in call.held:
                self._write(call_id, *held)
            call.held = None

    def close(self) -> None:
        """Log what has not been logged yet. Called once, when no call is left."""
        if self._telling is not None:
            self._telling.cancel()
            self._tell()

    def _is_kept(self, call: _LoggedCall, fields: Mapping[str, Scalar], now: float) -> bool:
        """Count a call that ended unanswered; return whether there is room for it."""
        reason, code = fields.get("end_reason", "unknown"), fields.get("sip_code", "")
        self._store.count("unanswered", f"{reason} {code}".strip())
        self._room = min(BURST, self._room + (now - self._room_at) / SECONDS_EACH)
        self._room_at, self._flooded = now, self._room < 1
        self._room -= not self._flooded
        kept = call.held is None or not self._flooded
        if not kept:
            self._forgotten[f"{reason}_{code}".strip("_")] += 1
            if self._telling is None:
                self._telling = self._clock.call_later(TOLD_EVERY_S, self._tell)
        return kept

    def _tell(self) -> None:
        self._telling = None
        total = self._forgotten.total()
        _log.warning("unanswered_calls_not_written_down", total=total, **dict(self._forgotten.most_common()))
        self._forgotten.clear()

    def _write(self, call_id: CallId, event: str, fields: Mapping[str, Scalar]) -> None:
        if event == "answer_missing":
            self._store.count("answers_missing", str(fields.get("why", "")))
        mode = self._private.mode(call_id, fields)
        if mode == "counts":
            fields = self._private.counts(fields)
            self._store.keep_live(call_id, **fields)
        else:
            fields = fields if mode == "full" else self._private.shortened(call_id, fields)
            self._notes.note(call_id, event, **fields)
        if "state" in fields and event != Phase.ROUTING.value:
            _log.info("call_state", call_id=call_id, **fields, **_advice(fields))


def _advice(fields: Mapping[str, Scalar]) -> dict[str, str]:
    """Return what the log adds to the end of a call that is somebody's fault."""
    fault = str(fields.get("fault", Fault.NOBODY))
    return {} if fault == Fault.NOBODY else {"advice": explained(str(fields.get("end_reason")), fault)}
