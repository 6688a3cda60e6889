from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from docs.generate import call_states as diagram
from docs.generate.call_states import call_states_markdown, try_event
from docs.generate.samples import SAMPLES, WAYS
from gateway.call import builtin_tools
from gateway.call.events import EVENTS, IncomingInvite
from gateway.call.machine.machine import CallMachine
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
    assert {type(event) for event in SAMPLES.values()} == {*EVENTS, *builtin_tools.EVENTS} - {IncomingInvite}


@pytest.mark.parametrize("phase", Phase)
def test_the_way_into_a_phase_ends_in_that_phase(phase: Phase) -> None:
    machine = CallMachine()
    for event in WAYS[phase]:
        machine.handle(event)
    assert machine.phase is phase


def test_an_event_that_cannot_happen_is_shown_as_illegal() -> None:
    cell = try_event(Phase.ROUTING, SAMPLES["MediaUp"])
    assert (cell.legal, cell.after, cell.actions) == (False, Phase.ROUTING, ())
