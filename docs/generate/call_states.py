"""
Prints ``docs/call-states.md`` by trying every event in every phase: ``python -m docs.generate.call_states``.

Nothing in the page is written by hand that the machine can tell itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from docs.generate.samples import SAMPLES, WAYS
from docs.generate.scenes import STEPS, TURNS, Told
from gateway.call.actions import (
    AnswerTool,
    CallAction,
    CancelTimer,
    ChooseAgent,
    Finish,
    HangUp,
    Note,
    Play,
    StartTimer,
    TellAgent,
)
from gateway.call.events import CallEvent
from gateway.call.machine.machine import CallMachine
from gateway.call.machine.phase import ENDING_LIMIT_S, Phase
from gateway.errors import IllegalEvent

_HEAD = f"""\
# The states of a call

<!-- Printed by `python -m docs.generate.call_states`. Change the machine or the talk, then print it anew. -->

A call is driven by events (what happened) and answers with orders (what to do). Every ending passes one door:
the agent is closed if it was opened, running timers are cancelled, speech and sounds that still wait are dropped, and
the SIP side is hung up unless it is closed already, a second leg with it. Then the call waits in `ending` for the SIP
side's `LegClosed`, {ENDING_LIMIT_S:g} s at the most.
The first cause of an ending stands. `HangUp(code)` is a final response before the answer, a BYE after it.

| Phase | Means |
|---|---|
| routing | the INVITE is here, the dialplan is asked |
| attending | steps of the dialplan are taken: sounds, menus, somebody else is called; answered or not |
| ringing | 180 went out, the agent's session is being opened |
| answering | the agent is ready, 200 OK is on its way, or goes out when the caller has rung long enough |
| preparing | we are to place a call, the agent's session is being opened |
| dialing | the agent is ready, the far end is being called |
| waiting | the caller was answered before, the agent's session is being opened |
| active | caller and agent hear each other |
| joined | the caller talks with the second leg, without an agent |
| ending | the end is decided, the SIP dialog is not over yet |
| ended | everything the call held is released |
"""

_LEGEND = """\
*ignored*: may come, and the call does not change; speech and transcripts still go into the call's history.
*illegal*: cannot happen; it is logged and counted as a fault, and the call goes on as it was.
"""

_TALK = """\
What a call holds beside its phase: speech that is held, last words that are being heard, transfers, keys, tools, the
filler. Each table is one call that is `active`, one event after the other.
"""


_STEPS = """\
Each table is one call that came in, from the dialplan's decision on. What a step needs comes first: a sound waits for
the media, and the media for the answer; an agent for its session. A step that fails is followed by the one that the
dialplan has for that (`otherwise`), else the call ends.
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """
    What one event does in one phase.

    Attributes:
        after: the phase from then on.
        actions: the orders; empty for an event that is ignored or illegal.
        legal: False when the machine refuses the event.
    """

    after: Phase
    actions: tuple[CallAction, ...]
    legal: bool = True


def try_event(phase: Phase, event: CallEvent) -> Cell:
    """Bring a fresh machine into ``phase`` and show it ``event``."""
    machine = CallMachine()
    for step in WAYS[phase]:
        machine.handle(step)
    try:
        actions = machine.handle(event)
    except IllegalEvent:
        return Cell(phase, (), legal=False)
    return Cell(machine.phase, actions)


def call_states_markdown() -> str:
    """Return the whole page ``docs/call-states.md``."""
    parts = [_HEAD, "## The phases\n", _mermaid(), "## Every event in every phase\n", _LEGEND, _overview()]
    parts.append("## What is ordered\n")
    parts += [block for phase in Phase for block in _orders(phase)]
    parts += ["## Turns of a talk\n", _TALK]
    parts += [block for title, call in TURNS.items() for block in _turn(title, *call)]
    parts += ["## Steps of a dialplan\n", _STEPS]
    parts += [block for title, call in STEPS.items() for block in _turn(title, *call)]
    return "\n".join(parts)


def _mermaid() -> str:
    edges: dict[tuple[Phase, Phase], list[str]] = {}
    for label, event in SAMPLES.items():
        for phase in Phase:
            cell = try_event(phase, event)
            if cell.actions:
                edges.setdefault((phase, cell.after), []).append(label.replace(", ", " "))
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {Phase.ROUTING}"]
    lines += [
        f"    {before} --> {after} : {'<br/>'.join(labels)}"
        for (before, after), labels in sorted(edges.items(), key=_in_order_of_phases)
    ]
    return "\n".join([*lines, f"    {Phase.ENDED} --> [*]", "```", ""])


def _in_order_of_phases(edge: tuple[tuple[Phase, Phase], list[str]]) -> tuple[int, int]:
    order = list(Phase)
    return order.index(edge[0][0]), order.index(edge[0][1])


def _overview() -> str:
    lines = ["| Event | " + " | ".join(Phase) + " |", "|---" * (len(Phase) + 1) + "|"]
    for label, event in SAMPLES.items():
        cells = [_in_short(phase, try_event(phase, event)) for phase in Phase]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _in_short(phase: Phase, cell: Cell) -> str:
    if not cell.legal:
        return "*illegal*"
    if not cell.actions:
        return "*ignored*"
    return "orders" if cell.after is phase else f"to {cell.after}"


def _orders(phase: Phase) -> Iterator[str]:
    rows = [(label, try_event(phase, event)) for label, event in SAMPLES.items()]
    rows = [(label, cell) for label, cell in rows if cell.actions]
    yield f"### {phase}\n"
    if not rows:
        yield "Nothing any more.\n"
        return
    yield "| Event | Orders | Phase then |\n|---|---|---|"
    for label, cell in rows:
        yield f"| {label} | {', '.join(_order(phase, action) for action in cell.actions)} | {cell.after} |"
    yield ""


def _turn(title: str, way: tuple[CallEvent, ...], events: tuple[Told, ...]) -> Iterator[str]:
    machine = CallMachine()
    for step in way:
        machine.handle(step)
    yield f"### {title}\n"
    yield "| Event | Orders | Phase then |\n|---|---|---|"
    for told in events:
        label, event = (told, SAMPLES[told]) if isinstance(told, str) else told
        actions = machine.handle(event)
        orders = ", ".join(_order(Phase.ACTIVE, action) for action in actions) or "*none*"
        yield f"| {label} | {orders} | {machine.phase} |"
    yield ""


def _order(phase: Phase, action: CallAction) -> str:
    name = type(action).__name__
    match action:
        case StartTimer(name=timer) | CancelTimer(name=timer):
            return f"{name}({timer})"
        case AnswerTool(output=output, respond=respond):
            return f"{name}({output!r}{'' if respond else ', silent'})"
        case TellAgent(text=text, respond=respond):
            return f"{name}({text.partition(',')[0]!r}{'' if respond else ', silent'})"
        case ChooseAgent(step=step):
            return f"{name}({step.agent})"
        case Play(sounds=sounds):
            return f"{name}({', '.join(sounds)})"
        case Note(name=note, fields=fields):
            return f"{name}({note} {fields.get('action', '')})"
        case HangUp(code=code):
            return f"{name}({code})"
        case Finish() if phase is Phase.ENDING:
            return f"{name}(first cause)"
        case Finish(outcome=outcome):
            return f"{name}({outcome.reason})"
        case _:
            return name


if __name__ == "__main__":
    sys.stdout.write(call_states_markdown())
