"""
Prints ``docs/call-states.md``: ``python -m docs.generate.call_states``.

Nothing in the page is written by hand that the machine can tell itself. What may happen when is its table; the edges
are those that random calls take (``walks.py``), all of them; the orders come of showing it an event.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from docs.generate.samples import SAMPLES, WAYS
from docs.generate.scenes import STEPS, TURNS, Told
from docs.generate.walks import Edge, walked
from gateway.call import actions as do
from gateway.call import events as ev
from gateway.call.machine.machine import IGNORED, RULES, CallMachine
from gateway.call.machine.phase import ENDING_LIMIT_S, CallStage, Phase
from gateway.errors import IllegalEvent

CALLS, SEED = 45_000, 2
"""The random calls that the edges are drawn from."""

_HEAD = f"""\
# The states of a call

<!-- Printed by `python -m docs.generate.call_states`. Change the machine, then print it anew. -->

A call is driven by events (what happened) and answers with orders (what to do). Every ending passes one door:
the agent is closed if it was opened, running timers are cancelled, speech and sounds that still wait are dropped, and
the SIP side is hung up unless it is closed already, a second leg with it. Then the call waits in `ending` for the SIP
side's `LegClosed`, {ENDING_LIMIT_S:g} s at the most.
The first cause of an ending is the one recorded. `HangUp(code)` is a final response before the answer, a BYE after it.

| Phase | Means |
|---|---|
| routing | the INVITE has arrived, the dialplan decides |
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

_EDGES = f"""\
Drawn from {CALLS} random calls: each arrow was taken, with each event that is written at it, and no other was.
`TimerFired` has the name of its timer. Events that leave the call in its phase are in the tables below.
"""

_STAGES = """\
What the call waits for inside its phase. The first picture shows which events lead out of the phase.

| CallStage | Waits until |
|---|---|
| choosing | the agent that a step names is made; also while `routing` |
| early | the caller hears us before the answer (183) |
| media | the answered call has audio |
| playing | the sounds were heard |
| key | a key of the menu is pressed |
| freeing | the second leg before is over |
| calling | the second leg answers |
| referred | the far end says what became of the REFER |
| last_words | the agent's words were heard; then the caller is transferred |
| briefing | the target of a warm transfer takes the call or declines |
| goodbye | the agent's words were heard; then the call ends |
| summoning | a person who is to take the call over answers; caller and agent talk meanwhile |
| taken_over | that person leaves, or gives the call back |
| none | nothing of that: caller and agent talk |
"""

_LEGEND = """\
*illegal*: cannot happen; it is logged and counted as a fault, and the call goes on as it was.
*ignored*: may come, and the call does not change; speech and transcripts still go into the call's history.
*stays*, *to ...*: there is a rule, and random calls showed what becomes of the phase. A timer that is not running any
more is ignored wherever timers may run.
"""

_ORDERS = """\
One call in each phase is shown every event, in each form that the machine tells apart; what orders nothing is left out.
`attending` is a menu whose prompt is being played, `joined` a blind transfer over a second leg.
"""

_TURNS = """\
Each table is one call that is `active`, one event after the other.
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
    actions: tuple[do.CallAction, ...]
    legal: bool = True


def try_event(phase: Phase, event: ev.CallEvent) -> Cell:
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
    edges = walked(CALLS, SEED)
    parts = [_HEAD, "## The phases\n", _EDGES, _mermaid(between_phases(edges))]
    parts += ["## Stages inside a phase\n", _STAGES]
    for phase in (Phase.ATTENDING, Phase.ACTIVE):
        parts += [f"### {phase}\n", _mermaid(inside(phase, edges))]
    parts += ["## Every event in every phase\n", _LEGEND, _overview(edges), "## What is ordered\n", _ORDERS]
    parts += [block for phase in Phase for block in _orders(phase)]
    parts += ["## Turns of a conversation\n", _TURNS]
    parts += [block for title, call in TURNS.items() for block in _turn(title, *call)]
    parts += ["## Steps of a dialplan\n", _STEPS]
    parts += [block for title, call in STEPS.items() for block in _turn(title, *call)]
    return "\n".join(parts)


Arrows = Mapping[tuple[str, str], set[str]]
"""From where, to where -> the events that lead there."""


def between_phases(edges: Iterable[Edge]) -> Arrows:
    """Return the arrows between phases."""
    return _arrows((e.before[0], e.event, e.after[0]) for e in edges)


def inside(phase: Phase, edges: Iterable[Edge]) -> Arrows:
    """Return the arrows between the stages of a phase."""
    within = (e for e in edges if e.before[0] is e.after[0] is phase)
    return _arrows((e.before[1], e.event, e.after[1]) for e in within)


def _arrows(edges: Iterable[tuple[str, str, str]]) -> Arrows:
    arrows: dict[tuple[str, str], set[str]] = {}
    for before, event, after in edges:
        if before != after:
            arrows.setdefault((before, after), set()).add(event)
    return arrows


def _mermaid(arrows: Arrows) -> str:
    lines = ["```mermaid", "stateDiagram-v2"]
    order = [*Phase, *CallStage]
    for before, after in sorted(arrows, key=lambda arrow: (order.index(arrow[0]), order.index(arrow[1]))):
        lines.append(f"    {before} --> {after} : {'<br/>'.join(sorted(arrows[before, after]))}")
    return "\n".join([*lines, "```", ""])


def _overview(edges: Iterable[Edge]) -> str:
    reached: dict[tuple[Phase, str], set[Phase]] = {}
    for edge in edges:
        reached.setdefault((edge.before[0], edge.event), set()).add(edge.after[0])
    lines = ["| Event | " + " | ".join(Phase) + " |", "|---" * (len(Phase) + 1) + "|"]
    keys = dict.fromkeys(key for _, key in RULES)
    for key in sorted(keys, key=lambda key: (isinstance(key, str), key if isinstance(key, str) else key.__name__)):
        name = f"{ev.TimerFired.__name__} {key}" if isinstance(key, str) else key.__name__
        cells = [_in_short(phase, key, reached.get((phase, name), set())) for phase in Phase]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _in_short(phase: Phase, key: type[ev.CallEvent] | str, reached: set[Phase]) -> str:
    rule = RULES.get((phase, key))
    if rule is None:
        return "" if isinstance(key, str) else "*illegal*"
    if rule is IGNORED:
        return "*ignored*"
    others = [str(other) for other in Phase if other in reached and other is not phase]
    return ", ".join((["stays"] if phase in reached else []) + ([f"to {' or '.join(others)}"] if others else []))


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


def _turn(title: str, way: tuple[ev.CallEvent, ...], events: tuple[Told, ...]) -> Iterator[str]:
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


def _order(phase: Phase, action: do.CallAction) -> str:
    name = type(action).__name__
    match action:
        case do.StartTimer(name=timer) | do.CancelTimer(name=timer):
            return f"{name}({timer})"
        case do.AnswerTool(output=output, respond=respond):
            return f"{name}({output!r}{'' if respond else ', silent'})"
        case do.TellAgent(text=text, respond=respond):
            return f"{name}({text.partition(',')[0]!r}{'' if respond else ', silent'})"
        case do.ChooseAgent(step=step):
            return f"{name}({step.agent})"
        case do.Play(sounds=sounds):
            return f"{name}({', '.join(sounds)})"
        case do.Note(name=note, fields=fields):
            return f"{name}({note} {fields.get('action', '')})"
        case do.HangUp(code=code):
            return f"{name}({code})"
        case do.Finish() | do.AnswerCommand():
            return f"{name}({_end(phase, action)})"
        case _:
            return name


def _end(phase: Phase, action: do.Finish | do.AnswerCommand) -> str:
    """Return how a call ended, or what a command came to."""
    if isinstance(action, do.AnswerCommand):
        return ": ".join(filter(None, ("done" if action.done else "refused", action.detail)))
    return "first cause" if phase is Phase.ENDING else str(action.outcome.reason)


if __name__ == "__main__":
    sys.stdout.write(call_states_markdown())
