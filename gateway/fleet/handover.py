"""
What a supervisor hands to the program that it becomes by ``exec``: the same process and children, with new code.

A rolling restart, and the loss of the nursery, need a process that has loaded everything and started nothing yet. The
supervisor becomes one by executing itself again: its process id stays, so its children stay its children, and what
``prctl`` had the kernel promise (who reaps, who dies with whom) stays too. Descriptors are kept open over it, and what
they mean stands in a file without a name (``memfd_create``), whose descriptor is the option ``--resume``.

Signals are held back from then until the new supervisor is ready for them (``signals_wanted``), or one that comes in
between would end it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
RESUME = "--resume"
ONLY_CHECK = -1
"""Of ``--resume``: load everything, find out whether this program would work, and end."""


@dataclass(frozen=True, slots=True)
class ChildState:
    """A forked process: its id, our end of its pipe, where it writes, and the beginning of a line that is not over."""

    pid: int
    pipe: int
    output: int
    rest: str = ""


@dataclass(frozen=True, slots=True)
class MemberState:
    """A worker, as ``crew.Member`` has it."""

    child: ChildState
    number: int
    slot: int
    port: int
    started_at: float
    ready_at: float | None
    condition: dict[str, Any] | None
    leaving: bool
    old: bool


@dataclass(frozen=True, slots=True)
class Handover:
    """
    All that a supervisor has.

    Attributes:
        members: its workers.
        values: what workers are given.
        redis: what ``EmbeddedRedis.hand_over`` returned; None if Redis is not its own.
        edge: what ``Edge.hand_over`` returned; None without one.
        simulator: the simulator's process; None without one.
        is_ready: it has said that it takes calls.
    """

    members: tuple[MemberState, ...]
    values: dict[str, Any]
    redis: str | None = None
    edge: str | None = None
    simulator: ChildState | None = None
    is_ready: bool = True


def program(resume: int) -> list[str]:
    """Return the command that this process was started with, to go on with ``resume``."""
    words = sys.orig_argv[1:]
    if RESUME in words:
        at = words.index(RESUME)
        words = [*words[:at], *words[at + 2 :]]
    return [sys.executable, *words, RESUME, str(resume)]


def become(state: Handover) -> NoReturn:
    """Execute this program again, which is to go on with what this process has."""
    memory = os.memfd_create("gateway-fleet")
    os.write(memory, json.dumps(asdict(state)).encode())
    children = [member.child for member in state.members] + ([state.simulator] if state.simulator else [])
    for descriptor in (memory, *(each for child in children for each in (child.pipe, child.output))):
        os.set_inheritable(descriptor, True)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    words = program(memory)
    os.execv(words[0], words)


def resumed(memory: int) -> Handover:
    """Return what the program before this one left; its descriptors are ours, and no child's, from here on."""
    with open(memory, "rb") as file:
        file.seek(0)
        state = json.loads(file.read())
    members = tuple(MemberState(**{**each, "child": _child(each["child"])}) for each in state.pop("members"))
    simulator = state.pop("simulator")
    return Handover(members=members, simulator=simulator and _child(simulator), **state)


def signals_wanted() -> None:
    """Let signals through that were held back."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _child(state: dict[str, Any]) -> ChildState:
    child = ChildState(**state)
    for descriptor in (child.pipe, child.output):
        os.set_inheritable(descriptor, False)
    return child
