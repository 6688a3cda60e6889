"""Faults of how speech comes: slow, bursty, in several items at once, late behind a cancel."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.lab.simulator.answer import Say, ScriptedAnswer
from gateway.lab.simulator.faults.answers import Change
from gateway.lab.simulator.faults.fault import AnswerFault, Fault, count, nothing, seconds


@dataclass(frozen=True, slots=True)
class SecondMessage(AnswerFault):
    """``two_items``: an answer has a second message, which begins before the first is done."""

    interleave: bool = False
    backwards: bool = False

    def changed(self, answer: ScriptedAnswer) -> ScriptedAnswer:
        """Add the message."""
        fields = {"overlap": True, "interleave": self.interleave, "backwards": self.backwards}
        return answer.model_copy(update={"output": (*answer.output, Say()), **fields})


def pace(value: str) -> Fault:
    """``pace=0.5``: seconds of speech sent per second; below 1 the client runs dry."""
    speed = seconds(value)
    if not speed:
        raise ValueError("nothing would ever be sent; give more than 0")
    return Change({"speed": speed})


def burst(value: str) -> Fault:
    """``burst=2``: this many seconds of speech come at once, then nothing until they are due."""
    return Change({"burst_ms": int(seconds(value) * 1000)})


def think(value: str) -> Fault:
    """``think=3``: seconds from ``response.created`` to the first audio."""
    return Change({"think_ms": int(seconds(value) * 1000)})


def late_deltas(value: str) -> Fault:
    """``late_deltas=3``: a cancelled answer still sends this many; ``late_deltas=3:after``: after ``response.done``."""
    number, _, when = value.partition(":")
    if when not in ("", "after"):
        raise ValueError("give a number, or a number:after")
    return Change({"late_deltas": count(number, 3), "late_after_done": when == "after"})


def two_items(value: str) -> Fault:
    """Read no value."""
    nothing(value)
    return SecondMessage()


def interleaved(value: str) -> Fault:
    """Read no value."""
    nothing(value)
    return SecondMessage(interleave=True)


def backwards(value: str) -> Fault:
    """Read no value."""
    nothing(value)
    return SecondMessage(backwards=True)
