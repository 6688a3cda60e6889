"""What of the people in a call its notes keep."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.audio.pcm import PHONE
from gateway.dialplan.read.files import folder_of, read_files
from gateway.errors import DialplanError
from gateway.ids import CallId
from gateway.settings.privacy import PrivacySettings
from gateway.settings.sections import Settings
from gateway.worker.live_plan import PreparedPlan, load_plan
from gateway.worker.private_notes import REMEMBERED, PrivateNotes

pytestmark = pytest.mark.unit

PLAN = """\
agents:
  desk: {instructions: Be kind.}
routes:
  - {name: sales, match: {to: "1"}, agent: desk}
  - {name: support, match: {to: "2"}, agent: desk}
"""


def loaded(folder: Path, routes: dict[str, str], *, known: bool = True) -> PreparedPlan:
    path = folder / "plan.yaml"
    path.write_text(PLAN)
    settings = Settings.model_validate({"privacy": {"routes": routes}})
    return load_plan(read_files(path), folder_of(path), settings, PHONE, is_named_known=known)


def test_a_route_that_the_plan_does_not_have_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(DialplanError) as caught:
        loaded(tmp_path, {"sale": "counts", "support": "counts"})
    (mistake,) = caught.value.mistakes
    assert mistake.problem == (
        "privacy.routes names the route 'sale', which the plan does not have: did you mean 'sales'?"
    )


def test_for_who_looks_at_a_plan_alone_it_is_a_remark(tmp_path: Path) -> None:
    (remark,) = loaded(tmp_path, {"sale": "counts"}, known=False).remarks
    assert "'sale'" in str(remark)
    assert not loaded(tmp_path, {"sales": "counts"}).remarks


def test_a_late_note_of_a_call_long_ago_is_treated_as_the_strictest_mode_says() -> None:
    notes = PrivateNotes(PrivacySettings(mode="shortened", routes={"sales": "counts", "support": "full"}))
    call = CallId("c0")
    assert notes.mode(call, {"created_at": 1.0, "route": "support"}) == "full"
    assert notes.mode(call, {"state": "active"}) == "full"
    for number in range(1, REMEMBERED + 1):
        assert notes.mode(CallId(f"c{number}"), {"created_at": 1.0}) == "shortened"
    assert notes.mode(call, {"state": "ended"}) == "counts"
