from __future__ import annotations

from pathlib import Path

import pytest

from gateway.dialplan.read.files import PlanFile
from gateway.errors import DialplanError
from gateway.web.shown_plan import PlanReader

pytestmark = pytest.mark.unit

PLAN = "agents:\n  a: {instructions: hello}\nroutes:\n  - {name: NAME, match: {to: '1'}, agent: a}\n"


def files(name: str) -> list[PlanFile]:
    return [PlanFile("plan.yaml", PLAN.replace("NAME", name).encode())]


def test_a_plan_knows_its_files_those_before_and_where_its_routes_stand() -> None:
    reader = PlanReader({})
    first = reader.load(files("one"), Path())
    assert (first.files, first.before) == (tuple(files("one")), ())
    assert [(place.file, place.line, dict(place.match)) for place in first.places] == [("plan.yaml", 4, {"to": 4})]
    second = reader.load(files("two"), Path())
    assert second.before == first.files
    with pytest.raises(DialplanError):
        reader.load([PlanFile("plan.yaml", b"routes: 1")], Path())
    assert reader.load(files("two"), Path()).before == first.files, "reading the same again is no change"
    assert reader.load(files("one"), Path()).before == second.files
