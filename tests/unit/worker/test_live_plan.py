"""What is told of a plan, and how little a load disturbs."""

from __future__ import annotations

import gc
import json
import sys

import pytest

from gateway.store.record import MAX_TEXT, as_text
from gateway.worker.live_plan import GENTLE_SWITCH_S, TOLD_CHARACTERS, TOLD_MISTAKES, PlanState, _gently

pytestmark = pytest.mark.unit


def test_a_plan_in_force_is_current() -> None:
    assert PlanState("0123456789ab", 12.5, agents=2, routes=7).fields() == {
        "state": "current",
        "version": "0123456789ab",
        "loaded_at": 12.5,
        "agents": 2,
        "routes": 7,
        "failures": 0,
        "mistakes": "[]",
        "mistake_count": 0,
    }


@pytest.mark.parametrize("letter", ["a", "\u00e4", "\u20ac"])
def test_of_many_long_mistakes_the_first_are_told_and_the_number_of_all(letter: str) -> None:
    told = PlanState("v", 1.0, 1, 1, 3, tuple(f"{number}: {letter * 9000}" for number in range(500))).fields()
    assert (told["state"], told["failures"], told["mistake_count"]) == ("refused", 3, 500)
    mistakes = json.loads(as_text(told["mistakes"]))  # not cut into something that is no JSON
    assert len(mistakes) == TOLD_MISTAKES
    assert mistakes[7] == f"7: {letter * 9000}"[:TOLD_CHARACTERS]


@pytest.mark.parametrize("nasty", ['"', "\\", "\0", "\n", "\ud800"])
def test_mistakes_that_grow_in_json_are_told_as_far_as_there_is_room(nasty: str) -> None:
    told = PlanState("v", 1.0, 1, 1, 3, tuple(f"{number}{nasty * 9000}" for number in range(500))).fields()
    text = as_text(told["mistakes"])
    assert len(text) <= MAX_TEXT
    assert json.loads(text)[0].startswith("0")


def test_a_load_is_gentle_and_everything_is_as_before_after_it() -> None:
    before = (gc.isenabled(), sys.getswitchinterval())
    with _gently():
        assert not gc.isenabled()
        assert sys.getswitchinterval() == pytest.approx(GENTLE_SWITCH_S)
    assert (gc.isenabled(), sys.getswitchinterval()) == before
    with pytest.raises(KeyError), _gently():
        raise KeyError
    assert (gc.isenabled(), sys.getswitchinterval()) == before


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with _gently():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_a_load_made_is_old_for_the_collector() -> None:
    with _gently():
        made = [[number] for number in range(10_000)]
    assert len(made) > len(gc.get_objects(generation=0))
