"""What a step says of itself, for those who know no kinds of steps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.dialplan.model.fields import PlanPath
from gateway.dialplan.model.steps import (
    STEPS,
    AgentStep,
    AnnounceStep,
    DialStep,
    HuntStep,
    MenuStep,
    PlanStep,
    RedirectStep,
    RejectStep,
)

pytestmark = pytest.mark.unit

BUSY = RejectStep(code=486, reason="{{ caller }}", announcement="busy.wav")
DESK = DialStep(to="sip:{{ called }}@pbx", trunk="main", headers={"X-A": "{{ caller }}"}, then=BUSY)
FRONT = AgentStep(agent="front", on_failure=DESK)
FREE = AgentStep(agent="front", on_failure=DialStep(to="sip:a@h"))
WHOLE: tuple[PlanStep, ...] = (
    FRONT,
    BUSY,
    RedirectStep(contacts=("sip:{{ called }}@new", "tel:+49")),
    DESK,
    MenuStep(prompt="menu.wav", keys={"1": FRONT, "2": BUSY}, otherwise=BUSY),
    MenuStep(say="Press 1, {{ caller }}.", agent="front", keys={"1": BUSY}),
    HuntStep(steps=(FREE, DESK)),
    AnnounceStep(files=("a.wav", "b.wav"), then=BUSY),
)
"""Steps of each kind, with all that they may hold."""


def leaves(value: object, path: PlanPath = ()) -> Iterator[tuple[PlanPath, object]]:
    """Yield what a step holds right inside it, each with its path."""
    if isinstance(value, PlanStep) and path:
        yield path, value
    elif isinstance(value, PlanStep):
        for name in type(value).model_fields:
            yield from leaves(getattr(value, name), (name,))
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from leaves(each, (*path, name))
    elif isinstance(value, tuple):
        for number, each in enumerate(value):
            yield from leaves(each, (*path, number))
    else:
        yield path, value


def test_there_is_a_step_of_each_kind() -> None:
    assert {step.action for step in WHOLE} == {*STEPS}


@pytest.mark.parametrize("step", WHOLE, ids=lambda step: step.summary())
def test_a_step_names_the_steps_sounds_and_templates_it_holds(step: PlanStep) -> None:
    held = list(leaves(step))
    assert [(branch.path, branch.step) for branch in step.inner()] == [
        (path, each) for path, each in held if isinstance(each, PlanStep)
    ]
    texts = [text for _, text in held if isinstance(text, str)]
    assert [text for _, text in step.sounds()] == [text for text in texts if text.endswith(".wav")]
    assert {text for _, text, _ in step.templates()} >= {text for text in texts if "{{" in text}
    assert step.named_agent == next((text for path, text in held if path == ("agent",)), None)
    assert step.named_trunk == next((text for path, text in held if path == ("trunk",)), None)


def test_a_step_and_all_inside_it_are_walked_with_their_paths() -> None:
    assert [(path, step.action) for path, step in HuntStep(steps=(FREE, DESK)).within()] == [
        ((), "hunt"),
        (("steps", 0), "agent"),
        (("steps", 0, "on_failure"), "dial"),
        (("steps", 1), "dial"),
        (("steps", 1, "then"), "reject"),
    ]


def test_what_ends_in_a_step_that_cannot_fail_cannot_fail() -> None:
    assert [step.can_fail for step in (BUSY, DESK, FRONT)] == [False, False, False]
    hunts = (HuntStep(steps=(FREE,)), HuntStep(steps=(FREE, BUSY)))
    assert [step.can_fail for step in (FREE, *hunts)] == [True, True, False]
