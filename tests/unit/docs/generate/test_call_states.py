from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from docs.generate import call_states as diagram
from docs.generate.call_states import (
    CALLS,
    SEED,
    Arrows,
    between_phases,
    call_states_markdown,
    inside,
    try_event,
)
from docs.generate.samples import SAMPLES, WAYS
from docs.generate.walks import walked
from gateway.call import builtin_tools, commands
from gateway.call.events import EVENTS, IncomingInvite
from gateway.call.machine.machine import IGNORED, RULES, CallMachine
from gateway.call.machine.phase import Phase

pytestmark = pytest.mark.unit

PAGE = Path(__file__).parents[4] / "docs" / "call-states.md"


def test_the_page_in_docs_is_what_the_table_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == call_states_markdown(), (
        "stale: python -m docs.generate.call_states > docs/call-states.md"
    )


def test_run_as_a_module_it_prints_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(diagram.__file__, run_name="__main__")
    assert capsys.readouterr().out == call_states_markdown()


def test_every_event_is_tried_but_the_switchboards_own() -> None:
    assert {type(event) for event in SAMPLES.values()} == {*EVENTS, *builtin_tools.EVENTS, *commands.EVENTS} - {
        IncomingInvite
    }


@pytest.mark.parametrize("phase", Phase)
def test_the_way_into_a_phase_ends_in_that_phase(phase: Phase) -> None:
    machine = CallMachine()
    for event in WAYS[phase]:
        machine.handle(event)
    assert machine.phase is phase


def drawn(section: str, title: str) -> Arrows:
    """Return the arrows of the picture under this title of the page."""
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(f"\n{section} {title}\n")
    picture = rest.partition("```mermaid")[2].partition("```")[0]
    arrows = re.findall(r"^    (\w+) --> (\w+) : (.*)$", picture, re.MULTILINE)
    assert len(arrows) == picture.count("-->")
    return {(before, after): set(events.split("<br/>")) for before, after, events in arrows}


def test_every_edge_that_was_walked_is_drawn_and_every_drawn_edge_was_walked() -> None:
    edges = walked(CALLS, SEED)
    assert drawn("##", "The phases") == between_phases(edges)
    inner = {phase: inside(phase, edges) for phase in Phase if len(inside(phase, edges)) > 1}
    assert {phase: drawn("###", phase) for phase in inner} == inner
    # Each phase is entered, and left but for the last.
    assert {after for _, after in between_phases(edges)} == set(Phase) - {Phase.ROUTING}
    assert {before for before, _ in between_phases(edges)} == set(Phase) - {Phase.ENDED}


def test_every_rule_of_the_table_is_walked() -> None:
    walked_keys = {(edge.before[0], edge.event) for edge in walked(CALLS, SEED)}
    rules = {
        (phase, f"TimerFired {key}" if isinstance(key, str) else key.__name__)
        for (phase, key), rule in RULES.items()
        if rule is not IGNORED
    }
    assert rules - walked_keys == set()


def test_an_event_that_cannot_happen_is_shown_as_illegal() -> None:
    cell = try_event(Phase.ROUTING, SAMPLES["MediaUp"])
    assert (cell.legal, cell.after, cell.actions) == (False, Phase.ROUTING, ())
