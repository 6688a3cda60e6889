"""
Counts a whole call: agents, turns, interruptions, tools, keys, what was said.

It counts notes, so whatever is in the record is written down in the events as well.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Mapping
from statistics import median_low

from gateway.call.events import Scalar

_COUNTED = {
    "interruption": "interruptions",
    "false_start": "interruptions_taken_back",
    "digit_pressed": "keys_pressed",
    "agent_heard": "transcript_entries",
    "caller_spoke": "transcript_entries",
    "mcp_call_began": "tool_calls",
    "tool_rejected": "tool_calls_failed",
}
"""Notes -> what there is one more of."""
_TOOL_ENDS = frozenset({"tool_finished", "mcp_call_ended"})


class Tally:
    """Counts one call. Thread: loop."""

    def __init__(self) -> None:
        self._agents: dict[str, None] = {}
        self._latencies: list[int] = []  # of turns, in order of size
        self._counts = Counter[str]()

    def take(self, name: str, fields: Mapping[str, Scalar]) -> None:
        """
        Count a note.

        Args:
            name: of the note.
            fields: what it says.
        """
        if agent := fields.get("agent"):
            self._agents[str(agent)] = None
        if name == "turn":
            insort(self._latencies, int(fields["turn_latency_ms"]))
        if name in _TOOL_ENDS:
            self._counts["tool_calls_failed"] += bool(fields.get("failed"))
        elif fields.get("tool_call_id"):
            self._counts["tool_calls"] += 1
        if name in _COUNTED and "with" not in fields:  # said to a second leg: the caller did not hear it
            self._counts[_COUNTED[name]] += 1

    def totals(self) -> dict[str, Scalar]:
        """Return what the record says of the whole call so far, named as there; what there was none of is left out."""
        totals: dict[str, Scalar] = {what: count for what, count in self._counts.items() if count}
        if self._agents:
            totals["agents"] = ", ".join(self._agents)
        if self._latencies:
            totals["turns"] = len(self._latencies)
            totals["turn_latency_median_ms"] = median_low(self._latencies)
            totals["turn_latency_worst_ms"] = self._latencies[-1]
        return totals
