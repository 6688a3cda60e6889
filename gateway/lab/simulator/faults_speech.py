"""Faults of the answers: slow, bursty, doubled, late behind a cancel, incomplete and failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.lab.simulator.answer import Answer, Failed, Incomplete, Say
from gateway.lab.simulator.fault import Fault, count, nothing, seconds

ALWAYS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Change(Fault):
    """Fields of the first ``times`` answers that are other than the script, or the default, has them."""

    fields: Mapping[str, Any]
    times: int = ALWAYS

    def answer(self, answer: Answer, number: int) -> Answer:
        """Lay the fields over the answer."""
        return answer.model_copy(update=dict(self.fields)) if number <= self.times else answer


@dataclass(frozen=True, slots=True)
class TwoItems(Fault):
    """``two_items``: an answer has a second message, which begins before the first is done."""

    def answer(self, answer: Answer, number: int) -> Answer:
        """Add the message."""
        return answer.model_copy(update={"output": (*answer.output, Say()), "overlap": True})


def pace(value: str) -> Fault:
    """``pace=0.5``: so many seconds of speech are sent per second; below 1 the client runs dry."""
    speed = seconds(value)
    if not speed:
        raise ValueError("nothing would ever be sent; give more than 0")
    return Change({"speed": speed})


def burst(value: str) -> Fault:
    """``burst=2``: so many seconds of speech come at once, then nothing until they are due."""
    return Change({"burst_ms": int(seconds(value) * 1000)})


def think(value: str) -> Fault:
    """``think=3``: so many seconds pass from ``response.created`` to the first audio."""
    return Change({"think_ms": int(seconds(value) * 1000)})


def late_deltas(value: str) -> Fault:
    """``late_deltas=3``: a cancelled answer still sends so many; ``late_deltas=3:after``: behind ``response.done``."""
    number, _, when = value.partition(":")
    if when not in ("", "after"):
        raise ValueError("give a number, or a number:after")
    return Change({"late_deltas": count(number, 3), "late_after_done": when == "after"})


def two_items(value: str) -> Fault:
    """Read no value."""
    nothing(value)
    return TwoItems()


def fail(value: str) -> Fault:
    """``fail=rate_limit_exceeded`` or ``fail=insufficient_quota:2``: all, or the first answers, fail."""
    code, _, times = value.partition(":")
    end = Failed(status="failed", code=code or "rate_limit_exceeded")
    return Change({"end": end}, count(times, ALWAYS))


def incomplete(value: str) -> Fault:
    """``incomplete=content_filter`` or ``incomplete=max_output_tokens:1``: all, or the first, end half-way."""
    reason, _, times = value.partition(":")
    match reason:
        case "content_filter" | "max_output_tokens":
            return Change({"end": Incomplete(status="incomplete", reason=reason)}, count(times, ALWAYS))
    raise ValueError("give content_filter or max_output_tokens")
