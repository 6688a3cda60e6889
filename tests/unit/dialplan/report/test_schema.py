"""The schema that editors use, the reference, and the examples: all as the models are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from docs.generate.dialplan_reference import reference
from gateway.dialplan.model.fields import PlanPart
from gateway.dialplan.model.steps import PlanStep
from gateway.dialplan.read.loader import load_dialplan
from gateway.dialplan.report.cases import load_cases, run_case
from gateway.dialplan.report.schema import json_schema, schema_text

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[4]
EXAMPLES = sorted((ROOT / "dialplans").glob("*.yaml"))
CASES = sorted((ROOT / "dialplans" / "tests").glob("*.yaml"))


def problems(plain: Any) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(json_schema()).iter_errors(plain)]


def test_the_schema_beside_the_examples_is_that_of_the_models() -> None:
    assert (ROOT / "dialplans" / "schema.json").read_text() == schema_text(), (
        "gateway dialplan schema > dialplans/schema.json"
    )
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_fit_the_schema_they_name(path: Path) -> None:
    assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")
    assert problems(json.loads(json.dumps(yaml.safe_load(path.read_text()), default=str))) == []


AGENTS: dict[str, Any] = {"front": {"instructions": "x"}}


@pytest.mark.parametrize(
    ("plain", "fits"),
    [
        ({"agents": AGENTS, "routes": [{"name": "a", "match": {"to": 1000}, "agent": "front"}]}, True),
        ({"agents": AGENTS, "routes": [{"name": "a", "agent": "front", "on_failure": 503}], "x-mine": [1]}, True),
        (
            {
                "agents": {"b": {"extends": "front"}},
                "defaults": {"voice": "cedar"},
                "routes": [{"name": "a", "agent": "b"}],
            },
            True,
        ),
        ({"agents": AGENTS, "routes": [{"name": "a", "agent": "front", "match": {"too": "1"}}]}, False),
        ({"agents": AGENTS, "routes": [{"name": "a", "action": "reject"}]}, False),
        ({"agents": AGENTS, "routes": [{"name": "a", "action": "dial", "to": "sip:x@y", "agent": "front"}]}, False),
        ({"agents": AGENTS, "routes": [{"agent": "front"}]}, False),
        ({"agents": {"front": {"voise": "x"}}, "routes": [{"name": "a", "agent": "front"}]}, False),
        (
            {
                "agents": AGENTS,
                "routes": [{"name": "a", "action": "menu", "prompt": "a.wav", "keys": {"1": {"action": "x"}}}],
            },
            False,
        ),
        ({"agents": AGENTS, "routes": [{"name": "a", "agent": "front"}], "extra": 1}, False),
    ],
)
def test_the_schema_takes_what_the_loader_takes(plain: Any, fits: bool) -> None:
    assert (problems(plain) == []) is fits


def test_the_reference_in_the_docs_is_that_of_the_models() -> None:
    text = (ROOT / "docs" / "dialplan.md").read_text()
    assert text[text.index("### The file") :].strip() == reference().strip(), (
        'python -c "from docs.generate.dialplan_reference import reference; print(reference())"'
    )


def parts_of(kind: type[PlanPart] = PlanPart) -> list[type[PlanPart]]:
    """Return what plans are made of; bases that only others are made of are not among it."""
    found = [each for sub in kind.__subclasses__() for each in (sub, *parts_of(sub))]
    return [each for each in found if not each.__name__.startswith("_") and each is not PlanStep]


@pytest.mark.parametrize("kind", parts_of(), ids=lambda kind: str(kind.__name__))
def test_every_part_of_a_dialplan_stands_in_the_reference(kind: type[PlanPart]) -> None:
    first_line = (kind.__doc__ or "").strip().splitlines()[0]
    assert f"\n\n{first_line}\n\n" in reference()


def test_every_example_has_cases() -> None:
    assert [path.name for path in CASES] == [path.name for path in EXAMPLES]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_the_cases_of_the_examples_come_out_as_expected(path: Path) -> None:
    cases = load_cases(path)
    index = load_dialplan(path.parent / str(cases.plan)).index
    assert [outcome for case in cases.cases if (outcome := run_case(index, case, path.name)).problems] == []
    used = {case.expect.route for case in cases.cases}
    assert {rule.name for rule in index.plan.routes} <= used, "a route without a case"
